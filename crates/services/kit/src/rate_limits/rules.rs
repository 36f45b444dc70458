//! Which rule a request falls under.

use model::settings::RateLimitRule;

/// What rules may call a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'a> {
    pub(super) method: &'a str,
    /// Without escapes.
    pub(super) path: &'a str,
    /// The name of a collection, and what is done to it.
    pub(super) action: Option<(&'a str, &'a [&'a str])>,
}

/// The place of the rule: the first for the collection's actions, then for every collection's, then for the method and
/// path, then for the path. The last two each go before what only begins the path, in the order of the rules.
pub(super) fn find(rules: &[RateLimitRule], labels: Labels<'_>, is_guest: bool) -> Option<usize> {
    let audience = if is_guest { "@guest" } else { "@auth" };
    let first = |is_meant: &dyn Fn(&str) -> bool| {
        let concerns = |rule: &RateLimitRule| rule.audience.is_empty() || rule.audience == audience;
        rules.iter().position(|rule| concerns(rule) && is_meant(&rule.label))
    };
    if let Some((collection, names)) = labels.action {
        for of in [collection, "*"] {
            for name in names {
                let found = first(&|label| label.split_once(':') == Some((of, name)));
                if found.is_some() {
                    return found;
                }
            }
        }
    }
    let Labels { method, path, .. } = labels;
    let of_method = |label: &str, is_meant: fn(&str, &str) -> bool| {
        label.split_once(' ').is_some_and(|(own, rest)| own == method && is_meant(rest, path))
    };
    first(&|label| of_method(label, is_path))
        .or_else(|| first(&|label| of_method(label, begins_path)))
        .or_else(|| first(&|label| is_path(label, path)))
        .or_else(|| first(&|label| begins_path(label, path)))
}

fn is_path(label: &str, path: &str) -> bool {
    label == path
}

/// A label that ends with a slash stands for all that begins so, and for itself without the slash.
fn begins_path(label: &str, path: &str) -> bool {
    label.strip_suffix('/').is_some_and(|whole| path.starts_with(label) || path == whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Option<(&str, &[&str])> = Some(("cats", &["list"]));
    const SIGN_IN: Option<(&str, &[&str])> = Some(("users", &["authWithPassword", "auth"]));

    /// The label of the rule that a GET of a path falls under; a label may have an audience after a `|`.
    fn found<'r>(
        rules: &[&'r str],
        path: &str,
        action: Option<(&str, &[&str])>,
        is_guest: bool,
    ) -> Option<&'r str> {
        let as_rule = |text: &&str| {
            let (label, audience) = text.split_once('|').unwrap_or((text, ""));
            RateLimitRule { label: label.into(), audience: audience.into(), duration: 1, max_requests: 1 }
        };
        let all: Vec<RateLimitRule> = rules.iter().map(as_rule).collect();
        find(&all, Labels { method: "GET", path, action }, is_guest).map(|position| rules[position])
    }

    #[test]
    fn what_is_nearer_goes_first() {
        let path = "/api/collections/cats/records";
        let all = [
            "/api/",
            "/api/collections/cats/records",
            "GET /api/",
            "GET /api/collections/cats/records",
            "*:list",
            "cats:list",
        ];
        for count in (1..=all.len()).rev() {
            assert_eq!(found(&all[..count], path, LIST, true), Some(all[count - 1]));
        }
    }

    #[test]
    fn of_two_that_begin_a_path_the_first_counts() {
        assert_eq!(found(&["/api/", "/api/health/"], "/api/health", None, true), Some("/api/"));
        assert_eq!(found(&["/api/health/", "/api/"], "/api/health", None, true), Some("/api/health/"));
        assert_eq!(found(&["/api/health/"], "/api/healthy", None, true), None);
        assert_eq!(found(&["/"], "/anything", None, true), Some("/"));
    }

    #[test]
    fn methods_actions_and_collections_are_compared_whole() {
        assert_eq!(found(&["POST /api/x", "HEAD /api/"], "/api/x", None, true), None);
        assert_eq!(found(&["dogs:list", "*:create", "list", "CATS:list"], "/x", LIST, true), None);
        assert_eq!(found(&["*:list"], "/x", None, true), None);
    }

    #[test]
    fn a_sign_in_has_two_names() {
        assert_eq!(found(&["*:auth", "users:auth"], "/x", SIGN_IN, true), Some("users:auth"));
        assert_eq!(found(&["*:auth", "*:authWithPassword"], "/x", SIGN_IN, true), Some("*:authWithPassword"));
    }

    #[test]
    fn a_rule_for_others_is_passed_over() {
        let rules = ["/api/x|@auth", "/api/|@guest"];
        assert_eq!(found(&rules, "/api/x", None, true), Some("/api/|@guest"));
        assert_eq!(found(&rules, "/api/x", None, false), Some("/api/x|@auth"));
        assert_eq!(found(&rules, "/api/y", None, false), None);
    }
}
