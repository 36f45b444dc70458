//! `[hooks.NAME]` and `[outbound]`: the user's own code over HTTP, and where requests may go.

use std::sync::Arc;

use hooks::{Hook, HookInput, Source};
use kit::outbound::OutboundPolicy;

use super::reader::{Named, Section};
use super::settings::{boolean, duration};

/// `[outbound]`
#[derive(Debug, Clone)]
pub(crate) struct OutboundSettings {
    /// As it was written, for printing.
    pub(crate) allow: Vec<String>,
    pub(crate) policy: Arc<OutboundPolicy>,
}

impl OutboundSettings {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let mut settings = Self { allow: Vec::new(), policy: Arc::default() };
        if let Some((allow, origin)) = section.list("allow") {
            match OutboundPolicy::parse(&allow) {
                Ok(policy) => settings = Self { allow, policy: Arc::new(policy) },
                Err(error) => section.refuse(&origin, "allow", error.to_string()),
            }
        }
        section.finish();
        settings
    }
}

/// All tables `[hooks.NAME]`.
pub(super) fn read(sections: Vec<Named<'_>>) -> Vec<Hook> {
    sections.into_iter().filter_map(hook).collect()
}

fn hook(Named { name, origin, mut section }: Named<'_>) -> Option<Hook> {
    let input = HookInput {
        name: name.to_owned(),
        url: section.text("url").map(|text| text.value).unwrap_or_default(),
        on: section.list("on").map(|(events, _)| events).unwrap_or_default(),
        collections: section.list("collections").map(|(names, _)| names),
        secrets: section.list("secrets").map(|(secrets, _)| secrets).unwrap_or_default(),
        timeout: section.parsed("timeout", "a time such as 5s or 500ms", duration).map(|(time, _)| time),
        on_failure: section.text("on_failure").map(|text| text.value),
        enabled: section.parsed("enabled", "true or false", boolean).map(|(enabled, _)| enabled),
    };
    let checked = input.check(Source::Config);
    let hook = checked
        .map_err(|problems| {
            for problem in problems {
                let key = if problem.key == "onFailure" { "on_failure" } else { problem.key };
                section.refuse(section.origin_of(key).unwrap_or(origin), key, problem.message);
            }
        })
        .ok();
    section.finish();
    hook
}
