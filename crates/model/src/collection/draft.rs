//! A collection on its way: as submitted, completed by the server, not yet checked.

use rand::Rng;

use super::defaults::{complete_auth_indexes, complete_fields};
use super::index::{self, Index};
use super::view::Trial;
use super::{AuthOptions, Collection, CollectionKind, Rules, ViewOptions};
use crate::field;
use crate::field::draft::FieldDraft;
use crate::field::list;
use crate::json::shape::{Misshapen, Names, load_member};
use crate::json::{Json, JsonObject};
use crate::schema::Schema;

/// A submitted collection. It has the options of every type, because a body may set all of them;
/// those of other types are dropped at the end.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) type_name: String,
    pub(super) system: bool,
    pub(super) rules: Rules,
    pub(super) fields: Vec<FieldDraft>,
    pub(super) indexes: Vec<String>,
    pub(super) created: String,
    pub(super) updated: String,
    pub(super) auth: AuthOptions,
    pub(super) view: ViewOptions,
}

impl Draft {
    /// A collection as it is, to be changed.
    pub(super) fn of(collection: &Collection) -> Draft {
        let (auth, view) = match &collection.kind {
            CollectionKind::Base => (AuthOptions::default(), ViewOptions::default()),
            CollectionKind::Auth(auth) => (AuthOptions::clone(auth), ViewOptions::default()),
            CollectionKind::View(view) => (AuthOptions::default(), view.clone()),
        };
        Draft {
            id: collection.id.clone(),
            name: collection.name.clone(),
            type_name: collection.type_name().to_owned(),
            system: collection.system,
            rules: collection.rules.clone(),
            fields: collection.fields.iter().cloned().map(FieldDraft::new).collect(),
            indexes: collection.indexes.clone(),
            created: collection.created.clone(),
            updated: collection.updated.clone(),
            auth,
            view,
        }
    }

    /// Merges a body: absent members stay, `null` empties, option objects merge key by key, lists are
    /// replaced.
    pub(super) fn load(&mut self, body: &JsonObject) -> Result<(), Misshapen> {
        let exact = Names::Exact;
        load_member(body, "id", exact, &mut self.id)?;
        load_member(body, "name", exact, &mut self.name)?;
        load_member(body, "type", exact, &mut self.type_name)?;
        load_member(body, "system", exact, &mut self.system)?;
        load_member(body, "listRule", exact, &mut self.rules.list)?;
        load_member(body, "viewRule", exact, &mut self.rules.view)?;
        load_member(body, "createRule", exact, &mut self.rules.create)?;
        load_member(body, "updateRule", exact, &mut self.rules.update)?;
        load_member(body, "deleteRule", exact, &mut self.rules.delete)?;
        load_member(body, "indexes", exact, &mut self.indexes)?;
        load_date(body, "created", &mut self.created)?;
        load_date(body, "updated", &mut self.updated)?;
        if let Some(fields) = body.get("fields") {
            self.fields = list::collect(field::json::read_list(fields)?);
        }
        load_options(body, &mut self.auth)?;
        load_member(body, "viewQuery", exact, &mut self.view.query)
    }

    /// Adds and forces what the server wants of every collection of the type.
    pub(super) fn complete(&mut self) {
        if self.type_name.is_empty() {
            "base".clone_into(&mut self.type_name);
        }
        if matches!(self.type_name.as_str(), "base" | "auth") {
            let is_auth = self.is_auth();
            complete_fields(&mut self.fields, is_auth);
        }
        if self.is_auth() {
            complete_auth_indexes(&mut self.indexes, &self.name, &self.id);
            self.unset_missing_mapped_fields();
        }
        if self.name == Collection::SUPERUSERS {
            self.normalise_superusers();
        }
        for statement in &mut self.indexes {
            *statement = index::for_table(statement, &self.name);
        }
    }

    /// Whether records can sign in.
    pub(super) fn is_auth(&self) -> bool {
        self.type_name == "auth"
    }

    /// Whether this is a stored SELECT.
    pub(super) fn is_view(&self) -> bool {
        self.type_name == "view"
    }

    /// What is known of a view's query as long as no store has tried it.
    pub(super) fn untried(&self, schema: &Schema, rng: &mut impl Rng) -> Trial {
        if self.is_view() && !self.view.query.is_empty() {
            Trial::untried(schema, &self.view.query, rng)
        } else {
            Trial::default()
        }
    }

    /// A view's fields are those of its query, whatever was submitted.
    pub(super) fn take_fields(&mut self, trial: &Trial) {
        if self.is_view() {
            self.fields = trial.fields.iter().cloned().map(FieldDraft::new).collect();
        }
    }

    /// The id that a collection of this type and name gets when it is created.
    pub(super) fn deterministic_id(&self) -> String {
        let checksum = crc32fast::hash(format!("{}{}", self.type_name, self.name).as_bytes());
        format!("pbc_{checksum}")
    }

    /// Changes the id, also where the names of indexes hold it.
    pub(super) fn rename_id(&mut self, id: String) {
        for statement in &mut self.indexes {
            let Some(mut index) = Index::parse(statement) else { continue };
            if index.name.contains(&self.id) {
                index.name = index.name.replace(&self.id, &id);
                *statement = index.render();
            }
        }
        self.id = id;
    }

    /// The collection. Options of other types and of an unknown type are dropped.
    pub(super) fn into_collection(self) -> Collection {
        let kind = match self.type_name.as_str() {
            "auth" => CollectionKind::Auth(Box::new(self.auth)),
            "view" => CollectionKind::View(self.view),
            _ => CollectionKind::Base,
        };
        Collection {
            id: self.id,
            name: self.name,
            system: self.system,
            rules: self.rules,
            fields: self.fields.into_iter().map(|draft| draft.field).collect(),
            indexes: self.indexes,
            created: self.created,
            updated: self.updated,
            kind,
        }
    }

    fn unset_missing_mapped_fields(&mut self) {
        let mapped = &mut self.auth.oauth2.mapped_fields;
        for name in [&mut mapped.id, &mut mapped.name, &mut mapped.username, &mut mapped.avatar_url] {
            if !self.fields.iter().any(|draft| draft.field.name == *name) {
                name.clear();
            }
        }
    }

    /// Superusers can always sign in by password, and by no other service.
    fn normalise_superusers(&mut self) {
        self.auth.oauth2.enabled = false;
        self.auth.oauth2.providers.clear();
        self.auth.password_auth.enabled = true;
        if self.auth.otp.enabled {
            self.auth.mfa.enabled = true;
        }
    }
}

fn load_date(body: &JsonObject, name: &str, date: &mut String) -> Result<(), Misshapen> {
    let mut text = String::new();
    load_member(body, name, Names::Exact, &mut text)?;
    if body.contains_key(name) {
        *date = field::json::date_text(&text);
    }
    Ok(())
}

fn load_options(body: &JsonObject, auth: &mut AuthOptions) -> Result<(), Misshapen> {
    use crate::json::shape::Load;
    auth.load(&Json::Object(body.clone()), Names::Exact)
}
