//! Numbers.

use super::Checked;
use crate::errors::FieldError;
use crate::field::NumberOptions;
use crate::record::number::in_message;
use crate::value::Value;

/// The range is not checked for 0: a zero is an unset number.
pub(super) fn validate(options: &NumberOptions, is_required: bool, value: &Value) -> Checked {
    let Value::Number(number) = *value else { return Ok(()) };
    if !number.is_finite() {
        let message = "The submitted number is not properly formatted.";
        return Err(FieldError::new("validation_not_a_number", message));
    }
    if number == 0.0 {
        return if is_required { Err(FieldError::required()) } else { Ok(()) };
    }
    if options.only_int && !is_int(number) {
        return Err(FieldError::new("validation_only_int_constraint", "Decimal numbers are not allowed."));
    }
    if let Some(min) = options.min.filter(|min| number < *min) {
        let message = format!("Must be greater or equal than {}.", in_message(min));
        return Err(FieldError::new("validation_min_number_constraint", message).with("min", min));
    }
    if let Some(max) = options.max.filter(|max| number > *max) {
        let message = format!("Must be less or equal than {}.", in_message(max));
        return Err(FieldError::new("validation_max_number_constraint", message).with("max", max));
    }
    Ok(())
}

/// Whether an integer of 64 bits has this value.
fn is_int(number: f64) -> bool {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number)
}
