//! What the SQL of filters needs beyond SQLite's own functions.

use model::filter::semantics::{Cell, geo_distance};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

/// Adds the functions to a connection: every connection that runs rendered filters needs them.
pub fn add_functions(connection: &Connection) -> Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    // The bundled SQLite is built without `acos` and its like; and so it is the evaluator's arithmetic.
    connection.create_scalar_function("_gs_distance", 4, flags, |context| {
        let [lon_a, lat_a, lon_b, lat_b] = [0, 1, 2, 3].map(|index| number(context, index));
        let (Some(lon_a), Some(lat_a), Some(lon_b), Some(lat_b)) = (lon_a, lat_a, lon_b, lat_b) else {
            return Ok(None);
        };
        Ok(geo_distance(lon_a, lat_a, lon_b, lat_b))
    })
}

fn number(context: &Context<'_>, index: usize) -> Option<f64> {
    match context.get_raw(index) {
        ValueRef::Integer(number) => Some(number as f64),
        ValueRef::Real(number) => Some(number),
        ValueRef::Text(text) => Cell::Text(std::str::from_utf8(text).ok()?.into()).to_number(),
        ValueRef::Null | ValueRef::Blob(_) => None,
    }
}
