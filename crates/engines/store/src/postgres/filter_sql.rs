//! stub
use super::error::Error;
use super::sql::Sql;
pub(super) use crate::sqlite::filter_sql::{Expected, Root, RootKind};
use model::filter::{Query, Sort};
use model::record::Record;
pub(super) const FUNCTIONS_VERSION: i64 = 1;
pub(super) const FUNCTIONS_SQL: &str = "CREATE OR REPLACE FUNCTION groundswell.json_of(t text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN t IS NULL OR t = '''' THEN NULL ELSE t::jsonb END'";
pub(super) fn push_condition(_query: &Query, _root: Root<'_>, sql: &mut Sql) -> Result<(), Error> {
    sql.push("true");
    Ok(())
}
pub(super) fn push_order_by(_sort: &Sort, root: Root<'_>, sql: &mut Sql) -> Result<(), Error> {
    if root.kind == RootKind::Table {
        sql.push("r._rowid");
    }
    Ok(())
}
pub(super) fn new_row(_record: &Record) -> Sql {
    Sql::new("(SELECT 1)")
}
pub(super) fn former_row(_record: &Record) -> Sql {
    Sql::new("(SELECT 1)")
}
