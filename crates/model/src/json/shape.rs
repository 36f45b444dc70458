//! Structs with a fixed JSON shape: one table of members says how a struct is read from a submitted
//! body and how it is written, in the contract's key order.
//!
//! Reading merges: absent members keep their value, `null` sets the zero value, an object goes
//! member by member, an array replaces the list.

use super::{Json, JsonObject, write_number, write_string};

/// The body is not of the contract's shape: text where a number belongs, an array for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the JSON does not have the expected shape")]
pub struct Misshapen;

/// How the names of members are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// As they stand.
    Exact,
    /// In any case; the same name twice is an error.
    AnyCase,
}

/// Whether secrets are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// What a client sees: without secrets.
    Api,
    /// What the store keeps: with secrets.
    Stored,
}

/// A value that a submitted JSON value can be merged onto.
pub trait Load {
    /// Merges `json` onto `self`.
    fn load(&mut self, json: &Json, names: Names) -> Result<(), Misshapen>;

    /// The item of the list so far onto which a submitted item is merged; usually none.
    fn counterpart<'a>(_submitted: &Json, _list: &'a [Self]) -> Option<&'a Self>
    where
        Self: Sized,
    {
        None
    }
}

/// A value with a JSON text.
pub trait Write {
    /// Appends the JSON text.
    fn write(&self, form: Form, out: &mut String);
}

/// Merges one member of an object onto `target`, if the object has it.
pub fn load_member<T: Load>(
    object: &JsonObject,
    name: &str,
    names: Names,
    target: &mut T,
) -> Result<(), Misshapen> {
    match find_member(object, name, names)? {
        Some(value) => target.load(value, names),
        None => Ok(()),
    }
}

fn find_member<'a>(object: &'a JsonObject, name: &str, names: Names) -> Result<Option<&'a Json>, Misshapen> {
    if names == Names::Exact {
        return Ok(object.get(name));
    }
    let mut found = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let first = found.next();
    if found.next().is_some() {
        return Err(Misshapen);
    }
    Ok(first.map(|(_, value)| value))
}

/// Appends `"name":` after a comma unless the object has just been opened.
pub fn write_key(name: &str, out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
    write_string(name, out);
    out.push(':');
}

/// Lists the members of a struct, in the order in which they are written: `name => field`. A member
/// marked `secret` is left out of what clients see and, like `omitempty`, of the store when it is
/// empty; `stored` is left out of what clients see only. Items `by` a member merge onto the item of a
/// list that has the same text there.
macro_rules! json_shape {
    ($type:ty $(, by $key:literal $key_field:ident)? { $($kind:ident $name:literal => $field:ident),* $(,)? }) => {
        impl $crate::json::shape::Load for $type {
            fn load(
                &mut self,
                json: &$crate::json::Json,
                names: $crate::json::shape::Names,
            ) -> Result<(), $crate::json::shape::Misshapen> {
                match json {
                    $crate::json::Json::Null => {
                        *self = Self::default();
                        Ok(())
                    }
                    $crate::json::Json::Object(object) => {
                        $($crate::json::shape::load_member(object, $name, names, &mut self.$field)?;)*
                        Ok(())
                    }
                    _ => Err($crate::json::shape::Misshapen),
                }
            }

            $(fn counterpart<'a>(submitted: &$crate::json::Json, list: &'a [Self]) -> Option<&'a Self> {
                let key = submitted.get($key)?.as_str()?;
                list.iter().find(|item| item.$key_field == key)
            })?
        }

        impl $crate::json::shape::Write for $type {
            fn write(&self, form: $crate::json::shape::Form, out: &mut String) {
                out.push('{');
                $(if $crate::json::shape::shown!($kind, self.$field, form) {
                    $crate::json::shape::write_key($name, out);
                    $crate::json::shape::Write::write(&self.$field, form, out);
                })*
                out.push('}');
            }
        }
    };
}
pub(crate) use json_shape;

macro_rules! shown {
    (plain, $value:expr, $form:ident) => {
        true
    };
    (secret, $value:expr, $form:ident) => {
        $form == $crate::json::shape::Form::Stored && !$value.is_empty()
    };
    (stored, $value:expr, $form:ident) => {
        $form == $crate::json::shape::Form::Stored
    };
}
pub(crate) use shown;

impl Load for String {
    fn load(&mut self, json: &Json, _names: Names) -> Result<(), Misshapen> {
        match json {
            Json::Null => self.clear(),
            Json::Text(text) => self.clone_from(text),
            _ => return Err(Misshapen),
        }
        Ok(())
    }
}

impl Write for String {
    fn write(&self, _form: Form, out: &mut String) {
        write_string(self, out);
    }
}

impl Load for bool {
    fn load(&mut self, json: &Json, _names: Names) -> Result<(), Misshapen> {
        match json {
            Json::Null => *self = false,
            Json::Bool(value) => *self = *value,
            _ => return Err(Misshapen),
        }
        Ok(())
    }
}

impl Write for bool {
    fn write(&self, _form: Form, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Load for i64 {
    fn load(&mut self, json: &Json, _names: Names) -> Result<(), Misshapen> {
        match json {
            Json::Null => *self = 0,
            Json::Number(number) => *self = integer(*number).ok_or(Misshapen)?,
            _ => return Err(Misshapen),
        }
        Ok(())
    }
}

impl Write for i64 {
    fn write(&self, _form: Form, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

impl Load for f64 {
    fn load(&mut self, json: &Json, _names: Names) -> Result<(), Misshapen> {
        match json {
            Json::Null => *self = 0.0,
            Json::Number(number) => *self = *number,
            _ => return Err(Misshapen),
        }
        Ok(())
    }
}

impl Write for f64 {
    fn write(&self, _form: Form, out: &mut String) {
        write_number(*self, out);
    }
}

impl Load for JsonObject {
    fn load(&mut self, json: &Json, _names: Names) -> Result<(), Misshapen> {
        match json {
            Json::Null => self.clear(),
            Json::Object(object) => self.extend(object.clone()),
            _ => return Err(Misshapen),
        }
        Ok(())
    }
}

impl Write for JsonObject {
    fn write(&self, _form: Form, out: &mut String) {
        Json::Object(self.clone()).write(out);
    }
}

impl<T: Load + Default> Load for Option<T> {
    fn load(&mut self, json: &Json, names: Names) -> Result<(), Misshapen> {
        match json {
            Json::Null => {
                *self = None;
                Ok(())
            }
            value => self.get_or_insert_default().load(value, names),
        }
    }
}

impl<T: Write> Write for Option<T> {
    fn write(&self, form: Form, out: &mut String) {
        match self {
            Some(value) => value.write(form, out),
            None => out.push_str("null"),
        }
    }
}

impl<T: Load + Default + Clone> Load for Vec<T> {
    fn load(&mut self, json: &Json, names: Names) -> Result<(), Misshapen> {
        let items = match json {
            Json::Null => &[],
            Json::Array(items) => items.as_slice(),
            _ => return Err(Misshapen),
        };
        let mut loaded = Vec::with_capacity(items.len());
        for item in items {
            let mut value = T::counterpart(item, self).cloned().unwrap_or_default();
            value.load(item, names)?;
            loaded.push(value);
        }
        *self = loaded;
        Ok(())
    }
}

impl<T: Write> Write for Vec<T> {
    fn write(&self, form: Form, out: &mut String) {
        out.push('[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            item.write(form, out);
        }
        out.push(']');
    }
}

/// A number that is whole and fits 64 bits.
pub(crate) fn integer(number: f64) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && (-BEYOND..BEYOND).contains(&number)).then_some(number as i64)
}
