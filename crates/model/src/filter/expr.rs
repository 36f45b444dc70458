//! The checked expression: what every adapter renders and the evaluator judges.
//!
//! A record passes when *some choice of joined rows* makes the condition true. Joins form a tree that
//! hangs from the record (and from the request); each yields one row at least, a row of NULLs when
//! nothing is there. Equal paths share a join, so two `?` conditions on one path speak of the same
//! row. [`Expr::Exists`] says where a choice is made, as deep in the condition as it can stand.

use std::sync::Arc;

use super::Operator;
use super::request::RequestValue;
use super::semantics::{Affinity, Cell, JsonStep};
use super::strftime::TimeFormat;
use crate::collection::Collection;

/// A condition with the joins that it speaks of.
#[derive(Debug, Clone)]
pub struct Query {
    /// Parents stand before their children. At most [`super::MAX_JOINS`].
    pub joins: Vec<Join>,
    /// The condition.
    pub expr: Expr,
}

/// A condition.
#[derive(Debug, Clone)]
pub enum Expr {
    /// Decided already.
    Fixed(bool),
    /// All of these.
    All(Vec<Expr>),
    /// Any of these.
    Any(Vec<Expr>),
    /// One comparison.
    Compare(Comparison),
    /// Some rows of these joins make the body true.
    Exists {
        /// Which joins.
        joins: JoinSet,
        /// What must hold of the rows.
        body: Box<Expr>,
    },
    /// No rows of these joins make the comparison *false*: what a sign without `?` asks of several
    /// rows besides one that makes it true.
    Never {
        /// Joins of this condition alone, numbered from [`JoinId::PRIVATE`].
        joins: Vec<Join>,
        /// What must not be false.
        violation: Comparison,
    },
    /// The join has no row but that of NULLs.
    Missing(JoinId),
}

/// `left operator right`.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The left side.
    pub left: Side,
    /// What is asked.
    pub operator: Operator,
    /// The right side.
    pub right: Side,
}

/// One side of a comparison.
#[derive(Debug, Clone)]
pub struct Side {
    /// Where the value comes from.
    pub operand: Operand,
    /// How much is known of it before there is a row.
    pub class: Class,
    /// How `=` and `!=` treat NULL and the empty text.
    pub fallback: Fallback,
}

/// How much is known of an operand before there is a row. This, not the value alone, decides what `=`
/// means (CONTRACT §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A column or an expression over columns.
    Column,
    /// `null`, `true` or `false`.
    Keyword,
    /// A literal, a macro or a value of the request.
    Parameter,
    /// Never taken for empty, though it comes with a row.
    NeverEmpty,
    /// A finished pattern for LIKE.
    Pattern,
}

/// How `=` and `!=` treat NULL and the empty text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// They are the same.
    Auto,
    /// They differ: JSON and distances.
    Never,
    /// They are the same, and the operand may be either even when it has parameters.
    Always,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub enum Operand {
    /// A value known when the text was checked, or since the request came.
    Constant(Cell<'static>, Affinity),
    /// A value of the request, or the clock's.
    Request(RequestValue),
    /// A column as it is stored.
    Column(Column),
    /// The value at a path into a JSON column; the whole value when the path is empty.
    Json(Column, Vec<JsonStep>),
    /// How many items a multi-valued column holds.
    Length(Column),
    /// The item that an [`JoinKind::Items`] join is at.
    Item(JoinId),
    /// `LOWER`.
    Lower(Box<Operand>),
    /// Whether a condition holds, as 1 or 0: `:changed`.
    Truth(Box<Expr>),
    /// `geoDistance(lonA, latA, lonB, latB)`.
    GeoDistance(Box<[Operand; 4]>),
    /// `strftime`.
    Time(Box<TimeFormat>),
}

/// A column of some row.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Which row.
    pub row: Row,
    /// The field's name.
    pub name: String,
    /// The field's position in its collection.
    pub index: usize,
    /// What the column does to what it is compared with.
    pub affinity: Affinity,
    /// Whether a row that is there may hold NULL.
    pub nullable: bool,
    /// Whether this is the record id: never empty.
    pub is_id: bool,
    /// Whether the field holds a list.
    pub multiple: bool,
}

/// A row that columns are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The record that is judged.
    Own,
    /// The row of a join.
    Joined(JoinId),
    /// The signed-in record.
    Caller,
}

/// The number of a join: below [`JoinId::PRIVATE`] in [`Query::joins`], from there on in the
/// [`Expr::Never`] around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinId(pub u16);

/// A set of the joins of a [`Query`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JoinSet(pub u64);

/// More rows to speak of.
#[derive(Debug, Clone)]
pub struct Join {
    /// Which rows.
    pub kind: JoinKind,
    /// Joins of different spaces are never shared: 0 is the text's own, others are those of the list
    /// rules that a client's filter brings in.
    pub space: u16,
}

/// Which rows a join yields.
#[derive(Debug, Clone)]
pub enum JoinKind {
    /// The record that a single relation points to.
    Relation {
        /// The relation's value.
        from: Key,
        /// Where it points.
        collection: Arc<Collection>,
    },
    /// The items of a list.
    Items(List),
    /// The record whose id an item is.
    Record {
        /// An [`JoinKind::Items`] join.
        item: JoinId,
        /// Where the record is.
        collection: Arc<Collection>,
    },
    /// The records that point back through a relation.
    Back {
        /// The id that they point to.
        to: Key,
        /// Where they are.
        collection: Arc<Collection>,
        /// The relation: a column of the joined row itself, whatever its `row` says.
        field: Column,
    },
    /// All records of a collection.
    Every {
        /// Where they are.
        collection: Arc<Collection>,
        /// Another alias is another row.
        alias: String,
    },
    /// The records whose ids the body submits for a relation.
    Among {
        /// The ids.
        list: List,
        /// Where they are.
        collection: Arc<Collection>,
    },
}

/// What a join looks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// The value of a column.
    Column(Column),
    /// A value known since the request came.
    Constant(Cell<'static>),
}

/// A list of items.
#[derive(Debug, Clone, PartialEq)]
pub enum List {
    /// What a column holds; a single value is a list of itself.
    Column(Column),
    /// What the body submits under a key; nothing when it does not.
    Body(String),
    /// JSON text of an array, since the request came.
    Constant(String),
}

// === impl Query ===

impl Query {
    /// A condition that is decided.
    pub fn fixed(value: bool) -> Query {
        Query { joins: Vec::new(), expr: Expr::Fixed(value) }
    }

    /// Whether records are looked for that point back at the judged one. Nothing can point at a record
    /// that is not stored yet, and the contract lets no create rule pass that asks for it (seen).
    pub fn looks_back(&self) -> bool {
        self.joins.iter().any(|join| {
            matches!(&join.kind, JoinKind::Back { to: Key::Column(column), .. } if column.row == Row::Own)
        })
    }
}

// === impl JoinId ===

impl JoinId {
    /// The first number of the joins of an [`Expr::Never`].
    pub const PRIVATE: u16 = 64;

    /// Whether this is a join of a [`Query`].
    pub fn is_shared(self) -> bool {
        self.0 < JoinId::PRIVATE
    }

    /// The join, out of a query's and those of the [`Expr::Never`] around.
    pub fn find<'a>(self, shared: &'a [Join], private: &'a [Join]) -> Option<&'a Join> {
        match self.0.checked_sub(JoinId::PRIVATE) {
            None => shared.get(usize::from(self.0)),
            Some(position) => private.get(usize::from(position)),
        }
    }
}

// === impl JoinSet ===

impl JoinSet {
    /// No joins.
    pub const EMPTY: JoinSet = JoinSet(0);

    /// Just this one; a private join is in no set.
    pub fn of(join: JoinId) -> JoinSet {
        if join.is_shared() { JoinSet(1 << join.0) } else { JoinSet::EMPTY }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it is among them.
    pub fn contains(self, join: JoinId) -> bool {
        !self.and(JoinSet::of(join)).is_empty()
    }

    /// Those in either.
    pub fn or(self, other: JoinSet) -> JoinSet {
        JoinSet(self.0 | other.0)
    }

    /// Those in both.
    pub fn and(self, other: JoinSet) -> JoinSet {
        JoinSet(self.0 & other.0)
    }

    /// Those not in the other.
    pub fn without(self, other: JoinSet) -> JoinSet {
        JoinSet(self.0 & !other.0)
    }

    /// One by one, parents first.
    pub fn iter(self) -> impl Iterator<Item = JoinId> {
        (0..JoinId::PRIVATE).map(JoinId).filter(move |join| self.contains(*join))
    }
}

// === impl JoinKind ===

impl JoinKind {
    /// The row that this one hangs from.
    pub fn parent(&self) -> Option<Row> {
        match self {
            JoinKind::Relation { from: Key::Column(column), .. }
            | JoinKind::Back { to: Key::Column(column), .. }
            | JoinKind::Items(List::Column(column)) => Some(column.row),
            JoinKind::Record { item, .. } => Some(Row::Joined(*item)),
            JoinKind::Relation { .. }
            | JoinKind::Back { .. }
            | JoinKind::Items(_)
            | JoinKind::Every { .. }
            | JoinKind::Among { .. } => None,
        }
    }

    /// The collection that the rows are records of.
    pub fn collection(&self) -> Option<&Arc<Collection>> {
        match self {
            JoinKind::Items(_) => None,
            JoinKind::Relation { collection, .. }
            | JoinKind::Record { collection, .. }
            | JoinKind::Back { collection, .. }
            | JoinKind::Every { collection, .. }
            | JoinKind::Among { collection, .. } => Some(collection),
        }
    }

    /// Whether two joins are the same rows.
    pub(super) fn is_same(&self, other: &JoinKind) -> bool {
        let same_collection = match (self.collection(), other.collection()) {
            (Some(one), Some(two)) => one.id == two.id,
            (None, None) => true,
            _ => false,
        };
        same_collection
            && match (self, other) {
                (JoinKind::Relation { from: one, .. }, JoinKind::Relation { from: two, .. }) => one == two,
                (JoinKind::Items(one), JoinKind::Items(two)) => one == two,
                (JoinKind::Record { item: one, .. }, JoinKind::Record { item: two, .. }) => one == two,
                (
                    JoinKind::Back { to: one, field: left, .. },
                    JoinKind::Back { to: two, field: right, .. },
                ) => one == two && left.name == right.name,
                (JoinKind::Every { alias: one, .. }, JoinKind::Every { alias: two, .. }) => one == two,
                (JoinKind::Among { list: one, .. }, JoinKind::Among { list: two, .. }) => one == two,
                _ => false,
            }
    }
}

// === impl Comparison ===

impl Comparison {
    /// What `=` and `!=` mean here. `left` and `right` are the values where they are known without a
    /// row; for a column they do not matter.
    pub fn equality(&self, left: &Cell<'_>, right: &Cell<'_>) -> Equality {
        let (one, two) = (&self.left, &self.right);
        if one.fallback == Fallback::Never || two.fallback == Fallback::Never {
            return Equality::Is;
        }
        match (one.is_empty(left), two.is_empty(right)) {
            (true, true) => Equality::BothEmpty,
            (left_empty, right_empty) if one.is_known(left) || two.is_known(right) => {
                Equality::Direct { left_empty, right_empty }
            }
            (true, false) => Equality::LeftEmpty,
            (false, true) => Equality::RightEmpty,
            (false, false) => Equality::Coalesce,
        }
    }
}

/// What `=` and `!=` mean (CONTRACT §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equality {
    /// `IS`: NULL is only itself.
    Is,
    /// Both sides are known to be empty.
    BothEmpty,
    /// A plain `=`, where a side known to be empty stands for `''`; `!=` is `IS NOT`.
    Direct {
        /// The left side is `''`.
        left_empty: bool,
        /// The right side is `''`.
        right_empty: bool,
    },
    /// The left side is known to be empty: whether the right one is `''` or NULL.
    LeftEmpty,
    /// The right side is known to be empty.
    RightEmpty,
    /// Two columns, each with NULL as `''` and without affinity.
    Coalesce,
}

// === impl Side ===

impl Side {
    fn is_empty(&self, value: &Cell<'_>) -> bool {
        match self.class {
            Class::Keyword => *value == Cell::Null,
            Class::Parameter => self.fallback == Fallback::Auto && value.is_empty(),
            Class::Column | Class::NeverEmpty | Class::Pattern => false,
        }
    }

    fn is_known(&self, value: &Cell<'_>) -> bool {
        match self.class {
            _ if self.fallback == Fallback::Always => false,
            Class::Keyword => *value != Cell::Null,
            Class::Parameter => !value.is_empty(),
            Class::NeverEmpty => true,
            Class::Column | Class::Pattern => false,
        }
    }
}
