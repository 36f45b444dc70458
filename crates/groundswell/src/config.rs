//! The configuration: flags over environment over `groundswell.toml` over defaults, resolved once into
//! [`Settings`].
//!
//! The sources are merged into one [`tree`] whose values know where they come from; [`settings`] reads it through
//! [`reader::Section`], which notes every problem with its place. A key that nobody asked for is unknown.

mod acme;
mod checks;
mod engine_url;
mod gateway;
mod hooks;
mod identity_providers;
mod limits;
mod nodes;
mod print;
mod problem;
mod reader;
mod route_auth;
mod server_tls;
mod settings;
mod tls;
mod tree;

use std::path::Path;

pub(crate) use acme::AcmeSettings;
pub(crate) use engine_url::EngineUrl;
pub(crate) use gateway::GatewaySettings;
pub(crate) use nodes::Role;
pub(crate) use problem::Problems;
pub(crate) use settings::{Address, LogFormat, LogSettings, Settings, StoreUrl, Synchronous};
pub(crate) use tls::TlsSettings;
pub(crate) use tree::Tree;

use crate::cli::{GlobalFlags, ServeFlags};

/// Resolves the configuration of this process.
pub(crate) fn load(flags: &GlobalFlags, serve: &ServeFlags) -> Result<Settings, Problems> {
    let mut tree = Tree::default();
    if let Some(path) = &flags.config {
        tree.add_file(Path::new(path))?;
    }
    tree.add_environment(std::env::vars_os())?;
    add_flags(&mut tree, flags, serve);
    Settings::resolve(&tree)
}

fn add_flags(tree: &mut Tree, flags: &GlobalFlags, serve: &ServeFlags) {
    let origins = (!serve.origins.is_empty()).then(|| serve.origins.join(","));
    let query_timeout = flags.query_timeout.clone();
    for (flag, key, value) in [
        ("--dir", "dir", &flags.dir),
        ("--publicDir", "public_dir", &flags.public_dir),
        ("--indexFallback", "index_fallback", &flags.index_fallback),
        ("--queryTimeout", "query_timeout", &query_timeout),
        ("--http", "http", &serve.http),
        ("--manage", "manage", &serve.manage),
        ("--origins", "origins", &origins),
    ] {
        if let Some(value) = value {
            tree.add_flag(flag, &["server", key], value);
        }
    }
    if flags.dev {
        tree.add_flag("--dev", &["log", "level"], "debug");
    }
}

#[cfg(test)]
mod tests;
