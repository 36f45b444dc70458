//! What a client is told of a unique index that refused a row (CONTRACT §4.7).

use crate::errors::{FieldError, FieldErrors};

/// `validation_not_unique` on every column of the index that was violated. An index on an expression
/// has no columns to name, and the client gets a refusal without field errors.
pub fn unique_errors<S: AsRef<str>>(index_columns: &[S]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for column in index_columns {
        errors.add(column.as_ref(), FieldError::not_unique());
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_the_index_is_named() {
        let mut text = String::new();
        unique_errors(&["b", "a"]).write(&mut text);
        let error = r#"{"code":"validation_not_unique","message":"Value must be unique."}"#;
        assert_eq!(text, format!("{{\"a\":{error},\"b\":{error}}}"));
        assert!(unique_errors::<&str>(&[]).is_empty());
    }
}
