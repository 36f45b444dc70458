//! What an application is: collections, fields, values, records, rules, the filter language and
//! the planning of a write. No I/O, no clock, no async: everything here is a plain function on plain data.
