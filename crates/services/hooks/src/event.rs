//! When hooks are called.

use contract::event::Action;

/// A moment at which a hook may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookEvent {
    /// Before the write, while its request waits; or after it was committed.
    pub is_before: bool,
    /// What is written.
    pub write: Write,
}

/// [`Action`] with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the words say it")]
pub enum Write {
    Create,
    Update,
    Delete,
}

/// All of them, as hooks name them.
pub(crate) const NAMES: [(&str, HookEvent); 6] = [
    ("records.create.after", HookEvent { is_before: false, write: Write::Create }),
    ("records.create.before", HookEvent { is_before: true, write: Write::Create }),
    ("records.delete.after", HookEvent { is_before: false, write: Write::Delete }),
    ("records.delete.before", HookEvent { is_before: true, write: Write::Delete }),
    ("records.update.after", HookEvent { is_before: false, write: Write::Update }),
    ("records.update.before", HookEvent { is_before: true, write: Write::Update }),
];

// === impl HookEvent ===

impl HookEvent {
    /// Before or after an action.
    pub fn new(is_before: bool, action: Action) -> HookEvent {
        let write = match action {
            Action::Create => Write::Create,
            Action::Update => Write::Update,
            Action::Delete => Write::Delete,
        };
        HookEvent { is_before, write }
    }

    /// The event of a name.
    pub fn parse(name: &str) -> Option<HookEvent> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, event)| *event)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        NAMES.iter().find(|(_, event)| *event == self).map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_known_by_its_name() {
        for action in [Action::Create, Action::Update, Action::Delete] {
            for (is_before, moment) in [(true, "before"), (false, "after")] {
                let event = HookEvent::new(is_before, action);
                assert_eq!(event.as_str(), format!("records.{}.{moment}", action.as_str()));
                assert_eq!(HookEvent::parse(event.as_str()), Some(event));
            }
        }
        assert_eq!(HookEvent::parse("records.create"), None);
    }
}
