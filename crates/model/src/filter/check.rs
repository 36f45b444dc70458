//! From the untyped tree to a checked query: operands, comparisons, and the conditions that a
//! client's text brings in.

use std::sync::Arc;

use super::expr::{Class, Comparison, Expr, Fallback, Join, JoinId, JoinKind, Operand, Query, Row, Side};
use super::request::{Macro, RequestValue};
use super::semantics::{Affinity, Cell};
use super::strftime::TimeFormat;
use super::syntax::{self, Node, Sign, Token, TokenKind};
use super::{Filter, FilterError, MAX_COMPARISONS, MAX_JOINS, Scope, scope};
use crate::collection::Collection;
use crate::schema::Schema;

/// The contract's bound on the arguments of `strftime`.
const MAX_TIME_ARGUMENTS: usize = 10;

pub(super) fn check(
    schema: &Schema,
    collection: &Collection,
    text: &str,
    scope: Scope,
) -> Result<Filter, FilterError> {
    let node = syntax::parse(text)?;
    for_every_caller(schema, collection, scope, |checker| {
        let expr = checker.whole(&node)?;
        Ok(Query { joins: std::mem::take(&mut checker.joins), expr })
    })
    .map(|(guest, callers)| Filter::new(guest, callers))
}

/// Checks for a guest, and, where the text names what only some auth collections have, once for each
/// of these. What is wrong for one of them alone lets nobody of it pass.
fn for_every_caller(
    schema: &Schema,
    collection: &Collection,
    scope: Scope,
    mut build: impl FnMut(&mut Checker<'_>) -> Result<Query, FilterError>,
) -> Result<(Query, Vec<(String, Query)>), FilterError> {
    let mut checker = Checker::new(schema, collection, scope);
    let guest = build(&mut checker)?;
    let mut callers = Vec::new();
    if checker.names_caller {
        for caller in schema.collections().filter(|collection| collection.is_auth()) {
            let mut checker = Checker::new(schema, collection, scope);
            checker.caller = Some(caller.clone());
            let query = build(&mut checker).unwrap_or_else(|_| Query::fixed(false));
            callers.push((caller.id.clone(), query));
        }
    }
    Ok((guest, callers))
}

/// One text under way.
pub(super) struct Checker<'s> {
    pub(super) schema: &'s Schema,
    /// Whose record is judged, and whose fields the body has.
    pub(super) base: Arc<Collection>,
    /// The row of that record.
    pub(super) own: Row,
    pub(super) scope: Scope,
    /// The collection of the signed-in record.
    pub(super) caller: Option<Arc<Collection>>,
    /// Whether the text names something of the signed-in record that depends on its collection.
    pub(super) names_caller: bool,
    pub(super) joins: Vec<Join>,
    space: u16,
    spaces: u16,
    comparisons: usize,
}

/// Where the joins of an operand go.
pub(super) enum Target<'a> {
    /// Among those that the whole text shares.
    Shared,
    /// Among those of one [`Expr::Never`].
    Private(&'a mut Vec<Join>),
}

/// An operand with what the comparison needs to know of it.
pub(super) struct Resolved {
    pub(super) side: Side,
    /// Whether one record gives several values.
    pub(super) multi: bool,
    /// The row whose email this is, when only visible ones may be compared.
    pub(super) email_of: Option<(Row, Arc<Collection>)>,
}

impl<'s> Checker<'s> {
    pub(super) fn new(schema: &'s Schema, collection: &Collection, scope: Scope) -> Checker<'s> {
        let base = match schema.by_id(&collection.id) {
            Some(stored) if std::ptr::eq(&**stored, collection) => stored.clone(),
            _ => Arc::new(collection.clone()),
        };
        Checker {
            schema,
            base,
            own: Row::Own,
            scope,
            caller: None,
            names_caller: false,
            joins: Vec::new(),
            space: 0,
            spaces: 0,
            comparisons: 0,
        }
    }

    /// The whole condition: the text's own, and the list rules of what it joins.
    fn whole(&mut self, node: &Node) -> Result<Expr, FilterError> {
        let own = self.node(node)?;
        let mut parts = vec![own];
        self.list_rules(&mut parts)?;
        Ok(scope::place(all(parts), &self.joins))
    }

    /// What a client may compare of joined records: only of those that it may list. A row of NULLs
    /// passes.
    pub(super) fn list_rules(&mut self, parts: &mut Vec<Expr>) -> Result<(), FilterError> {
        if self.scope == Scope::Rule {
            return Ok(());
        }
        for position in 0..self.joins.len() {
            let join = JoinId(position as u16);
            let Some(collection) = self.joins[position].kind.collection().cloned() else { continue };
            let Some(rule) = collection.rules.list.as_deref().filter(|rule| !rule.is_empty()) else {
                continue;
            };
            let rule = self.list_rule(&syntax::parse(rule)?, join, collection.clone())?;
            parts.push(Expr::Any(vec![Expr::Missing(join), rule]));
        }
        Ok(())
    }

    fn list_rule(
        &mut self,
        rule: &Node,
        join: JoinId,
        collection: Arc<Collection>,
    ) -> Result<Expr, FilterError> {
        self.spaces += 1;
        let space = std::mem::replace(&mut self.space, self.spaces);
        let base = std::mem::replace(&mut self.base, collection);
        let own = std::mem::replace(&mut self.own, Row::Joined(join));
        let scope = std::mem::replace(&mut self.scope, Scope::Rule);
        let comparisons = std::mem::take(&mut self.comparisons);
        let expr = self.node(rule);
        (self.space, self.base, self.own, self.scope) = (space, base, own, scope);
        self.comparisons = comparisons;
        expr
    }

    fn node(&mut self, node: &Node) -> Result<Expr, FilterError> {
        match node {
            Node::Compare { left, sign, right } => {
                self.comparisons += 1;
                if self.comparisons > MAX_COMPARISONS {
                    return Err(FilterError::new("max filter expressions limit reached"));
                }
                self.comparison(left, *sign, right)
            }
            Node::All(nodes) => Ok(Expr::All(self.nodes(nodes)?)),
            Node::Any(nodes) => Ok(Expr::Any(self.nodes(nodes)?)),
        }
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<Vec<Expr>, FilterError> {
        nodes.iter().map(|node| self.node(node)).collect()
    }

    fn comparison(&mut self, left: &Token, sign: Sign, right: &Token) -> Result<Expr, FilterError> {
        let one = self.side("left", left, &mut Target::Shared)?;
        let two = self.side("right", right, &mut Target::Shared)?;
        let mut parts = vec![Expr::Compare(Comparison {
            left: one.side.clone(),
            operator: sign.operator,
            right: two.side.clone(),
        })];
        if !sign.any && (one.multi || two.multi) {
            let mut joins = Vec::new();
            let mut violated = |checker: &mut Self, token: &Token, resolved: &Resolved, which| {
                if resolved.multi {
                    // Each side walks its own rows, also where both follow one path.
                    let mut own = Vec::new();
                    let offset = joins.len();
                    let side = checker.side(which, token, &mut Target::Private(&mut own))?.side;
                    let side = Side { class: Class::Column, ..side };
                    joins.extend(own);
                    Ok(shifted(side, &mut joins[offset..], offset))
                } else {
                    Ok(as_other(&resolved.side))
                }
            };
            let left = violated(self, left, &one, "left")?;
            let right = violated(self, right, &two, "right")?;
            parts.push(Expr::Never { joins, violation: Comparison { left, operator: sign.operator, right } });
        }
        for (row, collection) in [one.email_of, two.email_of].into_iter().flatten() {
            parts.push(visible_email(row, &collection));
        }
        Ok(all(parts))
    }

    fn side(&mut self, which: &str, token: &Token, target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        self.operand(token, target).map_err(|error| {
            let mut literal = String::new();
            crate::json::write_string(&token.text, &mut literal);
            FilterError(format!("invalid {which} operand {literal} - {error}"))
        })
    }

    fn operand(&mut self, token: &Token, target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        match &token.kind {
            TokenKind::Text => Ok(parameter(Cell::Text(token.text.clone().into()))),
            TokenKind::Number(number) => Ok(parameter(Cell::Real(*number))),
            TokenKind::Function(arguments) => self.function(&token.text, arguments, target),
            TokenKind::Identifier => match Macro::named(&token.text) {
                Some(word) => Ok(Resolved::value(RequestValue::Macro(word))),
                None => self.path(&token.text, target).or_else(|error| keyword(&token.text).ok_or(error)),
            },
        }
    }

    fn function(
        &mut self,
        name: &str,
        arguments: &[Token],
        target: &mut Target<'_>,
    ) -> Result<Resolved, FilterError> {
        match name {
            "geoDistance" => self.geo_distance(arguments, target),
            "strftime" => self.strftime(arguments, target),
            _ => {
                let mut quoted = String::new();
                crate::json::write_string(name, &mut quoted);
                Err(FilterError(format!("unknown function {quoted}")))
            }
        }
    }

    fn geo_distance(
        &mut self,
        arguments: &[Token],
        target: &mut Target<'_>,
    ) -> Result<Resolved, FilterError> {
        let count = arguments.len();
        if count != 4 {
            return Err(FilterError(format!("[geoDistance] expected 4 arguments, got {count}")));
        }
        let mut operands = Vec::with_capacity(4);
        for (position, argument) in arguments.iter().enumerate() {
            if !matches!(argument.kind, TokenKind::Identifier | TokenKind::Number(_)) {
                let text = format!("[geoDistance] argument {position} must be an identifier or number");
                return Err(FilterError(text));
            }
            let resolved = self.operand(argument, target).map_err(|error| {
                FilterError(format!("[geoDistance] failed to resolve argument {position}: {error}"))
            })?;
            operands.push(resolved.side.operand);
        }
        let operands: [Operand; 4] =
            operands.try_into().map_err(|_| FilterError::new("[geoDistance] expected 4 arguments"))?;
        // Several rows of an argument are matched as with `?`, whatever the sign.
        Ok(Resolved {
            side: Side {
                operand: Operand::GeoDistance(Box::new(operands)),
                class: Class::Column,
                fallback: Fallback::Never,
            },
            multi: false,
            email_of: None,
        })
    }

    fn strftime(&mut self, arguments: &[Token], target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        let fail = |text: String| Err(FilterError(format!("[strftime] {text}")));
        let Some((format, rest)) = arguments.split_first() else {
            return fail("expected at least 1 arguments, got 0".to_owned());
        };
        let count = arguments.len();
        if count > MAX_TIME_ARGUMENTS {
            return fail(format!("too many arguments (max allowed {MAX_TIME_ARGUMENTS}, got {count})"));
        }
        if format.kind != TokenKind::Text {
            return fail("expects the first argument to be a format string".to_owned());
        }
        let mut multi = false;
        let mut time = None;
        if let Some(argument) = rest.first() {
            if matches!(argument.kind, TokenKind::Function(_)) {
                return fail("expects the second argument to be of a valid time-value type".to_owned());
            }
            let resolved = self.operand(argument, target).map_err(|error| {
                FilterError(format!("[strftime] failed to resolve time-value argument: {error}"))
            })?;
            multi = resolved.multi;
            time = Some(resolved.side.operand);
        }
        let mut modifiers = Vec::new();
        for (position, argument) in rest.iter().skip(1).enumerate() {
            if argument.kind != TokenKind::Text {
                return fail(format!("invalid modifier argument {position} - can be only string"));
            }
            modifiers.push(argument.text.clone());
        }
        let call = TimeFormat { format: format.text.clone(), time, modifiers };
        Ok(Resolved {
            side: Side {
                operand: Operand::Time(Box::new(call)),
                class: Class::Column,
                fallback: Fallback::Always,
            },
            multi,
            email_of: None,
        })
    }

    /// A join: the same one where there is one already.
    pub(super) fn join(&mut self, kind: JoinKind, target: &mut Target<'_>) -> Result<JoinId, FilterError> {
        let space = self.space;
        match target {
            Target::Private(joins) => {
                joins.push(Join { kind, space });
                Ok(JoinId(JoinId::PRIVATE + joins.len() as u16 - 1))
            }
            Target::Shared => {
                let same = |join: &Join| join.space == space && join.kind.is_same(&kind);
                if let Some(position) = self.joins.iter().position(same) {
                    return Ok(JoinId(position as u16));
                }
                self.may_join(&kind)?;
                if self.joins.len() >= MAX_JOINS {
                    return Err(FilterError::new("too many joined collections"));
                }
                self.joins.push(Join { kind, space });
                Ok(JoinId(self.joins.len() as u16 - 1))
            }
        }
    }

    /// A client may not join a collection that only superusers list.
    fn may_join(&self, kind: &JoinKind) -> Result<(), FilterError> {
        match kind.collection() {
            Some(collection) if self.scope == Scope::Client && collection.rules.list.is_none() => {
                let text = "fields can be accessed only when allowHiddenFields is enabled or by superusers";
                Err(FilterError(format!("\"{}\" {text}", collection.name)))
            }
            _ => Ok(()),
        }
    }
}

impl Resolved {
    pub(super) fn value(value: RequestValue) -> Resolved {
        Resolved {
            side: Side {
                operand: Operand::Request(value),
                class: Class::Parameter,
                fallback: Fallback::Auto,
            },
            multi: false,
            email_of: None,
        }
    }

    pub(super) fn null() -> Resolved {
        Resolved {
            side: Side {
                operand: Operand::Constant(Cell::Null, Affinity::None),
                class: Class::Keyword,
                fallback: Fallback::Auto,
            },
            multi: false,
            email_of: None,
        }
    }
}

fn parameter(cell: Cell<'static>) -> Resolved {
    Resolved {
        side: Side {
            operand: Operand::Constant(cell, Affinity::None),
            class: Class::Parameter,
            fallback: Fallback::Auto,
        },
        multi: false,
        email_of: None,
    }
}

fn keyword(name: &str) -> Option<Resolved> {
    let cell = match name {
        _ if name.eq_ignore_ascii_case("null") => Cell::Null,
        _ if name.eq_ignore_ascii_case("true") => Cell::Integer(1),
        _ if name.eq_ignore_ascii_case("false") => Cell::Integer(0),
        _ => return None,
    };
    let null = Resolved::null();
    Some(Resolved { side: Side { operand: Operand::Constant(cell, Affinity::None), ..null.side }, ..null })
}

/// The side that is not multi-valued, as the check for violations sees it: the contract forgets there
/// how the operand falls back, and takes its parameters for the whole.
fn as_other(side: &Side) -> Side {
    let class = match &side.operand {
        Operand::GeoDistance(arguments) => {
            let any =
                arguments.iter().any(|argument| matches!(argument, Operand::Constant(Cell::Real(_), _)));
            if any { Class::NeverEmpty } else { Class::Column }
        }
        Operand::Time(call) => {
            let time_is_empty = matches!(&call.time, Some(Operand::Constant(cell, _)) if cell.is_empty());
            let any_empty =
                call.format.is_empty() || time_is_empty || call.modifiers.iter().any(String::is_empty);
            if any_empty { Class::Column } else { Class::NeverEmpty }
        }
        _ => side.class,
    };
    Side { operand: side.operand.clone(), class, fallback: Fallback::Auto }
}

/// Renumbers the private joins that start at `offset` among others, and the side that names them.
fn shifted(side: Side, joins: &mut [Join], offset: usize) -> Side {
    if offset == 0 {
        return side;
    }
    let mut renumber = |join: JoinId| {
        if join.is_shared() { join } else { JoinId(join.0 + offset as u16) }
    };
    for join in joins {
        scope::renumber_join(join, &mut renumber);
    }
    let mut side = side;
    scope::renumber_operand(&mut side.operand, &mut renumber);
    side
}

fn visible_email(row: Row, collection: &Collection) -> Expr {
    let Some(column) = super::paths::column(collection, row, "emailVisibility") else {
        return Expr::Fixed(false);
    };
    Expr::Compare(Comparison {
        left: Side { operand: Operand::Column(column), class: Class::Column, fallback: Fallback::Auto },
        operator: super::Operator::Equal,
        right: Side {
            operand: Operand::Constant(Cell::Integer(1), Affinity::None),
            class: Class::Keyword,
            fallback: Fallback::Auto,
        },
    })
}

pub(super) fn all(mut parts: Vec<Expr>) -> Expr {
    match parts.len() {
        1 => parts.remove(0),
        _ => Expr::All(parts),
    }
}
