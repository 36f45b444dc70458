//! The command line, with PocketBase's flag names and their kebab-case forms.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::output;

/// A parsed command line.
#[derive(Debug, Parser)]
#[command(
    name = "groundswell",
    about = "An application backend in one binary that speaks PocketBase's API",
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND"
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) flags: GlobalFlags,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Flags that every command takes.
#[derive(Debug, Default, Args)]
pub(crate) struct GlobalFlags {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<String>,
    /// Print the resolved configuration with secrets masked, and stop
    #[arg(long, global = true, alias = "printConfig")]
    pub(crate) print_config: bool,
    /// The data folder (default ./gs_data)
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) dir: Option<String>,
    /// The folder of static files (default gs_public beside the data folder)
    #[arg(long = "publicDir", alias = "public-dir", global = true, value_name = "FOLDER")]
    pub(crate) public_dir: Option<String>,
    /// Answer a missing static path with index.html (default true)
    #[arg(
        long = "indexFallback",
        alias = "index-fallback",
        global = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "true|false"
    )]
    pub(crate) index_fallback: Option<String>,
    /// The longest that a query may take, in seconds (default 30)
    #[arg(long = "queryTimeout", alias = "query-timeout", global = true, value_name = "SECONDS")]
    pub(crate) query_timeout: Option<String>,
    /// Log more: the same as log.level = "debug"
    #[arg(long, global = true)]
    pub(crate) dev: bool,
    /// Print the version
    #[arg(short = 'v', long)]
    pub(crate) version: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server (default 127.0.0.1:8090)
    Serve(ServeFlags),
    /// Manage superusers
    #[command(arg_required_else_help = true)]
    Superuser {
        #[command(subcommand)]
        action: SuperuserAction,
    },
    /// Check the configuration, the data folder and the ports, and start nothing
    Check(ServeFlags),
}

/// Flags of `serve`, and of `check`, which looks at what `serve` would use.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeFlags {
    /// The address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http: Option<String>,
    /// The address of the management listener (default 127.0.0.1:8091)
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) manage: Option<String>,
    /// Take the place of the server that holds the data folder, without losing a request
    #[arg(long = "take-over")]
    pub(crate) take_over: bool,
    /// Origins that browsers may call from, with * and ? as wildcards (default *)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) origins: Vec<String>,
}

/// What to do with a superuser.
#[derive(Debug, Subcommand)]
pub(crate) enum SuperuserAction {
    /// Create a superuser, or change the password of an existing one
    Upsert(Credentials),
    /// Create a superuser
    Create(Credentials),
    /// Change the password of a superuser
    Update(Credentials),
    /// Delete a superuser
    Delete {
        /// The superuser's email address
        email: String,
    },
}

/// Who, and with which password.
#[derive(Debug, Args)]
pub(crate) struct Credentials {
    /// The superuser's email address
    pub(crate) email: String,
    /// The password, or - to read it from standard input
    pub(crate) password: Option<String>,
}

/// Why no command runs: an error of the command line, or help that was asked for.
#[derive(Debug)]
pub(crate) struct Stop(clap::Error);

/// Parses the process's arguments.
pub(crate) fn parse() -> Result<CommandLine, Stop> {
    CommandLine::try_parse().map_err(Stop)
}

/// Prints what `groundswell` alone prints.
pub(crate) fn print_help() {
    output::line(CommandLine::command().render_help());
}

// === impl Stop ===

impl Stop {
    /// Tells the person, and gives the code to exit with.
    pub(crate) fn print(&self) -> ExitCode {
        if matches!(
            self.0.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        ) {
            output::line(self.0.render());
            return ExitCode::SUCCESS;
        }
        output::error(self.message());
        ExitCode::from(1)
    }

    fn message(&self) -> String {
        match (self.0.kind(), self.0.get(ContextKind::InvalidSubcommand)) {
            (ErrorKind::InvalidSubcommand, Some(ContextValue::String(name))) => {
                format!("unknown command {name:?} for \"groundswell\"")
            }
            _ => {
                let rendered = self.0.render().to_string();
                rendered.strip_prefix("error: ").unwrap_or(&rendered).trim_end().to_owned()
            }
        }
    }
}
