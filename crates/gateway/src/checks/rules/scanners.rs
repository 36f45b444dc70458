//! Rules that are built in: programs that look for holes, by the name that they give themselves, and paths that nobody
//! asks for but to find some. No request of the application's own API fits one, whatever stands in its records: paths
//! below `/api/` are looked at by none but the first, and bodies by none.

use super::{Condition, Rule, RuleAction};

/// What becomes of what fits one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scanners {
    /// Nobody looks.
    #[default]
    Off,
    /// It is told of.
    Log,
    /// It is answered 403.
    Block,
}

/// Names and conditions.
const RULES: [(&str, &str); 7] = [
    // Only names that nobody gives an ordinary client: no libraries, no command lines.
    (
        "scanner.user-agent",
        r#"lower(header["user-agent"]) matches "\b(sqlmap|nikto|nuclei|masscan|zgrab|acunetix|netsparker|nessus|openvas|wpscan|dirbuster|gobuster|feroxbuster|fuzz faster u fool|whatweb|w3af|havij|arachni|jaeles|zmeu|morfeus|nmap scripting engine|libredtail)\b""#,
    ),
    (
        "probe.dotfiles",
        r#"not path starts_with "/api/" and lower(path) matches "/\.(env|git|svn|hg|aws|ssh|docker|kube|htpasswd|htaccess|ds_store|npmrc|vscode|idea)([/.]|$)""#,
    ),
    (
        "probe.php",
        r#"not path starts_with "/api/" and lower(path) matches "/(phpmyadmin|pma|adminer(-[0-9.]+)?\.php|phpinfo\.php|eval-stdin\.php|think\\app|shell\.php|c99\.php|r57\.php)(/|$)|/vendor/phpunit/""#,
    ),
    (
        "probe.wordpress",
        r#"not path starts_with "/api/" and lower(path) matches "/(wp-login\.php|xmlrpc\.php|wp-config\.php|wp-admin|wp-includes|wp-content)(/|$)""#,
    ),
    (
        "probe.devices",
        r#"not path starts_with "/api/" and lower(path) matches "^/(cgi-bin|boaform|hnap1|gponform|goform|solr/admin|manager/html|jmx-console|actuator/(env|heapdump|gateway))(/|$)""#,
    ),
    // No client writes these: it resolves dots itself.
    (
        "probe.traversal",
        r#"not path starts_with "/api/" and lower(raw_path) matches "(\.|%2e|%252e|%c0%ae)(\.|%2e|%252e|%c0%ae)(%2f|%5c|%252f|%255c|\\|%c0%af)|(%2e|%252e|%c0%ae){2}(/|$)""#,
    ),
    (
        "probe.jndi",
        r#"header["user-agent"] contains "${jndi:" or header["referer"] contains "${jndi:" or path contains "${jndi:" and not path starts_with "/api/""#,
    ),
];

/// What the rules are called.
pub fn names() -> impl Iterator<Item = &'static str> {
    RULES.into_iter().map(|(name, _)| name)
}

impl Scanners {
    /// The rules, but for those with these names.
    pub fn rules(self, except: &[String]) -> Vec<Rule> {
        let action = match self {
            Self::Off => return Vec::new(),
            Self::Log => RuleAction::Log,
            Self::Block => RuleAction::Block,
        };
        let kept = RULES.iter().filter(|(name, _)| !except.iter().any(|other| other == name));
        kept.filter_map(|(name, when)| {
            // All can be read: a test does.
            let when: Condition = when.parse().ok()?;
            Some(Rule { name: (*name).to_owned(), when, action })
        })
        .collect()
    }

    /// Reads it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "log" => Some(Self::Log),
            "block" => Some(Self::Block),
            _ => None,
        }
    }

    /// As the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Log => "log",
            Self::Block => "block",
        }
    }
}
