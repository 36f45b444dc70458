//! A write as a value: an ordered list of steps, each with its rule and guards (DESIGN §5). What
//! depends on stored rows is not decided by whoever builds a step but by [`crate::plan`], under the
//! store's locks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::collection::Collection;
use crate::context::{Caller, RequestContext};
use crate::errors::FieldErrors;
use crate::json::{Json, JsonObject};
use crate::record::Record;
use crate::record::resolve::Upload;
use crate::settings::Settings;
use crate::time::Timestamp;

/// One atomic change: all steps happen or none. A step sees what those before it wrote.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// In order.
    pub steps: Vec<Step>,
    /// The schema version that the steps were built under, for steps that change the schema: the
    /// batch is refused with [`Guard::SchemaVersion`] when it is no longer the current one.
    pub schema_version: Option<u64>,
    /// A batch that is not carried out by then is refused with [`Why::Deadline`].
    pub deadline: Option<Instant>,
}

/// One step of a batch.
#[derive(Debug, Clone)]
pub enum Step {
    /// Makes a record.
    Create(CreateRecord),
    /// Changes a record.
    Patch(PatchRecord),
    /// Changes the record that the body's `id` names, or makes it where there is none.
    Upsert(UpsertRecord),
    /// Removes a record and what must go with it.
    Delete(DeleteRecord),
    /// Replaces a password hash by another of the same password. Changes nothing that anyone can see,
    /// and does nothing when the record no longer holds the old one.
    ReplacePasswordHash {
        /// The collection's id.
        collection: String,
        /// The record's id.
        id: String,
        /// The hash that was verified.
        from: String,
        /// The hash to hold from now on.
        to: String,
    },
    /// Makes (`before` is none) or changes a collection. Validated by who built it, under the
    /// batch's `schema_version`; a view is validated by the store, which gives it its fields
    /// ([`crate::collection::view`]). Other views follow as far as they can.
    SaveCollection {
        /// The collection as the schema has it.
        before: Option<Arc<Collection>>,
        /// The collection as it shall be.
        after: Arc<Collection>,
    },
    /// Removes a collection and its records.
    DeleteCollection {
        /// The collection as the schema has it.
        collection: Arc<Collection>,
        /// Whether every view must still be one without it.
        check_views: bool,
    },
    /// Removes all records of a collection with their cascades.
    Truncate(Arc<Collection>),
    /// Replaces the settings. Refused with [`Guard::Settings`] when the current ones are not `before`.
    SaveSettings {
        /// The settings that the change was worked out on.
        before: Arc<Settings>,
        /// The settings as they shall be.
        after: Arc<Settings>,
    },
    /// Leaves work to be done later, at least once.
    Enqueue(NewJob),
    /// Notes files that are about to be stored, by their keys among the blobs. The write whose record names
    /// one takes its note away; a file whose note stays belongs to nobody.
    NoteUploads(Vec<String>),
    /// Gives files up: those of these keys whose note is still there will be removed, and no write can name
    /// them any more. Leaves [`StepResult::GivenUp`].
    GiveUpUploads(Vec<String>),
    /// Forgets the notes of files that were removed.
    ForgetUploads(Vec<String>),
    /// Can never be carried out: it stands where a batch has a step that could not be built.
    Impossible,
}

/// Work to be done later.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    queue: String,
    payload: String,
    due: Timestamp,
}

/// A payload that is larger than [`NewJob::MAX_PAYLOAD_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job's payload of {0} bytes is too large")]
pub struct PayloadTooLarge(pub usize);

/// Makes a record from a request's body.
#[derive(Debug, Clone)]
pub struct CreateRecord {
    /// The collection's id.
    pub collection: String,
    /// As sent: modifiers, unknown keys and all.
    pub body: JsonObject,
    /// What hooks set, by field name, over what the body sets. Rules and form checks do not see it, since it is
    /// not the client's; field checks do.
    pub set_by_hooks: JsonObject,
    /// What the password fields will hold, by field name, made beforehand from the body's plain texts.
    pub password_hashes: BTreeMap<String, String>,
    /// The files that came with it.
    pub uploads: Uploads,
    /// Who asks for it, and how.
    pub access: Access,
}

/// Files that came with a body, noted and stored before the write. The write is refused with
/// [`Guard::Upload`] when its record would name one whose note is gone.
#[derive(Debug, Clone, Default)]
pub struct Uploads {
    /// In the order in which they came.
    pub files: Vec<Upload>,
    /// The id under which they are stored: that of the record, also of a new one whose body gives none.
    pub record_id: String,
}

/// Changes a record, or makes it.
#[derive(Debug, Clone)]
pub struct UpsertRecord {
    /// What to do when there is no record of the id.
    pub create: CreateRecord,
    /// What to do when there is one; its `id` is the body's.
    pub patch: PatchRecord,
}

/// Changes a record by a request's body.
#[derive(Debug, Clone)]
pub struct PatchRecord {
    /// The collection's id.
    pub collection: String,
    /// The record's id.
    pub id: String,
    /// As sent.
    pub body: JsonObject,
    /// What hooks set, as in [`CreateRecord::set_by_hooks`].
    pub set_by_hooks: JsonObject,
    /// What the password fields will hold, by field name, made beforehand from the body's plain texts.
    pub password_hashes: BTreeMap<String, String>,
    /// The body's `oldPassword` was right for this hash. The step is refused with
    /// [`Guard::PasswordHash`] when the record no longer holds it.
    pub old_password_for: Option<String>,
    /// The files that came with it.
    pub uploads: Uploads,
    /// Who asks for it, and how.
    pub access: Access,
}

/// Removes a record.
#[derive(Debug, Clone)]
pub struct DeleteRecord {
    /// The collection's id.
    pub collection: String,
    /// The record's id.
    pub id: String,
    /// What the rule sees as the request's body.
    pub body: JsonObject,
    /// Who asks for it, and how.
    pub access: Access,
}

/// Whether the collection's rule applies, and what it sees.
#[derive(Debug, Clone)]
pub struct Access {
    /// What rules see of the request.
    pub context: Arc<RequestContext>,
    /// False for the server's own writes, such as those of the command line.
    pub check_rule: bool,
}

/// What a step that was carried out left.
#[derive(Debug, Clone)]
pub enum StepResult {
    /// The record as stored now.
    Record(Record),
    /// The files that nobody can name any more, by key.
    GivenUp(Vec<String>),
    /// The record or collection is gone, or there is nothing to show.
    Done,
}

/// A batch that was not carried out, and why. Nothing of it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The position of the first step that could not be carried out.
    pub step: usize,
    /// What was wrong with it.
    pub why: Why,
}

/// Why a step was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// No such record, or none that the caller may know of.
    NotFound,
    /// The rule says no.
    RuleDenied,
    /// The values are wrong: all of them that are.
    Fields(FieldErrors),
    /// A relation that must not be empty points here.
    RestrictedBy {
        /// The collection that holds the relation.
        collection: String,
        /// The relation field.
        field: String,
    },
    /// What the step relied on no longer holds.
    Guard(Guard),
    /// A change of the schema that the store's engine refuses, in its own words.
    Engine(String),
    /// The last superuser cannot go.
    LastSuperuser,
    /// The step is [`Step::Impossible`].
    Impossible,
    /// The batch's deadline has passed.
    Deadline,
}

/// What a step may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The schema was changed since the batch was built: build it again.
    SchemaVersion,
    /// The settings were changed since the step was built: build it again.
    Settings,
    /// The password was changed since the old one was verified: verify again.
    PasswordHash,
    /// A file that came with the body was given up meanwhile: send it again.
    Upload,
}

// === impl WriteBatch ===

impl WriteBatch {
    /// A batch of one step.
    pub fn one(step: Step) -> WriteBatch {
        WriteBatch { steps: vec![step], ..WriteBatch::default() }
    }

    /// Whether a step changes collections: such a batch is a barrier between others.
    pub fn changes_schema(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(step, Step::SaveCollection { .. } | Step::DeleteCollection { .. } | Step::Truncate(_))
        })
    }
}

// === impl NewJob ===

impl NewJob {
    /// Most bytes of a payload as JSON.
    pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

    /// Work for a queue's handler, not before `due`; with `Timestamp(0)` at once. The payload must hold no
    /// secrets: superusers see it, and so do logs.
    pub fn new(queue: impl Into<String>, payload: &Json, due: Timestamp) -> Result<NewJob, PayloadTooLarge> {
        let payload = payload.to_string();
        if payload.len() > NewJob::MAX_PAYLOAD_BYTES {
            return Err(PayloadTooLarge(payload.len()));
        }
        Ok(NewJob { queue: queue.into(), payload, due })
    }

    /// Whose work it is.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// What the handler gets, as JSON.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Not before this instant.
    pub fn due(&self) -> Timestamp {
        self.due
    }
}

// === impl Access ===

impl Access {
    /// The rule applies unless the caller is a superuser.
    pub fn of(context: Arc<RequestContext>) -> Access {
        let check_rule = !context.caller.is_superuser();
        Access { context, check_rule }
    }

    /// Whether the caller may set everything: hidden fields, passwords, `verified`.
    pub fn is_superuser(&self) -> bool {
        !self.check_rule || matches!(self.context.caller, Caller::Superuser(_))
    }
}
