//! The query string, read as Go's `url.ParseQuery` does: a pair that holds `;` or a bad escape is
//! skipped, and of a name given twice the first value counts (CONTRACT §1.11).

use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::form_values::{decode_pair, has_too_many_pairs, pairs};

/// A read query string. The texts lie in one buffer; an empty query allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Query {
    text: String,
    pairs: Vec<Pair>,
    has_bad_pair: bool,
}

/// Where a pair lies in the buffer.
#[derive(Debug, Clone, Copy)]
struct Pair {
    start: usize,
    middle: usize,
    end: usize,
}

/// What a list request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// At least 1.
    pub page: u64,
    /// 1 to [`ListQuery::MAX_PER_PAGE`].
    pub per_page: u32,
    /// Whether totals are `-1`.
    pub skip_total: bool,
    /// The filter's text; empty is none.
    pub filter: String,
    /// The sort's text; empty is none.
    pub sort: String,
}

// === impl Query ===

impl Query {
    /// Reads a raw query string, without its `?`. One of more than 10,000 pairs counts as empty.
    pub fn parse(raw: &str) -> Query {
        let mut query = Query { has_bad_pair: has_too_many_pairs(raw.as_bytes()), ..Query::default() };
        if query.has_bad_pair {
            return query;
        }
        for pair in pairs(raw.as_bytes()) {
            let start = query.text.len();
            match decode_pair(pair) {
                Ok((name, value)) => {
                    query.text.push_str(&name);
                    let middle = query.text.len();
                    query.text.push_str(&value);
                    query.pairs.push(Pair { start, middle, end: query.text.len() });
                }
                Err(_) => query.has_bad_pair = true,
            }
        }
        query
    }

    /// Every pair, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|pair| (&self.text[pair.start..pair.middle], &self.text[pair.middle..pair.end]))
    }

    /// The first value of a name, which may be empty.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Whether a pair had to be skipped. A form body sent with such a query is refused.
    pub fn has_bad_pair(&self) -> bool {
        self.has_bad_pair
    }

    /// What rules see as `@request.query.*`: the first value of each name.
    pub fn for_rules(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        for (name, value) in self.iter() {
            map.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        map
    }

    /// The `fields` parameter, unless it is empty.
    pub fn fields(&self) -> Option<&str> {
        self.first("fields").filter(|fields| !fields.is_empty())
    }

    /// The `expand` parameter, unless it is empty.
    pub fn expand(&self) -> Option<&str> {
        self.first("expand").filter(|expand| !expand.is_empty())
    }

    /// What a list request asks for; 400 when a number or boolean is none.
    pub fn list(&self) -> Result<ListQuery, ApiError> {
        let page = self.integer("page")?.unwrap_or(0);
        let per_page = self.integer("perPage")?.unwrap_or(0);
        let text = |name| self.first(name).unwrap_or_default().to_owned();
        Ok(ListQuery {
            page: u64::try_from(page).unwrap_or(0).max(1),
            per_page: match u32::try_from(per_page) {
                Ok(1..=ListQuery::MAX_PER_PAGE) => per_page as u32,
                _ if per_page <= 0 => ListQuery::DEFAULT_PER_PAGE,
                _ => ListQuery::MAX_PER_PAGE,
            },
            skip_total: self.boolean("skipTotal")?.unwrap_or(false),
            filter: text("filter"),
            sort: text("sort"),
        })
    }

    /// A whole number; 400 when the value is none. An empty value is no value.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let value = self.first(name).filter(|value| !value.is_empty());
        value.map(|value| value.parse().map_err(|_| ApiError::bad_request())).transpose()
    }

    /// A boolean in one of the contract's forms; 400 when the value is none. An empty value is no value.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let value = self.first(name).filter(|value| !value.is_empty());
        value.map(|value| parse_bool(value).ok_or_else(ApiError::bad_request)).transpose()
    }
}

// === impl ListQuery ===

impl ListQuery {
    /// Records on a page unless the request says.
    pub const DEFAULT_PER_PAGE: u32 = 30;
    /// Most records on a page.
    pub const MAX_PER_PAGE: u32 = 1000;

    /// How many records lie before the page.
    pub fn offset(&self) -> u64 {
        (self.page - 1).saturating_mul(u64::from(self.per_page))
    }
}

/// The contract's forms of a boolean.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(raw: &str) -> Option<(u64, u32, bool)> {
        let list = Query::parse(raw).list().ok()?;
        Some((list.page, list.per_page, list.skip_total))
    }

    #[test]
    fn pages_are_read_as_seen() {
        let cases = [
            ("", Some((1, 30, false))),
            ("page=a", None),
            ("page=0", Some((1, 30, false))),
            ("page=-5", Some((1, 30, false))),
            ("page=1.5", None),
            ("page=", Some((1, 30, false))),
            ("page=%201", None),
            ("page=+1", None),
            ("page=%2B2", Some((2, 30, false))),
            ("page=01", Some((1, 30, false))),
            ("page=1_0", None),
            ("page=9223372036854775808", None),
            ("page=99999999999", Some((99_999_999_999, 30, false))),
            ("perPage=0", Some((1, 30, false))),
            ("perPage=5000", Some((1, 1000, false))),
            ("perPage=5000000000", Some((1, 1000, false))),
            ("perPage=7", Some((1, 7, false))),
            ("perPage=1e2", None),
            ("skipTotal=", Some((1, 30, false))),
            ("skipTotal=T", Some((1, 30, true))),
            ("skipTotal=tRue", None),
            ("page=2&page=a", Some((2, 30, false))),
            ("page=a&page=1", None),
            ("Page=a", Some((1, 30, false))),
        ];
        for (raw, expected) in cases {
            assert_eq!(list(raw), expected, "{raw}");
        }
    }

    #[test]
    fn bad_pairs_are_skipped() {
        assert_eq!(list("page=1;perPage=a"), Some((1, 30, false)));
        assert_eq!(list("page=1;a&perPage=1"), Some((1, 1, false)));
        assert_eq!(list("%zz=1&perPage=1"), Some((1, 1, false)));
        assert_eq!(Query::parse("filter=%zz&sort=a").list().unwrap().filter, "");
        assert!(Query::parse("a=%").has_bad_pair());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_without_harm(raw in "[ab&=;%+0-9é]{0,40}") {
            let query = Query::parse(&raw);
            let _ = (query.list(), query.for_rules(), query.fields(), query.expand());
        }
    }

    #[test]
    fn too_many_pairs_are_none() {
        assert_eq!(list(&format!("perPage=1{}", "&x=1".repeat(9_999))), Some((1, 1, false)));
        assert_eq!(list(&format!("perPage=1{}", "&x=1".repeat(10_000))), Some((1, 30, false)));
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse("a=x+y%20z&&a=2&b&=v&c=%e4&d=1=2");
        let pairs: Vec<_> = query.iter().collect();
        assert_eq!(
            pairs,
            [("a", "x y z"), ("a", "2"), ("b", ""), ("", "v"), ("c", "\u{fffd}"), ("d", "1=2")]
        );
        assert_eq!(query.for_rules()["a"], "x y z");
    }
}
