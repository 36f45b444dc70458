//! From text to an untyped tree (CONTRACT §2.1).
//!
//! The tree already has the precedence of `&&` over `||`; names in it mean nothing yet. What looks
//! odd here is the contract's: see the quirks in its grammar notes.

mod lexer;

use lexer::{Lexer, Piece};

pub(super) use lexer::{Token, TokenKind};

use super::FilterError;

/// Brackets inside brackets. The contract has no bound; a text that nests deeper is refused, so that
/// no walk over a tree can exhaust the stack.
const MAX_NESTING: usize = 200;

/// A filter before its names are looked up.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// `left sign right`.
    Compare { left: Token, sign: Sign, right: Token },
    /// All of these, two or more.
    All(Vec<Node>),
    /// Any of these, two or more.
    Any(Vec<Node>),
}

/// A comparison sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sign {
    /// What is asked.
    pub(super) operator: super::Operator,
    /// `?`: one of several rows is enough.
    pub(super) any: bool,
}

/// Parses a text.
pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    parse_nested(text, 0)
}

/// What the parser expects next.
enum Step {
    Left,
    Sign(Token),
    Right(Token, Sign),
    Join,
}

#[derive(Clone, Copy, PartialEq)]
enum Join {
    And,
    Or,
}

fn parse_nested(text: &str, depth: usize) -> Result<Node, FilterError> {
    if depth > MAX_NESTING {
        return Err(FilterError::new("too many nested groups"));
    }
    let mut lexer = Lexer::new(text);
    let mut items: Vec<(Join, Node)> = Vec::new();
    let mut join = Join::And;
    let mut step = Step::Left;
    while let Some(piece) = lexer.next_piece()? {
        // A group is taken wherever it stands: it drops an unfinished comparison, and after a
        // finished item it reuses the join seen last.
        if let Piece::Group(inner) = piece {
            items.push((join, parse_nested(inner, depth + 1)?));
            step = Step::Join;
            continue;
        }
        step = match (step, piece) {
            (Step::Left, Piece::Operand(token)) => Step::Sign(token),
            (Step::Sign(left), Piece::Sign(sign)) => Step::Right(left, sign),
            (Step::Right(left, sign), Piece::Operand(right)) => {
                items.push((join, Node::Compare { left, sign, right }));
                Step::Join
            }
            (Step::Join, Piece::And) => {
                join = Join::And;
                Step::Left
            }
            (Step::Join, Piece::Or) => {
                join = Join::Or;
                Step::Left
            }
            (step, piece) => return Err(unexpected(&step, &piece)),
        };
    }
    match step {
        Step::Join => Ok(combine(items)),
        Step::Left if items.is_empty() => Err(FilterError::new("empty filter expression")),
        _ => Err(FilterError::new("invalid or incomplete filter expression")),
    }
}

/// `&&` binds tighter: the items between two `||` belong together.
fn combine(items: Vec<(Join, Node)>) -> Node {
    let mut alternatives: Vec<Vec<Node>> = Vec::new();
    for (join, node) in items {
        match alternatives.last_mut() {
            Some(together) if join == Join::And => together.push(node),
            _ => alternatives.push(vec![node]),
        }
    }
    let any = alternatives.into_iter().map(|together| one_or(together, Node::All)).collect();
    one_or(any, Node::Any)
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match nodes.len() {
        1 => nodes.remove(0),
        _ => many(nodes),
    }
}

fn unexpected(step: &Step, piece: &Piece<'_>) -> FilterError {
    let expected = match step {
        Step::Left => "left operand (identifier, function, text or number)",
        Step::Sign(_) => "a sign operator",
        Step::Right(..) => "right operand (identifier, function text or number)",
        Step::Join => "&& or ||",
    };
    FilterError(format!("expected {expected}, got {piece}"))
}

#[cfg(test)]
mod tests;
