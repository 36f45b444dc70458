//! The JSON shapes of the settings (CONTRACT §8.1).

use super::{Backups, Batch, Logs, Meta, RateLimitRule, RateLimits, S3, Settings, Smtp, TrustedProxy};
use crate::json::shape::json_shape;

json_shape!(Settings {
    plain "superuserIPs" => superuser_ips,
    plain "smtp" => smtp,
    plain "backups" => backups,
    plain "s3" => s3,
    plain "meta" => meta,
    plain "rateLimits" => rate_limits,
    plain "trustedProxy" => trusted_proxy,
    plain "batch" => batch,
    plain "logs" => logs,
});

json_shape!(Smtp {
    plain "enabled" => enabled,
    plain "port" => port,
    plain "host" => host,
    plain "username" => username,
    stored "password" => password,
    plain "authMethod" => auth_method,
    plain "tls" => tls,
    plain "localName" => local_name,
});

json_shape!(Backups { plain "cron" => cron, plain "cronMaxKeep" => cron_max_keep, plain "s3" => s3 });

json_shape!(S3 {
    plain "enabled" => enabled,
    plain "bucket" => bucket,
    plain "region" => region,
    plain "endpoint" => endpoint,
    plain "accessKey" => access_key,
    secret "secret" => secret,
    plain "forcePathStyle" => force_path_style,
});

json_shape!(Meta {
    plain "accentColor" => accent_color,
    plain "appName" => app_name,
    plain "appURL" => app_url,
    plain "senderName" => sender_name,
    plain "senderAddress" => sender_address,
    plain "hideControls" => hide_controls,
});

json_shape!(RateLimits { plain "rules" => rules, plain "excludedIPs" => excluded_ips, plain "enabled" => enabled });

json_shape!(RateLimitRule {
    plain "label" => label,
    plain "audience" => audience,
    plain "duration" => duration,
    plain "maxRequests" => max_requests,
});

json_shape!(TrustedProxy { plain "headers" => headers, plain "useLeftmostIP" => use_leftmost_ip });

json_shape!(Batch {
    plain "enabled" => enabled,
    plain "maxRequests" => max_requests,
    plain "timeout" => timeout,
    plain "maxBodySize" => max_body_size,
});

json_shape!(Logs {
    plain "maxDataSize" => max_data_size,
    plain "maxDays" => max_days,
    plain "minLevel" => min_level,
    plain "logIP" => log_ip,
    plain "logAuthId" => log_auth_id,
});
