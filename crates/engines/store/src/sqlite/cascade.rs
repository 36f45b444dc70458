//! What goes with a deleted record (CONTRACT §4.8): references to it are emptied, or the records that
//! hold them go too, or the whole deletion is refused.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use model::collection::Collection;
use model::context::{Caller, RequestContext};
use model::plan::release::{AUTH_SATELLITES, Released, release};
use model::record::Record;
use model::schema::{Reference, Schema};
use model::step::{Access, Why};
use model::value::Value;
use rusqlite::{Connection, params_from_iter};

use super::apply::{Effects, StepFailure};
use super::layout::{self, quoted, value_to_sql};
use super::rows;

/// Deletes a record and all that must go with it.
pub(super) fn delete(
    conn: &Connection,
    access: &Access,
    record: Record,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    let schema = effects.schema.clone();
    let mut cascade =
        Cascade { conn, access, schema: &schema, effects, gone: HashSet::new(), queue: VecDeque::new() };
    cascade.queue.push_back(record);
    cascade.run()
}

/// Deletes all records of a collection with their cascades.
pub(super) fn truncate(
    conn: &Connection,
    collection: &Arc<Collection>,
    effects: &mut Effects,
) -> Result<(), StepFailure> {
    if collection.is_superusers() {
        return Err(Why::LastSuperuser.into());
    }
    let schema = effects.schema.clone();
    let is_alone = schema.references_to(&collection.id).is_empty() && !collection.is_auth();
    if is_alone && !effects.wanted.covers(collection) {
        let count = conn.execute(&format!("DELETE FROM {}", quoted(&collection.name)), [])?;
        effects.count(&collection.id, -i64::try_from(count).unwrap_or(i64::MAX));
        return Ok(());
    }
    let access = Access {
        context: Arc::new(RequestContext { caller: Caller::Guest, ..RequestContext::guest(effects.now) }),
        check_rule: false,
    };
    let sql = format!(
        "SELECT {} FROM {} AS r ORDER BY r.rowid",
        layout::columns(collection, "r"),
        quoted(&collection.name)
    );
    let records = select(conn, collection, &sql, &[])?;
    let mut cascade = Cascade {
        conn,
        access: &access,
        schema: &schema,
        effects,
        gone: HashSet::new(),
        queue: records.into(),
    };
    cascade.run()
}

struct Cascade<'a> {
    conn: &'a Connection,
    access: &'a Access,
    schema: &'a Schema,
    effects: &'a mut Effects,
    /// Collection and record ids of what is deleted already: relations may form circles.
    gone: HashSet<(String, String)>,
    queue: VecDeque<Record>,
}

impl Cascade<'_> {
    fn run(&mut self) -> Result<(), StepFailure> {
        while let Some(record) = self.queue.pop_front() {
            let key = (record.collection.id.clone(), record.id().to_owned());
            if self.gone.contains(&key) {
                continue;
            }
            self.gone.insert(key);
            self.remove(&record)?;
            for reference in self.schema.references_to(&record.collection.id) {
                if !reference.collection.is_view() {
                    self.release(&record, reference)?;
                }
            }
            if record.collection.is_auth() {
                self.queue_satellites(&record)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, record: &Record) -> Result<(), StepFailure> {
        if rows::delete(self.conn, record)? {
            self.effects.count(&record.collection.id, -1);
            self.effects.emit(self.conn, self.access, Some(record), None)?;
        }
        Ok(())
    }

    /// Takes the record out of one relation field of all who hold it.
    fn release(&mut self, record: &Record, reference: &Reference) -> Result<(), StepFailure> {
        let field = &reference.collection.fields[reference.field];
        let Some(options) = field.relation() else { return Ok(()) };
        if options.cascade_delete && self.can_delete_at_once(reference) {
            return self.delete_at_once(record, reference);
        }
        for holder in self.holders(record, reference)? {
            match release(&holder, reference.field, |id| id == record.id())? {
                Released::Goes => self.queue.push_back(holder),
                Released::Stays(after) => {
                    rows::update(self.conn, &holder, &after)?;
                    self.effects.emit(self.conn, self.access, Some(&holder), Some(&after))?;
                }
            }
        }
        Ok(())
    }

    /// Whether the rows that go need not be looked at one by one: nobody follows them, and nothing refers
    /// to them.
    fn can_delete_at_once(&self, reference: &Reference) -> bool {
        let collection = &reference.collection;
        !self.effects.wanted.covers(collection)
            && !collection.is_auth()
            && !collection.fields[reference.field].is_multiple()
            && self.schema.references_to(&collection.id).is_empty()
    }

    fn delete_at_once(&mut self, record: &Record, reference: &Reference) -> Result<(), StepFailure> {
        let collection = &reference.collection;
        let field = &collection.fields[reference.field];
        let sql = format!("DELETE FROM {} WHERE {} = ?", quoted(&collection.name), quoted(&field.name));
        let count = super::apply::execute(self.conn, &sql, &[record.get("id")])?;
        self.effects.count(&collection.id, -i64::try_from(count).unwrap_or(i64::MAX));
        Ok(())
    }

    fn holders(&self, record: &Record, reference: &Reference) -> rusqlite::Result<Vec<Record>> {
        let collection = &reference.collection;
        let field = &collection.fields[reference.field];
        let column = format!("r.{}", quoted(&field.name));
        let condition = if field.is_multiple() {
            // The text test is quick and drops most rows before their JSON is looked into.
            format!(
                "instr({column}, ?1) > 0 AND EXISTS (SELECT 1 FROM json_each({column}) AS item WHERE item.value = ?1)"
            )
        } else {
            format!("{column} = ?1")
        };
        let sql = format!(
            "SELECT {} FROM {} AS r WHERE {condition} ORDER BY r.rowid",
            layout::columns(collection, "r"),
            quoted(&collection.name)
        );
        select(self.conn, collection, &sql, &[record.get("id")])
    }

    fn queue_satellites(&mut self, record: &Record) -> rusqlite::Result<()> {
        for name in AUTH_SATELLITES {
            let Some(collection) = self.schema.by_name(name) else { continue };
            let sql = format!(
                "SELECT {} FROM {} AS r WHERE r.`collectionRef` = ?1 AND r.`recordRef` = ?2",
                layout::columns(collection, "r"),
                quoted(name)
            );
            let owner = Value::Text(record.collection.id.clone());
            self.queue.extend(select(self.conn, collection, &sql, &[&owner, record.get("id")])?);
        }
        Ok(())
    }
}

fn select(
    conn: &Connection,
    collection: &Arc<Collection>,
    sql: &str,
    values: &[&Value],
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement
        .query_map(params_from_iter(values.iter().map(|value| value_to_sql(value))), |row| {
            layout::record_from_row(collection, row, 0)
        })?;
    rows.collect()
}
