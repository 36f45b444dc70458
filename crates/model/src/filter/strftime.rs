//! `strftime`: what a call holds, and the few formats that need no store.

use super::expr::Operand;
use super::semantics::Cell;

/// A call of `strftime`.
#[derive(Debug, Clone)]
pub struct TimeFormat {
    /// The format, a literal.
    pub format: String,
    /// The time; the store's clock when there is none.
    pub time: Option<Operand>,
    /// SQLite's modifiers, literals.
    pub modifiers: Vec<String>,
}

impl TimeFormat {
    /// The result for a time that a date field holds (`YYYY-MM-DD HH:MM:SS.mmmZ`, or empty, which is
    /// NULL), where the format is one of the plain ones; `None` where only SQLite knows.
    pub fn plain<'a>(&self, time: &Cell<'_>) -> Option<Cell<'a>> {
        if !self.modifiers.is_empty() {
            return None;
        }
        let Cell::Text(time) = time else {
            return (*time == Cell::Null).then_some(Cell::Null);
        };
        if time.is_empty() {
            return Some(Cell::Null);
        }
        let time = Fields::of(time)?;
        let mut text = String::with_capacity(self.format.len() + 16);
        let mut format = self.format.chars();
        while let Some(next) = format.next() {
            if next != '%' {
                text.push(next);
                continue;
            }
            text.push_str(&time.piece(format.next()?)?);
        }
        // SQLite ends at a NUL.
        (!text.contains('\0')).then(|| Cell::Text(text.into()))
    }
}

/// The parts of a date in the contract's form.
struct Fields<'a> {
    text: &'a str,
}

impl<'a> Fields<'a> {
    fn of(text: &'a str) -> Option<Fields<'a>> {
        let pattern = b"dddd-dd-dd dd:dd:dd.dddZ";
        let fits = text.len() == pattern.len()
            && text.bytes().zip(pattern).all(|(byte, wanted)| match wanted {
                b'd' => byte.is_ascii_digit(),
                other => byte == *other,
            });
        let in_range = |range: std::ops::Range<usize>, least: u32, most: u32| {
            text.get(range)
                .and_then(|part| part.parse().ok())
                .is_some_and(|part: u32| part >= least && part <= most)
        };
        // What may roll over into the next month or day is left to SQLite.
        let plain = fits
            && in_range(5..7, 1, 12)
            && in_range(8..10, 1, 28)
            && in_range(11..13, 0, 23)
            && in_range(14..16, 0, 59)
            && in_range(17..19, 0, 59);
        plain.then_some(Fields { text })
    }

    fn piece(&self, letter: char) -> Option<String> {
        let part = |range: std::ops::Range<usize>| self.text[range].to_owned();
        Some(match letter {
            'Y' => part(0..4),
            'm' => part(5..7),
            'd' => part(8..10),
            'H' => part(11..13),
            'M' => part(14..16),
            'S' => part(17..19),
            'F' => part(0..10),
            'T' => part(11..19),
            'R' => part(11..16),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(format: &str, time: &str) -> Option<Cell<'static>> {
        let call = TimeFormat { format: format.to_owned(), time: None, modifiers: Vec::new() };
        call.plain(&Cell::Text(time.to_owned().into()))
    }

    #[test]
    fn plain_formats_of_plain_dates() {
        let text = |text: &str| Some(Cell::Text(text.to_owned().into()));
        assert_eq!(format("%Y-%m", "2022-03-04 05:06:07.089Z"), text("2022-03"));
        assert_eq!(format("%H:%M:%S %%", "2022-03-04 05:06:07.089Z"), text("05:06:07 %"));
        assert_eq!(format("%Y", ""), Some(Cell::Null));
        assert_eq!(format("%j", "2022-03-04 05:06:07.089Z"), None);
        assert_eq!(format("%Y", "now"), None);
    }
}
