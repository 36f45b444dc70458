//! The JSON shapes of an auth collection's options (CONTRACT §3.1).

use super::{
    AuthAlert, AuthOptions, EmailTemplate, MappedFields, MfaOptions, OAuth2Options, OAuth2Provider,
    OtpOptions, PasswordAuth, TokenOptions, ViewOptions,
};
use crate::json::shape::json_shape;

json_shape!(AuthOptions {
    plain "authRule" => auth_rule,
    plain "manageRule" => manage_rule,
    plain "authAlert" => auth_alert,
    plain "oauth2" => oauth2,
    plain "passwordAuth" => password_auth,
    plain "mfa" => mfa,
    plain "otp" => otp,
    plain "authToken" => auth_token,
    plain "passwordResetToken" => password_reset_token,
    plain "emailChangeToken" => email_change_token,
    plain "verificationToken" => verification_token,
    plain "fileToken" => file_token,
    plain "verificationTemplate" => verification_template,
    plain "resetPasswordTemplate" => reset_password_template,
    plain "confirmEmailChangeTemplate" => confirm_email_change_template,
});

json_shape!(AuthAlert { plain "enabled" => enabled, plain "emailTemplate" => email_template });

json_shape!(OAuth2Options {
    plain "providers" => providers,
    plain "mappedFields" => mapped_fields,
    plain "enabled" => enabled,
});

// A provider that is sent again without its secret keeps it.
json_shape!(OAuth2Provider, by "name" name {
    plain "pkce" => pkce,
    plain "name" => name,
    plain "clientId" => client_id,
    secret "clientSecret" => client_secret,
    plain "authURL" => auth_url,
    plain "tokenURL" => token_url,
    plain "userInfoURL" => user_info_url,
    plain "displayName" => display_name,
    plain "extra" => extra,
});

json_shape!(MappedFields {
    plain "id" => id,
    plain "name" => name,
    plain "username" => username,
    plain "avatarURL" => avatar_url,
});

json_shape!(PasswordAuth { plain "enabled" => enabled, plain "identityFields" => identity_fields });

json_shape!(MfaOptions { plain "enabled" => enabled, plain "duration" => duration, plain "rule" => rule });

json_shape!(OtpOptions {
    plain "enabled" => enabled,
    plain "duration" => duration,
    plain "length" => length,
    plain "emailTemplate" => email_template,
});

json_shape!(TokenOptions { secret "secret" => secret, plain "duration" => duration });

json_shape!(EmailTemplate { plain "subject" => subject, plain "body" => body });

json_shape!(ViewOptions { plain "viewQuery" => query });
