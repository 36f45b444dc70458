//! The collections of a fresh install (CONTRACT §3.1).

use rand::Rng;

use super::defaults::{auth_options, complete_auth_indexes, complete_fields, new_field};
use super::{AuthOptions, Collection, CollectionKind, Rules};
use crate::field::draft::FieldDraft;
use crate::field::{AutodateOptions, Field, FieldKind, FileOptions, PasswordOptions, TextOptions, list};
use crate::time::Timestamp;

const OWN_RECORDS: &str =
    "@request.auth.id != '' && recordRef = @request.auth.id && collectionRef = @request.auth.collectionId";
const SELF: &str = "id = @request.auth.id";

/// The collections in the order of their creation.
pub fn fresh_install(now: Timestamp, rng: &mut impl Rng) -> Vec<Collection> {
    let now = now.to_text();
    vec![
        mfas(&now),
        otps(&now),
        external_auths(&now),
        auth_origins(&now),
        superusers(&now, auth_options(rng)),
        users(&now, auth_options(rng)),
    ]
}

fn mfas(now: &str) -> Collection {
    let indexes = ["CREATE INDEX `idx_mfas_collectionRef_recordRef` ON `_mfas` (collectionRef,recordRef)"];
    system("pbc_2279338944", "_mfas", now, vec![text("method")], &indexes, false)
}

fn otps(now: &str) -> Collection {
    let mut password =
        new_field("password", true, FieldKind::Password(PasswordOptions { cost: 8, ..Default::default() }));
    password.hidden = true;
    let mut sent_to = text("sentTo");
    sent_to.hidden = true;
    sent_to.required = false;
    let indexes = ["CREATE INDEX `idx_otps_collectionRef_recordRef` ON `_otps` (collectionRef, recordRef)"];
    system("pbc_1638494021", "_otps", now, vec![password, sent_to], &indexes, false)
}

fn external_auths(now: &str) -> Collection {
    let indexes = [
        "CREATE UNIQUE INDEX `idx_externalAuths_record_provider` ON `_externalAuths` (collectionRef, recordRef, provider)",
        "CREATE UNIQUE INDEX `idx_externalAuths_collection_provider` ON `_externalAuths` (collectionRef, provider, providerId)",
    ];
    let fields = vec![text("provider"), text("providerId")];
    system("pbc_2281828961", "_externalAuths", now, fields, &indexes, true)
}

fn auth_origins(now: &str) -> Collection {
    let indexes = [
        "CREATE UNIQUE INDEX `idx_authOrigins_unique_pairs` ON `_authOrigins` (collectionRef, recordRef, fingerprint)",
    ];
    system("pbc_4275539003", "_authOrigins", now, vec![text("fingerprint")], &indexes, true)
}

/// A base collection about the sign-ins of records of any auth collection.
fn system(
    id: &str,
    name: &str,
    now: &str,
    own_fields: Vec<Field>,
    indexes: &[&str],
    owners_delete: bool,
) -> Collection {
    let mut fields = vec![text("collectionRef"), text("recordRef")];
    fields.extend(own_fields);
    fields.extend(dates(true));
    let own_records = Some(OWN_RECORDS.to_owned());
    Collection {
        id: id.to_owned(),
        name: name.to_owned(),
        system: true,
        rules: Rules {
            list: own_records.clone(),
            view: own_records.clone(),
            delete: own_records.filter(|_| owners_delete),
            ..Rules::default()
        },
        fields: completed(fields, false),
        indexes: indexes.iter().map(|statement| (*statement).to_owned()).collect(),
        created: now.to_owned(),
        updated: now.to_owned(),
        kind: CollectionKind::Base,
    }
}

fn superusers(now: &str, mut options: AuthOptions) -> Collection {
    options.auth_token.duration = 86_400;
    auth("pbc_3142635823", Collection::SUPERUSERS, now, Vec::from(dates(true)), options)
}

fn users(now: &str, mut options: AuthOptions) -> Collection {
    options.oauth2.mapped_fields.name = "name".to_owned();
    options.oauth2.mapped_fields.avatar_url = "avatar".to_owned();
    let mut name = text("name");
    name.kind = FieldKind::Text(TextOptions { max: 255, ..TextOptions::default() });
    let image_types = ["image/jpeg", "image/png", "image/svg+xml", "image/gif", "image/webp"];
    let avatar = FieldKind::File(FileOptions {
        max_select: 1,
        mime_types: image_types.map(str::to_owned).to_vec(),
        ..FileOptions::default()
    });
    let mut fields = vec![name, new_field("avatar", false, avatar)];
    for field in &mut fields {
        field.system = false;
        field.required = false;
    }
    fields.extend(dates(false));
    let mut users = auth("_pb_users_auth_", "users", now, fields, options);
    users.system = false;
    let own = Some(SELF.to_owned());
    users.rules = Rules {
        list: own.clone(),
        view: own.clone(),
        create: Some(String::new()),
        update: own.clone(),
        delete: own,
    };
    users
}

/// An auth collection: the fields that every one has come first.
fn auth(id: &str, name: &str, now: &str, fields: Vec<Field>, options: AuthOptions) -> Collection {
    let mut indexes = Vec::new();
    complete_auth_indexes(&mut indexes, name, id);
    let mut all = Vec::new();
    complete_fields(&mut all, true);
    all.extend(fields.into_iter().map(FieldDraft::new));
    Collection {
        id: id.to_owned(),
        name: name.to_owned(),
        system: true,
        rules: Rules::default(),
        fields: list::collect(all).into_iter().map(|draft| draft.field).collect(),
        indexes,
        created: now.to_owned(),
        updated: now.to_owned(),
        kind: CollectionKind::Auth(Box::new(options)),
    }
}

fn completed(fields: Vec<Field>, is_auth: bool) -> Vec<Field> {
    let mut drafts = list::collect(fields.into_iter().map(FieldDraft::new));
    complete_fields(&mut drafts, is_auth);
    drafts.into_iter().map(|draft| draft.field).collect()
}

fn text(name: &str) -> Field {
    new_field(name, true, FieldKind::Text(TextOptions::default()))
}

fn dates(is_system: bool) -> [Field; 2] {
    let date = |name: &str, on_update| {
        let kind = FieldKind::Autodate(AutodateOptions { on_create: true, on_update });
        let mut field = new_field(name, false, kind);
        field.system = is_system;
        field
    };
    [date("created", false), date("updated", true)]
}
