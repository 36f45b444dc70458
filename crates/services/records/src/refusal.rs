//! From why a step was refused to the contract's answer (CONTRACT §4.1).

use kit::error::ApiError;
use model::collection::Collection;
use model::context::Caller;
use model::record::Record;
use model::schema::RuleKind;
use model::step::{StepResult, Why};

/// 403 for a rule that only superusers pass, before anything else is looked at.
pub(crate) fn check_unlocked(
    caller: &Caller,
    collection: &Collection,
    kind: RuleKind,
) -> Result<(), ApiError> {
    let is_locked = kind.text(collection).is_none() && !caller.is_superuser();
    if is_locked { Err(ApiError::superusers_only()) } else { Ok(()) }
}

/// The record that a batch of one step left.
pub(crate) fn record_of(results: Vec<StepResult>) -> Result<Record, ApiError> {
    match results.into_iter().next() {
        Some(StepResult::Record(record)) => Ok(record),
        _ => Err(ApiError::internal()),
    }
}

pub(crate) fn of_create(why: Why) -> ApiError {
    const MESSAGE: &str = "Failed to create record.";
    match why {
        Why::NotFound => ApiError::missing_or_invalid_collection(),
        Why::Fields(errors) => ApiError::bad_request_with(MESSAGE).with_fields(errors),
        _ => ApiError::bad_request_with(MESSAGE),
    }
}

pub(crate) fn of_update(why: Why) -> ApiError {
    const MESSAGE: &str = "Failed to update record.";
    match why {
        Why::NotFound | Why::RuleDenied => ApiError::not_found(),
        Why::Fields(errors) => ApiError::bad_request_with(MESSAGE).with_fields(errors),
        _ => ApiError::bad_request_with(MESSAGE),
    }
}

pub(crate) fn of_delete(why: Why) -> ApiError {
    match why {
        Why::NotFound | Why::RuleDenied => ApiError::not_found(),
        Why::LastSuperuser => ApiError::bad_request_with("You can't delete the only existing superuser."),
        _ => ApiError::bad_request_with(
            "Failed to delete record. Make sure that the record is not part of a required relation reference.",
        ),
    }
}
