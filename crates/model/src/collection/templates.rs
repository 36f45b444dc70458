//! The mails of a new auth collection. Subjects and placeholders are the contract's (CONTRACT §12.2),
//! the wording is ours.

use super::EmailTemplate;

/// A mail about a sign-in from a new place.
pub(super) fn auth_alert() -> EmailTemplate {
    template(
        "Login from a new location",
        "<p>Hello,</p>\n\
         <p>Someone signed in to your {APP_NAME} account from a place we have not seen before:</p>\n\
         <p><em>{ALERT_INFO}</em></p>\n\
         <p>If it was you, there is nothing to do. <strong>If it was not, change your password now:</strong> \
         that ends every other session.</p>\n\
         <p>{APP_NAME}</p>",
    )
}

/// A mail with a code to sign in.
pub(super) fn otp() -> EmailTemplate {
    template(
        "OTP for {APP_NAME}",
        "<p>Hello,</p>\n\
         <p>Your code to sign in is <strong>{OTP}</strong></p>\n\
         <p>If you did not ask for a code, you can leave this mail unread.</p>\n\
         <p>{APP_NAME}</p>",
    )
}

/// A mail that proves an address.
pub(super) fn verification() -> EmailTemplate {
    template(
        "Verify your {APP_NAME} email",
        &with_button(
            "Welcome to {APP_NAME}. Please confirm that this address is yours.",
            "confirm-verification",
            "Confirm the address",
            "If you did not sign up, you can ignore this mail.",
        ),
    )
}

/// A mail that lets someone choose a new password.
pub(super) fn reset_password() -> EmailTemplate {
    template(
        "Reset your {APP_NAME} password",
        &with_button(
            "You can choose a new password for {APP_NAME} here.",
            "confirm-password-reset",
            "Choose a password",
            "If you did not ask for this, you can ignore this mail: your password stays as it is.",
        ),
    )
}

/// A mail that confirms a new address.
pub(super) fn confirm_email_change() -> EmailTemplate {
    template(
        "Confirm your {APP_NAME} new email address",
        &with_button(
            "Please confirm that {APP_NAME} should use this address from now on.",
            "confirm-email-change",
            "Use this address",
            "If you did not ask for this, you can ignore this mail: nothing changes.",
        ),
    )
}

fn template(subject: &str, body: &str) -> EmailTemplate {
    EmailTemplate { subject: subject.to_owned(), body: body.to_owned() }
}

fn with_button(why: &str, page: &str, label: &str, otherwise: &str) -> String {
    format!(
        "<p>Hello,</p>\n<p>{why}</p>\n\
         <p><a class=\"btn\" href=\"{{APP_URL}}/_/#/auth/{page}/{{TOKEN}}\" target=\"_blank\" \
         rel=\"noopener\">{label}</a></p>\n<p><i>{otherwise}</i></p>\n<p>{{APP_NAME}}</p>"
    )
}
