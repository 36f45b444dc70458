//! The self-check, and each group against our own server, where the binaries are there.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the helpers belong to tests as well")]

use std::io::Write;

use conformance::report;
use conformance::run::{Selection, Subject, run};
use conformance::self_check::self_check;
use testkit::{Groundswell, PocketBase};

#[test]
fn the_reference_agrees_with_itself_and_no_broken_answer_passes() {
    if skipped(PocketBase::binary()) {
        return;
    }
    // It tries the runner, not our server: some of the scenarios do, and all of them now and then.
    let every = if std::env::var_os("SOAK").is_some() { 1 } else { 4 };
    let check = self_check(&Selection { every: Some(every), ..Selection::default() }).unwrap();
    assert!(report::passed(&check.clean), "{}", printed(&check.clean));
    assert!(check.wrong.is_empty(), "{:#?}", check.wrong);
}

macro_rules! group_tests {
    ($($group:ident),*) => {
        $(
            #[test]
            fn $group() {
                conforms(stringify!($group));
            }
        )*
    };
}

group_tests!(general, collections, records, filters, rules, auth, views, files, batch, realtime, limits);

fn conforms(group: &str) {
    if skipped(PocketBase::binary()) || skipped(Groundswell::binary()) {
        return;
    }
    let selection = Selection { group: Some(group.to_owned()), ..Selection::default() };
    let outcomes = run(&selection, Subject::Groundswell).unwrap();
    let report = printed(&outcomes);
    assert!(report::passed(&outcomes), "{report}");
    println!("{report}");
}

fn printed(outcomes: &[conformance::run::Outcome]) -> String {
    let mut text = Vec::new();
    report::print(outcomes, false, &mut text).unwrap();
    text.flush().unwrap();
    String::from_utf8(text).unwrap()
}

/// Says why and returns true when a server is missing, which a CI run does not accept.
fn skipped(binary: anyhow::Result<std::path::PathBuf>) -> bool {
    let Err(missing) = binary else { return false };
    assert!(!testkit::is_ci(), "{missing}");
    println!("skipped: {missing}");
    true
}
