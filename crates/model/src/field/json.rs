//! Fields to and from JSON. A field's members are written in alphabetical order.

use super::draft::FieldDraft;
use super::{
    AutodateOptions, DateOptions, DomainOptions, EditorOptions, Field, FieldKind, FileOptions, JsonOptions,
    NumberOptions, PasswordOptions, Pattern, RelationOptions, SelectOptions, TextOptions,
};
use crate::json::shape::{Load, Misshapen, Names, load_member, write_key};
use crate::json::{Json, JsonObject};
use crate::time::Timestamp;

/// Reads the list of a collection's fields; `null` is an empty list.
pub(crate) fn read_list(json: &Json) -> Result<Vec<FieldDraft>, Misshapen> {
    match json {
        Json::Null => Ok(Vec::new()),
        Json::Array(items) => items.iter().map(read).collect(),
        _ => Err(Misshapen),
    }
}

/// Reads one field. Unknown members are ignored, an unknown type is not.
pub(crate) fn read(json: &Json) -> Result<FieldDraft, Misshapen> {
    let mut options = Options { object: json.as_object().ok_or(Misshapen)?, negative: Vec::new() };
    let type_name: String = options.get("type")?;
    let is_autodate = type_name == "autodate";
    let field = Field {
        kind: read_kind(&type_name, &mut options)?,
        id: options.get("id")?,
        name: options.get("name")?,
        system: options.get("system")?,
        hidden: options.get("hidden")?,
        presentable: options.get("presentable")?,
        required: if is_autodate { false } else { options.get("required")? },
        help: if is_autodate { String::new() } else { options.get("help")? },
    };
    Ok(FieldDraft::with_negative(field, options.negative))
}

fn read_kind(type_name: &str, options: &mut Options<'_>) -> Result<FieldKind, Misshapen> {
    Ok(match type_name {
        "text" => FieldKind::Text(TextOptions {
            min: options.size("min")?,
            max: options.size("max")?,
            pattern: Pattern::new(options.get::<String>("pattern")?),
            autogenerate_pattern: options.get("autogeneratePattern")?,
            primary_key: options.get("primaryKey")?,
        }),
        "editor" => FieldKind::Editor(EditorOptions {
            max_size: options.size("maxSize")?,
            convert_urls: options.get("convertURLs")?,
        }),
        "number" => FieldKind::Number(NumberOptions {
            min: options.get("min")?,
            max: options.get("max")?,
            only_int: options.get("onlyInt")?,
        }),
        "bool" => FieldKind::Bool,
        "email" => FieldKind::Email(read_domains(options)?),
        "url" => FieldKind::Url(read_domains(options)?),
        "date" => FieldKind::Date(DateOptions { min: options.date("min")?, max: options.date("max")? }),
        "autodate" => FieldKind::Autodate(AutodateOptions {
            on_create: options.get("onCreate")?,
            on_update: options.get("onUpdate")?,
        }),
        "select" => FieldKind::Select(SelectOptions {
            values: options.get("values")?,
            max_select: options.size("maxSelect")?,
        }),
        "file" => FieldKind::File(FileOptions {
            max_select: options.size("maxSelect")?,
            max_size: options.size("maxSize")?,
            mime_types: options.get("mimeTypes")?,
            thumbs: options.get("thumbs")?,
            protected: options.get("protected")?,
        }),
        "relation" => FieldKind::Relation(RelationOptions {
            collection_id: options.get("collectionId")?,
            cascade_delete: options.get("cascadeDelete")?,
            min_select: options.size("minSelect")?,
            max_select: options.size("maxSelect")?,
        }),
        "json" => FieldKind::Json(JsonOptions { max_size: options.size("maxSize")? }),
        "password" => FieldKind::Password(PasswordOptions {
            pattern: Pattern::new(options.get::<String>("pattern")?),
            min: options.size("min")?,
            max: options.size("max")?,
            cost: options.size("cost")?,
        }),
        "geoPoint" => FieldKind::GeoPoint,
        _ => return Err(Misshapen),
    })
}

fn read_domains(options: &mut Options<'_>) -> Result<DomainOptions, Misshapen> {
    Ok(DomainOptions {
        except_domains: options.get("exceptDomains")?,
        only_domains: options.get("onlyDomains")?,
    })
}

struct Options<'a> {
    object: &'a JsonObject,
    negative: Vec<(&'static str, i64)>,
}

impl Options<'_> {
    fn get<T: Load + Default>(&self, name: &str) -> Result<T, Misshapen> {
        let mut value = T::default();
        load_member(self.object, name, Names::Exact, &mut value)?;
        Ok(value)
    }

    fn size(&mut self, name: &'static str) -> Result<u64, Misshapen> {
        let number: i64 = self.get(name)?;
        u64::try_from(number).or_else(|_| {
            self.negative.push((name, number));
            Ok(0)
        })
    }

    fn date(&self, name: &str) -> Result<String, Misshapen> {
        let text: String = self.get(name)?;
        Ok(date_text(&text))
    }
}

/// The contract's text of a date, empty for what is none. Stands in for the reader of all accepted
/// forms (CONTRACT §12.5), which comes with the values of records.
pub(crate) fn date_text(text: &str) -> String {
    let civil = text.strip_suffix('Z').unwrap_or(text);
    let Ok(civil) = civil.parse::<jiff::civil::DateTime>() else { return String::new() };
    match jiff::tz::TimeZone::UTC.to_timestamp(civil) {
        Ok(instant) => Timestamp(instant.as_millisecond()).to_text(),
        Err(_) => String::new(),
    }
}

/// Appends a JSON array of fields.
pub(crate) fn write_list(fields: &[Field], out: &mut String) {
    out.push('[');
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(field, out);
    }
    out.push(']');
}

/// Appends a field's JSON object.
pub(crate) fn write(field: &Field, out: &mut String) {
    let mut members = options_of(&field.kind);
    members.push(("id", field.id.as_str().into()));
    members.push(("name", field.name.as_str().into()));
    members.push(("system", field.system.into()));
    members.push(("hidden", field.hidden.into()));
    members.push(("presentable", field.presentable.into()));
    members.push(("type", field.kind.type_name().into()));
    if !matches!(field.kind, FieldKind::Autodate(_)) {
        members.push(("required", field.required.into()));
        members.push(("help", field.help.as_str().into()));
    }
    members.sort_by_key(|(name, _)| *name);
    out.push('{');
    for (name, value) in members {
        write_key(name, out);
        value.write(out);
    }
    out.push('}');
}

fn options_of(kind: &FieldKind) -> Vec<(&'static str, Json)> {
    let mut members = Vec::with_capacity(14);
    match kind {
        FieldKind::Text(options) => members.extend([
            ("min", size(options.min)),
            ("max", size(options.max)),
            ("pattern", options.pattern.as_str().into()),
            ("autogeneratePattern", options.autogenerate_pattern.as_str().into()),
            ("primaryKey", options.primary_key.into()),
        ]),
        FieldKind::Editor(options) => members
            .extend([("maxSize", size(options.max_size)), ("convertURLs", options.convert_urls.into())]),
        FieldKind::Number(options) => members.extend([
            ("min", options.min.map_or(Json::Null, Json::Number)),
            ("max", options.max.map_or(Json::Null, Json::Number)),
            ("onlyInt", options.only_int.into()),
        ]),
        FieldKind::Email(options) | FieldKind::Url(options) => members.extend([
            ("exceptDomains", texts(&options.except_domains)),
            ("onlyDomains", texts(&options.only_domains)),
        ]),
        FieldKind::Date(options) => {
            members.extend([("min", options.min.as_str().into()), ("max", options.max.as_str().into())]);
        }
        FieldKind::Autodate(options) => {
            members.extend([("onCreate", options.on_create.into()), ("onUpdate", options.on_update.into())])
        }
        FieldKind::Select(options) => {
            members.extend([("values", texts(&options.values)), ("maxSelect", size(options.max_select))])
        }
        FieldKind::File(options) => members.extend([
            ("maxSelect", size(options.max_select)),
            ("maxSize", size(options.max_size)),
            ("mimeTypes", texts(&options.mime_types)),
            ("thumbs", texts(&options.thumbs)),
            ("protected", options.protected.into()),
        ]),
        FieldKind::Relation(options) => members.extend([
            ("collectionId", options.collection_id.as_str().into()),
            ("cascadeDelete", options.cascade_delete.into()),
            ("minSelect", size(options.min_select)),
            ("maxSelect", size(options.max_select)),
        ]),
        FieldKind::Json(options) => members.push(("maxSize", size(options.max_size))),
        FieldKind::Password(options) => members.extend([
            ("pattern", options.pattern.as_str().into()),
            ("min", size(options.min)),
            ("max", size(options.max)),
            ("cost", size(options.cost)),
        ]),
        FieldKind::Bool | FieldKind::GeoPoint => {}
    }
    members
}

fn size(number: u64) -> Json {
    Json::Number(number as f64)
}

fn texts(items: &[String]) -> Json {
    Json::Array(items.iter().map(|item| item.as_str().into()).collect())
}
