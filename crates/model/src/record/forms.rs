//! The checks of an auth record's body that come before and instead of the checks of its fields
//! (CONTRACT §5.11).

use super::Record;
use super::resolve::Resolved;
use crate::errors::{FieldError, FieldErrors};

/// What the checks found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FormFindings {
    /// What is wrong; when anything is, the fields are not checked.
    pub errors: FieldErrors,
    /// A password that must be the stored one: if it is not, [`invalid_old_password`] is added.
    pub old_password: Option<OldPasswordCheck>,
}

/// A comparison with the stored hash, which is slow and so is done elsewhere.
#[derive(Clone, PartialEq)]
pub struct OldPasswordCheck {
    /// What the client says is the password.
    pub plain: String,
}

/// The error of `oldPassword` when it is not the stored password.
pub fn invalid_old_password() -> FieldErrors {
    let error = FieldError::new("validation_invalid_old_password", "Missing or invalid old password.");
    FieldErrors::one("oldPassword", error)
}

/// Checks password confirmation, and that what only a manager may change is unchanged. A manager is a
/// superuser or whom the manage rule allows. Finds nothing in other collections.
pub fn check(resolved: &Resolved, old: Option<&Record>, is_manager: bool) -> FormFindings {
    let mut findings = FormFindings::default();
    if !resolved.record.collection.is_auth() {
        return findings;
    }
    let is_new = old.is_none();
    if !is_manager {
        check_managed(resolved, old, &mut findings.errors);
    }
    check_passwords(resolved, is_new, &mut findings.errors);

    let input = &resolved.auth;
    let changes_password = !input.password.is_empty() || !input.password_confirm.is_empty();
    if !is_new && !is_manager && changes_password {
        if input.old_password.is_empty() {
            findings.errors.add("oldPassword", FieldError::required());
        } else {
            findings.old_password = Some(OldPasswordCheck { plain: input.old_password.clone() });
        }
    }
    findings
}

/// `email` may be given once; `verified` never.
fn check_managed(resolved: &Resolved, old: Option<&Record>, errors: &mut FieldErrors) {
    let record = &resolved.record;
    if old.is_some_and(|old| old.get("email").as_str() != record.get("email").as_str()) {
        errors.add("email", FieldError::values_mismatch());
    }
    let was_verified = old.is_some_and(|old| old.get("verified").as_bool());
    if record.get("verified").as_bool() != was_verified {
        errors.add("verified", FieldError::values_mismatch());
    }
}

fn check_passwords(resolved: &Resolved, is_new: bool, errors: &mut FieldErrors) {
    let input = &resolved.auth;
    let (password, confirm) = (input.password.as_str(), input.password_confirm.as_str());
    let has_old = !input.old_password.is_empty();
    if password.is_empty() && (is_new || !confirm.is_empty() || has_old) {
        errors.add("password", FieldError::required());
    }
    if confirm.is_empty() && (is_new || !password.is_empty() || has_old) {
        errors.add("passwordConfirm", FieldError::required());
    } else if confirm != password {
        errors.add("passwordConfirm", FieldError::values_mismatch());
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for OldPasswordCheck {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OldPasswordCheck").finish_non_exhaustive()
    }
}
