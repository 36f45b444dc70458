//! Answering the questions that a plan has for the store, inside the writer's transaction.

use model::plan::Question;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::layout::quoted;
use super::reads;

/// One answer for each question, in order.
pub(super) fn answer(
    conn: &Connection,
    schema: &model::schema::Schema,
    questions: &[Question],
) -> rusqlite::Result<Vec<bool>> {
    questions.iter().map(|question| answer_one(conn, schema, question)).collect()
}

fn answer_one(
    conn: &Connection,
    schema: &model::schema::Schema,
    question: &Question,
) -> rusqlite::Result<bool> {
    match question {
        Question::Holds { row, is_stored: true, condition } => reads::holds_stored(conn, row, condition),
        Question::Holds { row, is_stored: false, condition } => reads::holds_virtual(conn, row, condition),
        Question::AllExist { collection_id, ids } => match schema.by_id(collection_id) {
            Some(collection) => all_exist(conn, &collection.name, ids),
            None => Ok(false),
        },
        Question::IdIsFree { collection, id, ignore_case } => {
            let collate = if *ignore_case { " COLLATE NOCASE" } else { "" };
            let sql = format!("SELECT 1 FROM {} WHERE `id` = ?1{collate} LIMIT 1", quoted(&collection.name));
            Ok(conn.prepare_cached(&sql)?.query_row([id], |_| Ok(())).optional()?.is_none())
        }
        Question::HasOther { collection, id } => {
            let sql = format!("SELECT 1 FROM {} WHERE `id` != ?1 LIMIT 1", quoted(&collection.name));
            Ok(conn.prepare_cached(&sql)?.query_row([id], |_| Ok(())).optional()?.is_some())
        }
    }
}

/// Ids are without duplicates, so that counting those found tells.
fn all_exist(conn: &Connection, table: &str, ids: &[String]) -> rusqlite::Result<bool> {
    let table = quoted(table);
    if let [id] = ids {
        let sql = format!("SELECT 1 FROM {table} WHERE `id` = ?1");
        return Ok(conn.prepare_cached(&sql)?.query_row([id], |_| Ok(())).optional()?.is_some());
    }
    for chunk in ids.chunks(500) {
        let marks = vec!["?"; chunk.len()].join(", ");
        let sql = format!("SELECT count(*) FROM {table} WHERE `id` IN ({marks})");
        let found: i64 = conn.query_row(&sql, params_from_iter(chunk), |row| row.get(0))?;
        if found.unsigned_abs() != chunk.len() as u64 {
            return Ok(false);
        }
    }
    Ok(true)
}
