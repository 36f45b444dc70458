//! What every adapter of the store must do: [`contract::store::Store`] as cases whose names are the
//! claims. [`store_suite!`](crate::store_suite) makes a test of each, on one adapter.
//!
//! A case gets a [`Stage`]: a fresh store, with words for what cases do to it. It sees of the store what
//! a service sees; where a table lies and what is written into it is no case's business.

#![allow(missing_docs, reason = "the names of the cases are the claims")]
#![allow(clippy::unwrap_used, reason = "a case that panics has failed")]

pub mod batches;
pub mod deletes;
pub mod hooks;
pub mod jobs;
pub mod lists;
pub mod outbox;
pub mod reads;
pub mod rules;
pub mod schema;
pub mod secrets;
pub(crate) mod stage;
pub mod uploads;
pub mod values;
pub mod views;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use contract::hooks::HookStore;
use contract::jobs::JobStore;
use contract::secrets::SecretStore;
use contract::store::{CommitObserver, Store};

pub use stage::Stage;

/// How a case wants its store opened; the rest is the adapter's to choose.
pub struct StoreOptions {
    /// How long a read may run.
    pub read_deadline: Duration,
    /// Who is told of commits.
    pub observers: Vec<Arc<dyn CommitObserver>>,
}

/// A store with nothing in it but what a fresh install holds.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The jobs that it keeps.
    pub jobs: Arc<dyn JobStore>,
    /// The webhooks that it keeps.
    pub hooks: Arc<dyn HookStore>,
    /// The secrets that it keeps.
    pub secrets: Arc<dyn SecretStore>,
    /// What must live as long as it does.
    pub keep: Box<dyn Any>,
}

/// Makes a test of every case of the suite. `$open` names an `async fn(StoreOptions) -> Opened` of the
/// adapter. With `unless`, a function says whether the server that it needs is missing here, and says so to
/// who runs the tests.
#[macro_export]
macro_rules! store_suite {
    ($open:ident) => {
        $crate::store_suite! { $open unless $crate::store_suite::nothing_is_missing }
    };
    ($open:ident unless $is_missing:path) => {
        $crate::store_suite! { $open, $is_missing, batches:
            a_batch_happens_whole_or_not_at_all
            a_step_sees_what_those_before_it_wrote
            concurrent_modifiers_all_count
            a_value_taken_twice_is_an_error_of_every_field_of_the_index
            a_relation_to_a_missing_record_is_an_error_of_its_field
            a_change_for_an_old_password_that_is_no_longer_the_password_is_refused
            a_password_hash_is_replaced_only_while_it_is_the_one_that_was_verified
            a_change_of_settings_that_are_no_longer_current_is_refused
            a_batch_may_change_the_settings_more_than_once
            an_upsert_changes_what_is_there_and_makes_what_is_not
            a_batch_past_its_deadline_is_not_carried_out
            observers_know_of_a_changed_sign_in_before_it_is_acknowledged
        }
        $crate::store_suite! { $open, $is_missing, uploads:
            a_write_takes_the_notes_of_the_files_that_it_names
            a_file_without_a_note_is_named_by_no_write
            a_refused_write_leaves_the_notes
            a_file_that_was_given_up_is_named_by_no_write
            only_old_notes_are_stale
        }
        $crate::store_suite! { $open, $is_missing, rules:
            a_create_rule_denies_what_it_does_not_allow
            a_create_rule_may_ask_for_other_records
            an_update_rule_judges_the_stored_record
            a_rule_holds_against_writes_at_the_same_time
            a_delete_rule_may_ask_for_records_that_point_back
            a_rule_that_is_denied_says_nothing_of_the_values
        }
        $crate::store_suite! { $open, $is_missing, lists:
            any_of_several_relations_may_fit_a_sign_with_a_question_mark
            all_of_several_relations_must_fit_a_sign_without
            two_conditions_on_one_path_speak_of_the_same_record
            records_that_point_back_can_be_asked
            text_is_found_inside_of_text_whatever_its_case
            a_word_is_found_among_many_texts_as_they_are_by_now
            empty_and_unset_are_the_same
            pages_are_cut_from_one_order_and_counted_whole
            text_is_sorted_by_its_bytes_and_numbers_by_value
            records_come_in_the_order_in_which_they_were_made
            equal_records_come_newest_first_where_an_index_is_read_backwards
        }
        $crate::store_suite! { $open, $is_missing, reads:
            a_record_is_there_only_if_the_conditions_hold
            several_records_are_found_by_id
            records_that_refer_to_one_are_found
            a_row_is_judged_as_it_is_given
            a_record_is_found_by_a_value
            a_read_sees_every_write_that_was_acknowledged_before
            a_read_past_its_deadline_is_stopped
            a_closed_store_refuses_writes
        }
        $crate::store_suite! { $open, $is_missing, values:
            values_come_back_as_they_were_answered
            json_comes_back_in_its_exact_form
        }
        $crate::store_suite! { $open, $is_missing, deletes:
            a_delete_takes_along_what_must_go_with_it
            a_delete_empties_relations_that_may_be_empty
            a_delete_is_refused_where_a_relation_must_not_be_empty
            the_last_superuser_stays
            an_emptied_collection_takes_along_what_must_go_with_it
        }
        $crate::store_suite! { $open, $is_missing, schema:
            a_new_field_is_empty_in_the_records_that_are_there
            a_renamed_field_keeps_its_values
            a_dropped_field_takes_its_values_along
            a_relation_that_becomes_multiple_keeps_its_record
            a_unique_index_over_equal_values_is_refused
            a_renamed_collection_keeps_its_records
            a_dropped_collection_is_gone
            a_change_of_an_older_schema_is_refused
            a_query_of_an_older_schema_is_refused
        }
        $crate::store_suite! { $open, $is_missing, views:
            a_view_has_the_records_of_its_query
            ids_of_a_view_are_texts
            an_id_that_a_view_has_twice_counts_once
            fields_of_a_view_follow_its_sources
            what_a_view_is_made_of_stays
            a_query_that_does_more_than_read_is_refused
            a_view_with_empty_or_equal_ids_is_refused
            trying_a_view_keeps_nothing
            passwords_and_token_keys_are_in_no_view
            a_query_without_an_end_is_refused_while_others_write
            a_view_without_an_end_is_stopped_when_it_is_read
            a_view_that_no_longer_fits_has_no_answer
        }
        $crate::store_suite! { $open, $is_missing, secrets:
            a_secret_is_replaced_only_as_it_was_known
            nobody_is_told_of_a_secret
        }
        $crate::store_suite! { $open, $is_missing, outbox:
            a_consumer_gets_every_change_in_order
            a_batch_has_its_events_together_and_a_refused_one_has_none
            a_delete_has_an_event_for_all_that_went
            secrets_are_in_no_event
            acknowledged_events_are_gone
            a_consumer_gets_what_it_wants_and_goes_past_the_rest
            a_change_that_nobody_wants_leaves_no_event
            a_known_consumer_keeps_its_place_and_gets_the_new_interest
            a_forgotten_consumer_begins_anew
            a_consumer_may_read_ahead_of_what_it_acknowledged
            a_delivery_holds_whole_batches
            a_batch_that_is_too_large_is_split
            observers_know_the_newest_event
        }
        $crate::store_suite! { $open, $is_missing, jobs:
            a_job_is_left_with_its_batch_or_not_at_all
            a_claimed_job_is_nobody_elses_until_the_lease_ends
            jobs_come_when_they_are_due_and_in_that_order
            a_job_that_is_done_is_gone
            a_job_that_failed_comes_again_when_it_is_due
            a_dead_job_is_kept_and_can_be_replayed_or_forgotten
            an_attempt_whose_lease_ended_ends_nothing
            queues_are_apart_and_counted
            observers_know_of_jobs
            an_attempt_is_logged_with_its_end
            an_attempt_that_ends_nothing_is_not_logged
            a_note_that_is_too_long_is_not_kept
            a_log_holds_the_newest_attempts_of_its_queue
            dead_jobs_of_one_queue_are_found
            all_dead_jobs_of_a_queue_can_be_replayed
            a_queue_that_is_cleared_has_no_jobs_and_no_log
        }
        $crate::store_suite! { $open, $is_missing, hooks:
            webhooks_are_kept_by_name
            a_webhook_is_replaced_only_as_it_was_known
            no_more_webhooks_are_kept_than_may_be
            nobody_is_told_of_a_webhook
        }
    };
    ($open:ident, $is_missing:path, $module:ident: $($case:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $case() {
                    if $is_missing() {
                        return;
                    }
                    $crate::store_suite::run(super::$open, $crate::store_suite::$module::$case);
                }
            )*
        }
    };
}

/// For adapters that need no server.
pub fn nothing_is_missing() -> bool {
    false
}

/// Runs one case on a fresh store.
pub fn run<C: Future<Output = ()>>(
    open: impl AsyncFnOnce(StoreOptions) -> Opened,
    case: impl FnOnce(Stage) -> C,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        case(Stage::set(open).await).await;
    });
}
