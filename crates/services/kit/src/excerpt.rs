//! Plain text from HTML, cut to a length: the `excerpt` modifier of `fields` (CONTRACT §1.9).
//!
//! The tokens are those of a browser (crate `html5gum`); of its tree, only what decides which text is
//! shown: elements whose content is dropped, and where blocks begin and end.

use html5gum::{DefaultEmitter, Token, Tokenizer};

/// How a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// Most characters.
    pub(crate) max: usize,
    /// Whether `...` says that something was cut.
    pub(crate) with_ellipsis: bool,
}

/// Elements that are dropped with all they hold.
const DROPPED: [&str; 17] = [
    "style", "script", "iframe", "embed", "applet", "object", "svg", "img", "picture", "dialog", "template",
    "button", "form", "textarea", "input", "select", "option",
];

/// Elements that stand within a line; every other one is set apart by a space.
const INLINE: [&str; 21] = [
    "a", "abbr", "acronym", "b", "bdo", "big", "br", "button", "cite", "code", "em", "i", "label", "q",
    "small", "span", "strong", "strike", "sub", "sup", "time",
];

/// Elements that hold nothing and have no end tag.
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// Elements that belong to the head when nothing stands before them, and show nothing there.
const METADATA: [&str; 3] = ["title", "noscript", "noframes"];

/// Elements that only frame the page, and may come and go anywhere.
const PAGE: [&str; 3] = ["html", "head", "body"];

impl Excerpt {
    /// The excerpt of an HTML text.
    pub(crate) fn of(&self, html: &str) -> String {
        let mut text = PlainText { max_bytes: self.max, ..PlainText::default() };
        let mut emitter: DefaultEmitter = DefaultEmitter::default();
        emitter.naively_switch_states(true);
        for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
            match token {
                Token::String(piece) => text.push(&String::from_utf8_lossy(&piece)),
                Token::StartTag(tag) => text.open(&String::from_utf8_lossy(&tag.name), tag.self_closing),
                Token::EndTag(tag) => text.close(&String::from_utf8_lossy(&tag.name)),
                Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
            }
        }
        self.cut(text.out.trim())
    }

    fn cut(&self, text: &str) -> String {
        let Some((end, _)) = text.char_indices().nth(self.max) else { return text.to_owned() };
        let kept = text[..end].trim();
        if self.with_ellipsis { format!("{kept}...") } else { kept.to_owned() }
    }
}

/// The text so far.
#[derive(Default)]
struct PlainText {
    out: String,
    max_bytes: usize,
    ends_in_space: bool,
    /// The element whose content is dropped, and how many of its name are open within it.
    dropped: Option<(String, usize)>,
    /// Open elements that are set apart, innermost last.
    open: Vec<String>,
}

/// Elements deeper than this are not followed; their text is kept.
const MAX_DEPTH: usize = 512;

impl PlainText {
    fn open(&mut self, name: &str, self_closing: bool) {
        if let Some((dropped, depth)) = &mut self.dropped {
            // A form or button within another of its kind does not nest.
            let nests = dropped == name && !matches!(name, "form" | "button" | "option" | "select");
            *depth += usize::from(nests);
            return;
        }
        if PAGE.contains(&name) {
            return;
        }
        let is_foreign = matches!(name, "svg" | "math");
        let is_empty = VOID.contains(&name) || (self_closing && is_foreign);
        if self.drops(name) {
            if !is_empty {
                self.dropped = Some((name.to_owned(), 1));
            }
            return;
        }
        if !INLINE.contains(&name) {
            self.space();
            if is_empty {
                return;
            }
        }
        if is_empty {
            return;
        }
        // Once there is enough text, what further elements hold is not looked at.
        if self.out.len() > self.max_bytes.saturating_add(2) {
            self.dropped = Some((name.to_owned(), 1));
            return;
        }
        if self.open.len() < MAX_DEPTH {
            self.open.push(name.to_owned());
        }
    }

    fn close(&mut self, name: &str) {
        if let Some((dropped, depth)) = &mut self.dropped {
            if dropped == name {
                *depth -= 1;
                if *depth == 0 {
                    self.dropped = None;
                    if !DROPPED.contains(&name) && !INLINE.contains(&name) {
                        self.space();
                    }
                }
            }
            return;
        }
        let Some(position) = self.open.iter().rposition(|open| open == name) else {
            if name == "p" {
                self.space();
            }
            return;
        };
        if INLINE.contains(&name) {
            // A block within it stays open.
            self.open.remove(position);
        } else {
            self.open.truncate(position);
            self.space();
        }
    }

    fn drops(&self, name: &str) -> bool {
        DROPPED.contains(&name)
            || (METADATA.contains(&name) && (self.out.trim().is_empty() || name != "title"))
    }

    fn space(&mut self) {
        if !self.ends_in_space {
            self.out.push(' ');
            self.ends_in_space = true;
        }
    }

    fn push(&mut self, piece: &str) {
        if self.dropped.is_some() {
            return;
        }
        for letter in piece.chars() {
            match letter {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' => self.space(),
                letter => {
                    self.out.push(letter);
                    self.ends_in_space = false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
