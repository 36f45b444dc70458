//! What a comparison means (CONTRACT §2.3), on plain values: the storage classes and affinities of
//! SQLite, three-valued results, `None` for NULL. Stores have these natively or as functions; here
//! they are for the evaluator, and the text that others are held to.

mod geo;
mod json_text;
mod like;
mod number;

use std::borrow::Cow;
use std::cmp::Ordering;

pub use geo::geo_distance;
pub use json_text::{JsonStep, json_at, json_cell, json_items};
pub use like::{contains_pattern, like, like_pattern};
pub use number::{number_in_text, text_of_real};

use super::Operator;

/// A value by storage class.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// Any other number; also a whole one that was bound as a float.
    Real(f64),
    /// Text.
    Text(Cow<'a, str>),
}

/// What a comparison does to the other side's value first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing: a parameter or an expression.
    None,
    /// Nothing either, and text does nothing to it: a column without a type, such as the items of a list have.
    Blob,
    /// Numbers become text.
    Text,
    /// Text that is a number becomes one.
    Numeric,
}

impl Cell<'_> {
    /// A stored number: whole ones are integers.
    pub fn stored(number: f64) -> Cell<'static> {
        // Outside this range a float is no i64.
        const LIMIT: f64 = 9_223_372_036_854_775_808.0;
        if number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number) {
            Cell::Integer(number as i64)
        } else {
            Cell::Real(number)
        }
    }

    /// Whether this counts as empty: NULL or no text.
    pub fn is_empty(&self) -> bool {
        match self {
            Cell::Null => true,
            Cell::Text(text) => text.is_empty(),
            Cell::Integer(_) | Cell::Real(_) => false,
        }
    }

    /// The text of any value but NULL.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Cell::Null => None,
            Cell::Integer(number) => Some(Cow::Owned(number.to_string())),
            Cell::Real(number) => Some(Cow::Owned(text_of_real(*number))),
            Cell::Text(text) => Some(Cow::Borrowed(text)),
        }
    }

    /// The number of a number, or of text that is one.
    pub fn to_number(&self) -> Option<f64> {
        match self {
            Cell::Null => None,
            Cell::Integer(number) => Some(*number as f64),
            Cell::Real(number) => Some(*number),
            Cell::Text(text) => number_in_text(text).map(|cell| match cell {
                Cell::Integer(number) => number as f64,
                Cell::Real(number) => number,
                _ => 0.0,
            }),
        }
    }

    /// The same value, not borrowed.
    pub fn into_owned(self) -> Cell<'static> {
        match self {
            Cell::Null => Cell::Null,
            Cell::Integer(number) => Cell::Integer(number),
            Cell::Real(number) => Cell::Real(number),
            Cell::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
        }
    }

    /// The same value, borrowed.
    pub fn borrowed(&self) -> Cell<'_> {
        match self {
            Cell::Null => Cell::Null,
            Cell::Integer(number) => Cell::Integer(*number),
            Cell::Real(number) => Cell::Real(*number),
            Cell::Text(text) => Cell::Text(Cow::Borrowed(text)),
        }
    }
}

/// `left op right` as SQLite answers it, for all but LIKE.
pub fn compare(
    operator: Operator,
    left: (&Cell<'_>, Affinity),
    right: (&Cell<'_>, Affinity),
) -> Option<bool> {
    let order = order(left, right)?;
    Some(match operator {
        Operator::Equal => order == Ordering::Equal,
        Operator::NotEqual => order != Ordering::Equal,
        Operator::Less => order == Ordering::Less,
        Operator::LessOrEqual => order != Ordering::Greater,
        Operator::Greater => order == Ordering::Greater,
        Operator::GreaterOrEqual => order != Ordering::Less,
        Operator::Like | Operator::NotLike => return None,
    })
}

/// `left IS right`: as `=`, but NULL is the same as NULL.
pub fn is_same(left: (&Cell<'_>, Affinity), right: (&Cell<'_>, Affinity)) -> bool {
    match (left.0, right.0) {
        (Cell::Null, Cell::Null) => true,
        _ => compare(Operator::Equal, left, right).unwrap_or(false),
    }
}

/// The order of two values after affinities are applied; `None` when one is NULL.
pub fn order(left: (&Cell<'_>, Affinity), right: (&Cell<'_>, Affinity)) -> Option<Ordering> {
    let ((left, left_affinity), (right, right_affinity)) = (left, right);
    match (left, right) {
        (Cell::Null, _) | (_, Cell::Null) => None,
        (Cell::Text(left), Cell::Text(right)) if left_affinity == right_affinity => {
            Some(left.as_bytes().cmp(right.as_bytes()))
        }
        _ => {
            let wanted = match (left_affinity, right_affinity) {
                (Affinity::Numeric, other) | (other, Affinity::Numeric) => {
                    if other == Affinity::Numeric {
                        Affinity::None
                    } else {
                        Affinity::Numeric
                    }
                }
                (Affinity::Text, Affinity::None) | (Affinity::None, Affinity::Text) => Affinity::Text,
                _ => Affinity::None,
            };
            let left = convert(left, left_affinity, wanted);
            let right = convert(right, right_affinity, wanted);
            Some(storage_order(&left, &right))
        }
    }
}

/// The side that lacks the wanted affinity is converted.
fn convert<'a>(cell: &'a Cell<'a>, own: Affinity, wanted: Affinity) -> Cell<'a> {
    match (wanted, cell) {
        (Affinity::Numeric, Cell::Text(text)) if own != Affinity::Numeric => {
            number_in_text(text).unwrap_or_else(|| cell.borrowed())
        }
        (Affinity::Text, Cell::Integer(_) | Cell::Real(_)) if own != Affinity::Text => {
            cell.to_text().map_or(Cell::Null, Cell::Text)
        }
        _ => cell.borrowed(),
    }
}

/// NULL, then numbers, then text by bytes.
pub fn storage_order(left: &Cell<'_>, right: &Cell<'_>) -> Ordering {
    let class = |cell: &Cell<'_>| match cell {
        Cell::Null => 0,
        Cell::Integer(_) | Cell::Real(_) => 1,
        Cell::Text(_) => 2,
    };
    match (left, right) {
        (Cell::Integer(left), Cell::Integer(right)) => left.cmp(right),
        (Cell::Real(left), Cell::Real(right)) => left.partial_cmp(right).unwrap_or(Ordering::Equal),
        (Cell::Integer(left), Cell::Real(right)) => number::integer_to_real(*left, *right),
        (Cell::Real(left), Cell::Integer(right)) => number::integer_to_real(*right, *left).reverse(),
        (Cell::Text(left), Cell::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        _ => class(left).cmp(&class(right)),
    }
}

/// `LOWER`: ASCII letters only.
pub fn lower<'a>(cell: &Cell<'a>) -> Cell<'a> {
    match cell {
        Cell::Null => Cell::Null,
        Cell::Text(text) if !text.bytes().any(|byte| byte.is_ascii_uppercase()) => cell.clone(),
        other => match other.to_text() {
            Some(text) => Cell::Text(Cow::Owned(text.to_ascii_lowercase())),
            None => Cell::Null,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(text))
    }

    fn equal(left: (Cell<'_>, Affinity), right: (Cell<'_>, Affinity)) -> Option<bool> {
        compare(Operator::Equal, (&left.0, left.1), (&right.0, right.1))
    }

    #[test]
    fn a_number_column_turns_text_into_a_number() {
        assert_eq!(equal((Cell::Integer(1), Affinity::Numeric), (text("1"), Affinity::None)), Some(true));
        assert_eq!(equal((Cell::Integer(1), Affinity::None), (text("1"), Affinity::None)), Some(false));
        assert_eq!(equal((Cell::Integer(1), Affinity::Numeric), (text("x"), Affinity::None)), Some(false));
    }

    #[test]
    fn a_text_column_turns_a_number_into_text() {
        assert_eq!(equal((text("2"), Affinity::Text), (Cell::Real(2.0), Affinity::None)), Some(false));
        assert_eq!(equal((text("2.0"), Affinity::Text), (Cell::Real(2.0), Affinity::None)), Some(true));
        assert_eq!(equal((text("2"), Affinity::Text), (Cell::Integer(2), Affinity::None)), Some(true));
    }

    #[test]
    fn an_item_stays_a_number_beside_a_text_column() {
        let less = |item: (&Cell<'_>, Affinity)| compare(Operator::Less, item, (&text(""), Affinity::Text));
        assert_eq!(less((&Cell::Integer(1), Affinity::Blob)), Some(true));
        assert_eq!(less((&Cell::Integer(1), Affinity::None)), Some(false));
        assert_eq!(equal((text("1"), Affinity::Blob), (Cell::Integer(1), Affinity::Numeric)), Some(true));
    }

    #[test]
    fn null_decides_nothing_and_text_stands_above_numbers() {
        assert_eq!(equal((Cell::Null, Affinity::Text), (text("a"), Affinity::None)), None);
        let above =
            compare(Operator::Greater, (&text("1"), Affinity::None), (&Cell::Real(9e9), Affinity::None));
        assert_eq!(above, Some(true));
    }

    #[test]
    fn lower_knows_ascii_only() {
        assert_eq!(lower(&text("AÉ")), text("aÉ"));
        assert_eq!(lower(&Cell::Integer(5)), text("5"));
    }
}
