//! What the command line can ask for, one module each.

mod check;
mod serve;
mod superuser;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{self, Command, CommandLine, ServeFlags};
use crate::config::Role;
use crate::stores::OpenError;
use crate::{certificates, config, output, reload};

/// The code for a configuration that cannot be.
const EXIT_CONFIGURATION: u8 = 2;

/// Runs the command, and gives the code to exit with.
pub(crate) fn run(command_line: CommandLine) -> ExitCode {
    let CommandLine { flags, command } = command_line;
    if flags.version {
        output::line(concat!("groundswell version ", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let defaults = ServeFlags::default();
    let serve_flags = match &command {
        Some(Command::Serve(flags) | Command::Check(flags)) => flags,
        _ => &defaults,
    };
    if command.is_none() && !flags.print_config {
        cli::print_help();
        return ExitCode::SUCCESS;
    }
    let stamp = reload::stamp(flags.config.as_deref().map(Path::new));
    let settings = match config::load(&flags, serve_flags) {
        Ok(settings) => settings,
        Err(problems) => {
            output::complaint(problems);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    match command {
        _ if flags.print_config => {
            output::line(settings);
            ExitCode::SUCCESS
        }
        Some(Command::Serve(serve_flags)) => match certificates::load(&settings) {
            Ok(certificates) => {
                let file = (flags.config.clone().map(PathBuf::from), stamp);
                let take_over = serve_flags.take_over;
                let load = Arc::new(move || config::load(&flags, &serve_flags));
                exit_code(serve::run(&settings, certificates, file, load, take_over))
            }
            Err(problem) => {
                output::complaint(problem);
                ExitCode::from(EXIT_CONFIGURATION)
            }
        },
        Some(Command::Superuser { .. }) if settings.server.role == Role::Gateway => {
            output::error("a gateway node has no data: run this on the node that runs the services");
            ExitCode::FAILURE
        }
        Some(Command::Superuser { action }) => superuser::run(&settings, action),
        Some(Command::Check(_)) => check::run(&settings),
        None => ExitCode::SUCCESS,
    }
}

fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(format_args!("{error:#}"));
            let of_store = error.chain().find_map(|cause| cause.downcast_ref::<OpenError>());
            match of_store.is_some_and(OpenError::is_of_configuration) {
                true => ExitCode::from(EXIT_CONFIGURATION),
                false => ExitCode::FAILURE,
            }
        }
    }
}
