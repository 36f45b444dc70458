//! URLs of engines. The one type that prints them, so that no secret is printed.

use std::fmt;

/// The URL of an engine. Shown without its password and without query values that are secrets by their names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EngineUrl(String);

/// Parts of names of query values that are secrets.
const SECRET_NAMES: [&str; 6] = ["pass", "secret", "key", "token", "credential", "signature"];

impl EngineUrl {
    /// Takes any text with a scheme.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, _) = text.split_once(':')?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        is_scheme.then(|| Self(text.to_owned()))
    }

    /// The URL as it was given, for those who connect. It must not be shown.
    pub(crate) fn with_secrets(&self) -> &str {
        &self.0
    }

    /// What comes before the first colon.
    pub(crate) fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password may hold anything, unescaped: the query begins after the last @.
        let host = self.0.rfind('@').unwrap_or_default();
        let (base, query) = match self.0[host..].find('?') {
            Some(mark) => (&self.0[..host + mark], Some(&self.0[host + mark + 1..])),
            None => (self.0.as_str(), None),
        };
        write_without_password(f, base)?;
        let Some(query) = query else {
            return Ok(());
        };
        for (index, pair) in query.split('&').enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            match pair.split_once('=') {
                Some((name, _)) if is_secret(name) => write!(f, "{name}=***")?,
                _ => f.write_str(pair)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineUrl({self})")
    }
}

fn write_without_password(f: &mut fmt::Formatter<'_>, base: &str) -> fmt::Result {
    let Some((scheme, rest)) = base.split_once("://") else {
        return f.write_str(base);
    };
    let Some((user, host)) = rest.rsplit_once('@') else {
        return f.write_str(base);
    };
    let (name, password) = user.split_once(':').map_or((user, ""), |(name, _)| (name, ":***"));
    // Anything but a plain name may be part of a secret that holds an @.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte));
    let name = if is_plain { name } else { "***" };
    write!(f, "{scheme}://{name}{password}@{host}")
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        EngineUrl::parse(text).unwrap().to_string()
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("postgres://app:p@ss/w?rd@db/app"), "postgres://app:***@db/app");
        assert_eq!(
            shown("s3://bucket?region=eu&secret_access_key=x"),
            "s3://bucket?region=eu&secret_access_key=***"
        );
        assert_eq!(shown("s3://bucket?region=eu&secret=a@b"), "s3://***@b");
        assert_eq!(shown("sqlite:"), "sqlite:");
        assert_eq!(shown("postgres://a@b/c"), "postgres://a@b/c");
        let debug = format!("{:?}", EngineUrl::parse("redis://:pw@h").unwrap());
        assert!(!debug.contains("pw"), "{debug}");
    }
}
