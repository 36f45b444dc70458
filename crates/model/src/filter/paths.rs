//! From a field path to an operand (CONTRACT §2.7).

use std::sync::Arc;

use super::check::{Checker, Resolved, Target, all};
use super::expr::{Class, Column, Comparison, Expr, Fallback, JoinKind, Key, List, Operand, Row, Side};
use super::request::{Aspect, BodyField, CallerKey, RequestPart, RequestValue};
use super::semantics::{Affinity, Cell, JsonStep};
use super::{FilterError, MAX_HOPS, Operator, Scope};
use crate::collection::Collection;
use crate::field::{Field, FieldKind};

/// What follows the colon of a path's last name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modifier {
    IsSet,
    Changed,
    Length,
    Each,
    Lower,
}

/// A path that is being walked.
struct Walk {
    row: Row,
    collection: Arc<Collection>,
    /// Whether the rows so far are several.
    multi: bool,
    /// Whether a name that is not there is NULL and no error.
    lenient: bool,
}

impl Checker<'_> {
    /// The operand that a path names.
    pub(super) fn path(&mut self, path: &str, target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        if !is_well_formed(path) {
            return Err(FilterError(format!("failed to resolve field {}", quote(path))));
        }
        let names: Vec<&str> = path.split('.').collect();
        match names[0] {
            "@collection" => self.collection_path(path, &names, target),
            "@request" => self.request_path(&names, target),
            _ => {
                let (row, collection) = (self.own, self.base.clone());
                self.walk(Walk { row, collection, multi: false, lenient: false }, &names, target)
            }
        }
    }

    fn collection_path(
        &mut self,
        path: &str,
        names: &[&str],
        target: &mut Target<'_>,
    ) -> Result<Resolved, FilterError> {
        let (name, alias) = names[1].split_once(':').unwrap_or((names[1], ""));
        let collection = self.find_collection(name).ok_or_else(|| {
            FilterError(format!(
                "failed to load collection {} from field path {}",
                quote(names[1]),
                quote(path)
            ))
        })?;
        let kind = JoinKind::Every { collection: collection.clone(), alias: alias.to_owned() };
        let row = Row::Joined(self.join(kind, target)?);
        self.walk(Walk { row, collection, multi: true, lenient: false }, &names[2..], target)
    }

    fn request_path(&mut self, names: &[&str], target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        match names[1] {
            "auth" => self.caller_path(&names[2..], target),
            "body" => self.body_path(&names[2..], target),
            "query" => self.request_value(RequestPart::Query, &names[2..]),
            "headers" => self.request_value(RequestPart::Headers, &names[2..]),
            "context" => self.request_value(RequestPart::Context, &[]),
            _ => self.request_value(RequestPart::Method, &[]),
        }
    }

    fn caller_path(&mut self, names: &[&str], target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        if let [name] = names
            && let Some(key) = CallerKey::named(name)
        {
            return Ok(Resolved::value(RequestValue::Caller(key)));
        }
        self.names_caller = true;
        match self.caller.clone() {
            None => Ok(Resolved::null()),
            Some(collection) => {
                self.walk(Walk { row: Row::Caller, collection, multi: false, lenient: true }, names, target)
            }
        }
    }

    fn body_path(&mut self, names: &[&str], target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        let (name, modifier) = split_modifier(names[0])?;
        let base = self.base.clone();
        let Some(field) = base.field(name) else {
            return self.request_value(RequestPart::Body(BodyField::Other), names);
        };
        if let (Some(relation), true) = (field.relation(), names.len() > 1) {
            let collection = self.find_collection(&relation.collection_id).ok_or_else(|| {
                FilterError(format!("failed to load collection {}", quote(&relation.collection_id)))
            })?;
            let list = List::Body(name.to_owned());
            let row = self.join(JoinKind::Among { list, collection: collection.clone() }, target)?;
            let walk = Walk { row: Row::Joined(row), collection, multi: field.is_multiple(), lenient: true };
            return self.walk(walk, &names[1..], target);
        }
        if names.len() == 1 {
            match modifier {
                Some(Modifier::Each) => return self.body_items(field, target),
                Some(Modifier::Length) => {
                    must_be_multi_capable(field)?;
                    return Ok(body_value(field, Aspect::Length));
                }
                Some(Modifier::Lower) => return Ok(body_value(field, Aspect::Lower)),
                Some(Modifier::Changed) => return self.changed(field, target),
                Some(Modifier::IsSet) | None => {}
            }
        }
        let kind = match field.kind {
            FieldKind::Json(_) => BodyField::Json,
            FieldKind::GeoPoint => BodyField::GeoPoint,
            _ => BodyField::Other,
        };
        self.request_value(RequestPart::Body(kind), names)
    }

    fn body_items(&mut self, field: &Field, target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        must_be_multi_capable(field)?;
        let item = self.join(JoinKind::Items(List::Body(field.name.clone())), target)?;
        Ok(Resolved {
            side: Side { operand: Operand::Item(item), class: Class::NeverEmpty, fallback: Fallback::Auto },
            multi: field.is_multiple(),
            email_of: None,
        })
    }

    /// `@request.body.f:changed`: whether it is set and differs from what the record holds.
    fn changed(&mut self, field: &Field, target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        let name = field.name.as_str();
        let is_set = format!("{name}:isset");
        let compare =
            |left: Side, operator: Operator, right: Side| Expr::Compare(Comparison { left, operator, right });
        let truth = Side {
            operand: Operand::Constant(Cell::Integer(1), Affinity::None),
            class: Class::Keyword,
            fallback: Fallback::Auto,
        };
        let set = self.body_path(&[&is_set], target)?.side;
        let submitted = self.body_path(&[name], target)?.side;
        let stored = self.path(name, target)?.side;
        let condition =
            all(vec![compare(set, Operator::Equal, truth), compare(submitted, Operator::NotEqual, stored)]);
        Ok(Resolved {
            side: Side {
                operand: Operand::Truth(Box::new(condition)),
                class: Class::Column,
                fallback: Fallback::Never,
            },
            multi: false,
            email_of: None,
        })
    }

    fn request_value(&mut self, part: RequestPart, names: &[&str]) -> Result<Resolved, FilterError> {
        let mut path: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut aspect = Aspect::Value;
        if let Some(last) = path.last_mut() {
            let (name, modifier) = split_modifier(last)?;
            aspect = match modifier {
                None => Aspect::Value,
                Some(Modifier::IsSet) => Aspect::IsSet,
                Some(Modifier::Lower) => Aspect::Lower,
                Some(_) => return Err(FilterError(format!("invalid modifier sequence {last}"))),
            };
            *last = name.to_owned();
        }
        let numeric = path
            .last()
            .and_then(|name| self.base.field(name))
            .is_some_and(|field| matches!(field.kind, FieldKind::Number(_)));
        let mut resolved = Resolved::value(RequestValue::Field { part, path, aspect, numeric });
        if aspect == Aspect::IsSet {
            resolved.side.class = Class::Keyword;
        }
        Ok(resolved)
    }

    fn walk(
        &mut self,
        mut walk: Walk,
        names: &[&str],
        target: &mut Target<'_>,
    ) -> Result<Resolved, FilterError> {
        for (hop, name) in names.iter().enumerate() {
            if hop + 1 == names.len() {
                return self.last(&walk, name, target);
            }
            let collection = walk.collection.clone();
            let field = collection.field(name);
            if let Some(field) = field {
                self.may_name(field)?;
                if matches!(field.kind, FieldKind::Json(_) | FieldKind::GeoPoint) {
                    return json_path(&walk, field, &names[hop + 1..]);
                }
            }
            if hop >= MAX_HOPS {
                return Err(FilterError(format!("max nested relations reached for field {}", quote(name))));
            }
            let Some(field) = field else {
                match self.back(&walk, name, target) {
                    Ok(next) => walk = next,
                    Err(_) if walk.lenient => return Ok(Resolved::null()),
                    Err(error) => return Err(error),
                }
                continue;
            };
            let Some(relation) = field.relation() else {
                return Err(FilterError(format!("field {} is not a valid relation", quote(name))));
            };
            let Some(pointed) = self.find_collection(&relation.collection_id) else {
                return Err(FilterError(format!("failed to load field {} collection", quote(name))));
            };
            // The id of what a single relation points to is the relation itself.
            if !field.is_multiple() && hop + 2 == names.len() && names[hop + 1] == "id" {
                return self.last(&walk, name, target);
            }
            walk = self.follow(&walk, field, pointed, target)?;
        }
        Err(FilterError::new("failed to resolve field \"\""))
    }

    fn follow(
        &mut self,
        walk: &Walk,
        field: &Field,
        pointed: Arc<Collection>,
        target: &mut Target<'_>,
    ) -> Result<Walk, FilterError> {
        let column = self.column_of(walk, field)?;
        let multiple = field.is_multiple();
        let row = if multiple {
            let item = self.join(JoinKind::Items(List::Column(column)), target)?;
            self.join(JoinKind::Record { item, collection: pointed.clone() }, target)?
        } else {
            self.join(JoinKind::Relation { from: Key::Column(column), collection: pointed.clone() }, target)?
        };
        Ok(Walk {
            row: Row::Joined(row),
            collection: pointed,
            multi: walk.multi || multiple,
            lenient: walk.lenient,
        })
    }

    /// `<collection>_via_<relation>`.
    fn back(&mut self, walk: &Walk, name: &str, target: &mut Target<'_>) -> Result<Walk, FilterError> {
        let split = name
            .rsplit_once("_via_")
            .filter(|(collection, field)| !collection.is_empty() && !field.is_empty() && !name.contains(':'));
        let Some((collection_name, field_name)) = split else {
            return Err(FilterError(format!("failed to resolve field {}", quote(name))));
        };
        let collection = self.find_collection(collection_name).ok_or_else(|| {
            FilterError(format!("failed to load back relation field {} collection", quote(name)))
        })?;
        let field = collection
            .field(field_name)
            .ok_or_else(|| FilterError(format!("missing back relation field {}", quote(field_name))))?;
        let relation = field
            .relation()
            .ok_or_else(|| FilterError(format!("invalid back relation field {}", quote(field_name))))?;
        if field.hidden && self.scope == Scope::Client {
            return Err(FilterError(format!("non-filterable back relation field {}", quote(field_name))));
        }
        if relation.collection_id != walk.collection.id {
            return Err(FilterError(format!(
                "invalid collection reference of a back relation field {}",
                quote(field_name)
            )));
        }
        // The column's row is the join that is about to be made.
        let one = !field.is_multiple() && has_unique_index(&collection, field_name);
        let column = column(&collection, Row::Own, field_name)
            .ok_or_else(|| FilterError(format!("missing back relation field {}", quote(field_name))))?;
        let to = super::paths::column(&walk.collection, walk.row, "id")
            .ok_or_else(|| FilterError::new("unknown field \"id\""))?;
        let kind = JoinKind::Back { to: Key::Column(to), collection: collection.clone(), field: column };
        let row = Row::Joined(self.join(kind, target)?);
        Ok(Walk { row, collection: collection.clone(), multi: walk.multi || !one, lenient: walk.lenient })
    }

    fn last(&mut self, walk: &Walk, name: &str, target: &mut Target<'_>) -> Result<Resolved, FilterError> {
        let (name, modifier) = split_modifier(name)?;
        let collection = walk.collection.clone();
        let Some(field) = collection.field(name) else {
            if walk.lenient {
                return Ok(Resolved::null());
            }
            return Err(FilterError(format!("unknown field {}", quote(name))));
        };
        self.may_name(field)?;
        let column = self.column_of(walk, field)?;
        let mut multi = walk.multi;
        let mut fallback = Fallback::Auto;
        let operand = match modifier {
            Some(Modifier::Length) if is_multi_capable(field) => Operand::Length(column),
            Some(Modifier::Each) if is_multi_capable(field) => {
                multi |= field.is_multiple();
                Operand::Item(self.join(JoinKind::Items(List::Column(column)), target)?)
            }
            _ => {
                let plain = if matches!(field.kind, FieldKind::Json(_)) {
                    fallback = Fallback::Never;
                    Operand::Json(column, Vec::new())
                } else {
                    Operand::Column(column)
                };
                if modifier == Some(Modifier::Lower) { Operand::Lower(Box::new(plain)) } else { plain }
            }
        };
        let is_email = field.name == "email" && collection.is_auth() && self.scope == Scope::Client;
        Ok(Resolved {
            side: Side { operand, class: Class::Column, fallback },
            multi,
            email_of: is_email.then(|| (walk.row, collection.clone())),
        })
    }

    fn column_of(&self, walk: &Walk, field: &Field) -> Result<Column, FilterError> {
        column(&walk.collection, walk.row, &field.name)
            .ok_or_else(|| FilterError(format!("unknown field {}", quote(&field.name))))
    }

    fn may_name(&self, field: &Field) -> Result<(), FilterError> {
        if field.hidden && self.scope == Scope::Client {
            return Err(FilterError(format!("non-filterable field {}", quote(&field.name))));
        }
        Ok(())
    }

    /// The collection under check may be newer than the schema's.
    fn find_collection(&self, id_or_name: &str) -> Option<Arc<Collection>> {
        if id_or_name == self.base.name || id_or_name == self.base.id {
            return Some(self.base.clone());
        }
        self.schema.find(id_or_name).cloned()
    }
}

/// The column of a field in a row.
pub(super) fn column(collection: &Collection, row: Row, name: &str) -> Option<Column> {
    let index = collection.field_index(name)?;
    let field = &collection.fields[index];
    let multiple = field.is_multiple();
    let affinity = match &field.kind {
        FieldKind::Number(_) | FieldKind::Bool | FieldKind::Json(_) | FieldKind::GeoPoint => {
            Affinity::Numeric
        }
        _ if multiple => Affinity::Numeric,
        _ => Affinity::Text,
    };
    Some(Column {
        row,
        name: field.name.clone(),
        index,
        affinity,
        nullable: collection.is_view() || matches!(field.kind, FieldKind::Json(_)),
        is_id: field.is_primary_key() && !collection.is_view(),
        multiple,
    })
}

fn json_path(walk: &Walk, field: &Field, names: &[&str]) -> Result<Resolved, FilterError> {
    let mut steps = Vec::with_capacity(names.len());
    for name in names {
        // The contract drops what cannot be in a column's name.
        let name: String = name.chars().filter(|next| *next != ':').collect();
        if name.is_empty() {
            return Err(FilterError(format!("invalid JSON path in field {}", quote(&field.name))));
        }
        let is_index = name.bytes().all(|byte| byte.is_ascii_digit());
        steps.push(match name.parse() {
            Ok(index) if is_index => JsonStep::Index(index),
            _ => JsonStep::Key(name),
        });
    }
    let column = column(&walk.collection, walk.row, &field.name)
        .ok_or_else(|| FilterError(format!("unknown field {}", quote(&field.name))))?;
    Ok(Resolved {
        side: Side { operand: Operand::Json(column, steps), class: Class::Column, fallback: Fallback::Never },
        multi: walk.multi,
        email_of: None,
    })
}

fn body_value(field: &Field, aspect: Aspect) -> Resolved {
    let kind = match field.kind {
        FieldKind::Json(_) => BodyField::Json,
        FieldKind::GeoPoint => BodyField::GeoPoint,
        _ => BodyField::Other,
    };
    Resolved::value(RequestValue::Field {
        part: RequestPart::Body(kind),
        path: vec![field.name.clone()],
        aspect,
        numeric: false,
    })
}

fn is_multi_capable(field: &Field) -> bool {
    matches!(field.kind, FieldKind::Select(_) | FieldKind::File(_) | FieldKind::Relation(_))
}

fn must_be_multi_capable(field: &Field) -> Result<(), FilterError> {
    if is_multi_capable(field) {
        return Ok(());
    }
    Err(FilterError(format!("field {} doesn't support multivalue operations", quote(&field.name))))
}

/// The last name of a path and what follows its colon. A name with two colons is taken whole.
fn split_modifier(name: &str) -> Result<(&str, Option<Modifier>), FilterError> {
    let Some((plain, modifier)) = name.split_once(':') else { return Ok((name, None)) };
    if modifier.contains(':') {
        return Ok((name, None));
    }
    let modifier = match modifier {
        "isset" => Modifier::IsSet,
        "changed" => Modifier::Changed,
        "length" => Modifier::Length,
        "each" => Modifier::Each,
        "lower" => Modifier::Lower,
        _ => return Err(FilterError(format!("unknown modifier in {}", quote(name)))),
    };
    Ok((plain, Some(modifier)))
}

/// The forms of a path that mean anything at all.
fn is_well_formed(path: &str) -> bool {
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let is_tail = |text: &str| {
        !text.is_empty()
            && !text.ends_with(['.', ':'])
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':'))
    };
    if let Some(rest) = path.strip_prefix("@request.") {
        let tail = ["auth.", "body.", "query.", "headers."].iter().find_map(|part| rest.strip_prefix(part));
        return matches!(rest, "context" | "method") || tail.is_some_and(is_tail);
    }
    if let Some(rest) = path.strip_prefix("@collection.") {
        let Some((collection, tail)) = rest.split_once('.') else { return false };
        let (name, alias) = collection.split_once(':').unwrap_or((collection, "_"));
        return is_word(name) && is_word(alias) && is_tail(tail);
    }
    let first = path.bytes().next();
    is_tail(path) && first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether one index makes the field's values unique by itself. One with a condition counts too (seen).
fn has_unique_index(collection: &Collection, field: &str) -> bool {
    let is_of_field = |name: &str| name.eq_ignore_ascii_case(field);
    collection.indexes.iter().any(|index| unique_column(index).is_some_and(is_of_field))
}

/// The only column of a `CREATE UNIQUE INDEX`.
fn unique_column(index: &str) -> Option<&str> {
    let (head, rest) = index.split_once('(')?;
    let mut words = head.split_whitespace();
    let mut next_is = |word: &str| words.next().is_some_and(|next| next.eq_ignore_ascii_case(word));
    if !next_is("CREATE") || !next_is("UNIQUE") {
        return None;
    }
    let (columns, _) = rest.split_once(')')?;
    if columns.contains([',', '(']) {
        return None;
    }
    let name = columns.split_whitespace().next()?;
    Some(name.trim_matches(['`', '"', '[', ']', '\'']))
}

fn quote(text: &str) -> String {
    let mut quoted = String::new();
    crate::json::write_string(text, &mut quoted);
    quoted
}
