//! `superuser`: accounts that may do everything, from the command line.

use std::io::{self, BufRead};
use std::process::ExitCode;

use anyhow::{Context, bail};
use store::sqlite;

use crate::cli::{Credentials, SuperuserAction};
use crate::config::Settings;
use crate::stores::{self, OpenError, Stores};
use crate::superusers::{self, Outcome, SuperuserChange};
use crate::{control_socket, output};

/// Runs `superuser …`.
pub(super) fn run(settings: &Settings, action: SuperuserAction) -> ExitCode {
    let outcome = change(action, &mut io::stdin().lock())
        .and_then(|change| Ok((apply(settings, &change)?, change)))
        .and_then(|(outcome, change)| answer(&change, outcome));
    match outcome {
        Ok(text) => {
            output::line(text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes the change through the store, or through the server that holds the data folder.
fn apply(settings: &Settings, change: &SuperuserChange) -> anyhow::Result<Outcome> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let Stores { store, folder: _folder, .. } = match stores::open(settings, Vec::new()).await {
            Ok(stores) => stores,
            Err(OpenError::Sqlite(sqlite::OpenError::Held(dir))) => {
                return control_socket::send(&dir, change);
            }
            Err(error) => return Err(error.into()),
        };
        let outcome = superusers::apply(&*store, change).await?;
        store.close().await?;
        Ok(outcome)
    })
}

/// Reads the arguments, and the password from `input` where they say so.
fn change(action: SuperuserAction, input: &mut impl BufRead) -> anyhow::Result<SuperuserChange> {
    let mut read = |credentials| credentials_of(credentials, input);
    Ok(match action {
        SuperuserAction::Upsert(credentials) => {
            let (email, password) = read(credentials)?;
            SuperuserChange::Upsert { email, password }
        }
        SuperuserAction::Create(credentials) => {
            let (email, password) = read(credentials)?;
            SuperuserChange::Create { email, password }
        }
        SuperuserAction::Update(credentials) => {
            let (email, password) = read(credentials)?;
            SuperuserChange::Update { email, password }
        }
        SuperuserAction::Delete { email } => SuperuserChange::Delete { email: checked_email(email)? },
    })
}

fn credentials_of(credentials: Credentials, input: &mut impl BufRead) -> anyhow::Result<(String, String)> {
    let Credentials { email, password } = credentials;
    let Some(mut password) = password else {
        bail!("missing email and password arguments");
    };
    let email = checked_email(email)?;
    if password == "-" {
        password.clear();
        input.read_line(&mut password).context("read the password from standard input")?;
        password.truncate(password.trim_end_matches(['\r', '\n']).len());
    }
    Ok((email, password))
}

/// Only what is plainly no address is refused here; the store checks the rest.
fn checked_email(email: String) -> anyhow::Result<String> {
    match email.split_once('@') {
        Some((name, domain)) if !name.is_empty() && !domain.is_empty() => Ok(email),
        _ => bail!("missing or invalid email address"),
    }
}

/// The real server's words.
fn answer(change: &SuperuserChange, outcome: Outcome) -> anyhow::Result<String> {
    use SuperuserChange::{Create, Delete, Update, Upsert};
    Ok(match (change, outcome) {
        (Upsert { email, .. }, Outcome::Done) => format!("Successfully saved superuser {email:?}!"),
        (Create { email, .. }, Outcome::Done) => format!("Successfully created new superuser {email:?}!"),
        (Update { email, .. }, Outcome::Done) => {
            format!("Successfully changed superuser {email:?} password!")
        }
        (Delete { email }, Outcome::Done) => format!("Successfully deleted superuser {email:?}!"),
        (Delete { email }, Outcome::NoSuchSuperuser) => {
            format!("superuser {email:?} is missing or already deleted")
        }
        (Upsert { email, .. } | Create { email, .. } | Update { email, .. }, Outcome::NoSuchSuperuser) => {
            bail!("superuser with email {email:?} doesn't exist")
        }
        (Upsert { .. }, Outcome::Refused(why)) => bail!("failed to upsert superuser account: {why}"),
        (Create { .. }, Outcome::Refused(why)) => bail!("failed to create new superuser account: {why}"),
        (Update { email, .. }, Outcome::Refused(why)) => {
            bail!("failed to change superuser {email:?} password: {why}")
        }
        (Delete { email }, Outcome::Refused(why)) => bail!("failed to delete superuser {email:?}: {why}"),
    })
}
