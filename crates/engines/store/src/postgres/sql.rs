//! SQL text with its parameters.

use std::error::Error;
use std::fmt::Write as _;

use model::filter::semantics::number_in_text;
use model::json;
use model::value::Value;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::layout::ColumnKind;

/// A statement or a piece of one. Parameters are numbered in the order in which they come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sql {
    /// With `$1`, `$2`, … for the parameters.
    pub text: String,
    /// The parameters, first `$1`.
    pub params: Vec<Param>,
}

/// A parameter. Its type is part of the statement, so that a text is prepared once for each list of types.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// NULL, as text.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `bigint`.
    Integer(i64),
    /// `double precision`.
    Number(f64),
    /// `text`. One that holds NUL can be stored nowhere: it is refused before.
    Text(String),
    /// `text[]`.
    Texts(Vec<String>),
}

// === impl Sql ===

impl Sql {
    /// Begins with a text.
    pub fn new(text: impl Into<String>) -> Sql {
        Sql { text: text.into(), params: Vec::new() }
    }

    /// Appends text.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends another piece; its parameters are numbered after those that are here.
    pub fn append(&mut self, other: Sql) {
        let before = self.params.len();
        let mut rest = other.text.as_str();
        while let Some(at) = rest.find('$') {
            let (text, number) = rest.split_at(at + 1);
            self.text.push_str(text);
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            if let Ok(number) = number[..digits].parse::<usize>() {
                let _ = write!(self.text, "{}", number + before);
            }
            rest = &number[digits..];
        }
        self.text.push_str(rest);
        self.params.extend(other.params);
    }

    /// Appends a name in quotes, in the form in which the database has it.
    pub fn name(&mut self, name: &str) {
        super::layout::push_identifier(name, &mut self.text);
    }

    /// Appends a parameter.
    pub fn param(&mut self, param: Param) {
        self.params.push(param);
        let _ = write!(self.text, "${}", self.params.len());
    }
}

// === impl Param ===

impl Param {
    /// Its type.
    pub fn pg_type(&self) -> Type {
        match self {
            Param::Null | Param::Text(_) => Type::TEXT,
            Param::Bool(_) => Type::BOOL,
            Param::Integer(_) => Type::INT8,
            Param::Number(_) => Type::FLOAT8,
            Param::Texts(_) => Type::TEXT_ARRAY,
        }
    }

    /// The parameter for a stored value, in a column of this kind.
    pub(super) fn of_value(column: ColumnKind, value: &Value) -> Param {
        match (column, value) {
            (ColumnKind::Bool, value) => Param::Bool(value.as_bool()),
            (_, Value::Null) => Param::Null,
            // Nought has no sign, as an integer has none.
            (_, Value::Number(number)) => Param::Number(*number + 0.0),
            (ColumnKind::Json, Value::Json(text)) => Param::Text(as_stored(text)),
            (_, Value::Text(text) | Value::Json(text)) => Param::Text(text.clone()),
        }
    }
}

/// A JSON text as SQLite's column of this kind keeps it, on which the contract stands: a number in its plainest form.
fn as_stored(text: &str) -> String {
    let is_number =
        text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.' | ' '));
    let number = if is_number { number_in_text(text) } else { None };
    match number.and_then(|number| number.to_number()) {
        Some(number) => {
            let mut plain = String::new();
            json::write_number(number, &mut plain);
            plain
        }
        None => text.to_owned(),
    }
}

impl From<&str> for Param {
    fn from(text: &str) -> Param {
        Param::Text(text.to_owned())
    }
}

impl From<i64> for Param {
    fn from(number: i64) -> Param {
        Param::Integer(number)
    }
}

impl ToSql for Param {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Param::Null => Ok(IsNull::Yes),
            Param::Bool(value) => value.to_sql(ty, out),
            Param::Integer(number) => number.to_sql(ty, out),
            Param::Number(number) => number.to_sql(ty, out),
            Param::Text(text) => text.to_sql(ty, out),
            Param::Texts(texts) => texts.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::TEXT | Type::BOOL | Type::INT8 | Type::FLOAT8 | Type::TEXT_ARRAY)
    }

    to_sql_checked!();
}
