//! The checks of an auth record's body that come before and instead of the checks of its fields
//! (CONTRACT §5.11).

use super::Record;
use super::resolve::Resolved;
use crate::errors::{FieldError, FieldErrors};

/// What the checks found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FormFindings {
    /// What is wrong; when anything is, the fields are not checked.
    pub errors: FieldErrors,
    /// A password that must be the stored one: if it is not, [`invalid_old_password`] is added.
    pub old_password: Option<OldPasswordCheck>,
}

/// A comparison with the stored hash, which is slow and so is done elsewhere.
#[derive(Clone, PartialEq)]
pub struct OldPasswordCheck {
    /// What the client says is the password.
    pub plain: String,
}

/// The error of `oldPassword` when it is not the stored password.
pub fn invalid_old_password() -> FieldErrors {
    let error = FieldError::new("validation_invalid_old_password", "Missing or invalid old password.");
    FieldErrors::one("oldPassword", error)
}

/// Checks password confirmation, and that what only a manager may change is unchanged. A manager is a
/// superuser or whom the manage rule allows. Finds nothing in other collections.
pub fn check(resolved: &Resolved, old: Option<&Record>, is_manager: bool) -> FormFindings {
    let mut findings = FormFindings::default();
    if !resolved.record.collection.is_auth() {
        return findings;
    }
    let is_new = old.is_none();
    if !is_manager {
        check_managed(resolved, old, &mut findings.errors);
    }
    check_passwords(resolved, is_new, &mut findings.errors);

    let input = &resolved.auth;
    let changes_password = !input.password.is_empty() || !input.password_confirm.is_empty();
    if !is_new && !is_manager && changes_password {
        if input.old_password.is_empty() {
            findings.errors.add("oldPassword", FieldError::required());
        } else {
            findings.old_password = Some(OldPasswordCheck { plain: input.old_password.clone() });
        }
    }
    findings
}

/// `email` may be given once; `verified` never.
fn check_managed(resolved: &Resolved, old: Option<&Record>, errors: &mut FieldErrors) {
    let record = &resolved.record;
    if old.is_some_and(|old| old.get("email").as_str() != record.get("email").as_str()) {
        errors.add("email", FieldError::values_mismatch());
    }
    let was_verified = old.is_some_and(|old| old.get("verified").as_bool());
    if record.get("verified").as_bool() != was_verified {
        errors.add("verified", FieldError::values_mismatch());
    }
}

fn check_passwords(resolved: &Resolved, is_new: bool, errors: &mut FieldErrors) {
    let input = &resolved.auth;
    let (password, confirm) = (input.password.as_str(), input.password_confirm.as_str());
    let has_old = !input.old_password.is_empty();
    if password.is_empty() && (is_new || !confirm.is_empty() || has_old) {
        errors.add("password", FieldError::required());
    }
    if confirm.is_empty() && (is_new || !password.is_empty() || has_old) {
        errors.add("passwordConfirm", FieldError::required());
    } else if confirm != password {
        errors.add("passwordConfirm", FieldError::values_mismatch());
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for OldPasswordCheck {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OldPasswordCheck").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::json::Json;
    use crate::record::resolve::{WriteInput, resolve_body};
    use crate::record::testing::{auth, base};
    use crate::value::Value;

    /// The codes that a body gets, by field, and the old password that is to be compared.
    fn codes(old: Option<&Record>, body: &str, is_manager: bool) -> String {
        let body = Json::parse_first(body.as_bytes()).unwrap();
        let input = WriteInput { body: body.as_object().unwrap(), uploads: &[], is_superuser: false };
        let collection = old.map_or_else(|| auth(Vec::new()), |old| old.collection.clone());
        let resolved = resolve_body(&collection, old, input, &mut StdRng::seed_from_u64(1));
        let findings = check(&resolved, old, is_manager);
        let names = ["email", "oldPassword", "password", "passwordConfirm", "verified"];
        let mut text = String::new();
        findings.errors.write(&mut text);
        let found = names.into_iter().filter(|name| findings.errors.contains(name)).map(|name| {
            let after = text.split(&format!("\"{name}\":{{\"code\":\"validation_")).nth(1).unwrap();
            format!("{name}:{} ", after.split('"').next().unwrap())
        });
        let mut found: String = found.collect();
        if let Some(check) = findings.old_password {
            found.push_str(&format!("compare:{}", check.plain));
        }
        found.trim_end().to_owned()
    }

    #[test]
    fn a_new_record_needs_its_password_twice() {
        let both = "password:required passwordConfirm:required";
        let cases = [
            ("{}", false, both),
            ("{}", true, both),
            ("{\"password\":\"12345678\"}", false, "passwordConfirm:required"),
            ("{\"password\":\"a\",\"passwordConfirm\":\"b\"}", false, "passwordConfirm:values_mismatch"),
            ("{\"password\":1,\"passwordConfirm\":\"1\",\"email\":\"zz\"}", false, ""),
            (
                "{\"password\":\"a\",\"passwordConfirm\":\"a\",\"verified\":\"true\"}",
                false,
                "verified:values_mismatch",
            ),
            ("{\"password\":\"a\",\"passwordConfirm\":\"a\",\"verified\":true}", true, ""),
            ("{\"password\":\"a\",\"passwordConfirm\":\"a\",\"oldPassword\":\"q\"}", false, ""),
        ];
        for (body, is_manager, expected) in cases {
            assert_eq!(codes(None, body, is_manager), expected, "{body}");
        }
    }

    #[test]
    fn a_change_of_password_needs_the_old_one() {
        let mut old = Record::zero(auth(Vec::new()));
        old.set("email", Value::Text("a@b.co".to_owned()));
        let all = "{\"password\":\"a\",\"passwordConfirm\":\"b\",\"oldPassword\":\"q\",\"email\":\"x\",\"verified\":true}";
        let cases = [
            ("{}", false, ""),
            ("{\"password\":\"a\"}", false, "oldPassword:required passwordConfirm:required"),
            (
                "{\"passwordConfirm\":\"a\"}",
                false,
                "oldPassword:required password:required passwordConfirm:values_mismatch",
            ),
            ("{\"oldPassword\":\"a\"}", false, "password:required passwordConfirm:required"),
            ("{\"oldPassword\":\"a\"}", true, "password:required passwordConfirm:required"),
            ("{\"password\":\"a\",\"passwordConfirm\":\"a\",\"oldPassword\":\"q\"}", false, "compare:q"),
            ("{\"password\":\"a\",\"passwordConfirm\":\"a\"}", true, ""),
            (
                all,
                false,
                "email:values_mismatch passwordConfirm:values_mismatch verified:values_mismatch compare:q",
            ),
            ("{\"email\":\"a@b.co\",\"verified\":false}", false, ""),
            ("{\"email\":\"\"}", false, "email:values_mismatch"),
            ("{\"email\":\"x\",\"verified\":true}", true, ""),
        ];
        for (body, is_manager, expected) in cases {
            assert_eq!(codes(Some(&old), body, is_manager), expected, "{body}");
        }
    }

    #[test]
    fn other_collections_have_no_form() {
        let old = Record::zero(base(Vec::new()));
        assert_eq!(codes(Some(&old), "{\"password\":\"a\"}", false), "");
    }
}
