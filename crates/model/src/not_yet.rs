//! What the contract has and this version does not do yet. It is refused where it would be switched
//! on, never stored and ignored.

use crate::errors::{FieldError, FieldErrors};

/// Something that cannot be switched on yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contract's words; the table below says where each is switched on")]
pub enum Feature {
    Mfa,
    Otp,
    OAuth2,
    Smtp,
    S3,
    BackupsS3,
    BackupsCron,
}

/// Each feature with the place of its switch and what is said to who turns it.
const TABLE: [(Feature, &[&str], &str); 7] = [
    (Feature::Mfa, &["mfa", "enabled"], "Multi-factor sign-in is not available in this version."),
    (Feature::Otp, &["otp", "enabled"], "OTP sign-in is not available in this version."),
    (Feature::OAuth2, &["oauth2", "enabled"], "OAuth2 sign-in is not available in this version."),
    (Feature::Smtp, &["smtp", "enabled"], "Sending mail is not available in this version."),
    (Feature::S3, &["s3", "enabled"], "S3 storage is not available in this version."),
    (Feature::BackupsS3, &["backups", "s3", "enabled"], "S3 backups are not available in this version."),
    (Feature::BackupsCron, &["backups", "cron"], "Scheduled backups are not available in this version."),
];

impl Feature {
    /// Adds the refusal, unless its place has an error already.
    pub fn refuse(self, errors: &mut FieldErrors) {
        for (feature, path, message) in TABLE {
            if feature == self {
                errors.add_at(path, FieldError::new("validation_not_available", message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_stands_in_the_table_once() {
        for (position, (feature, _, _)) in TABLE.iter().enumerate() {
            assert_eq!(*feature as usize, position);
        }
    }
}
