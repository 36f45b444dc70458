//! `[gateway.upstreams.NAME.tls]`: whom a pool trusts, and who this process is to its servers.

use gateway::{ServerTls, ServerTlsFiles, SystemRoots, UpstreamSettings};

use super::reader::Section;
use super::tree::Origin;

/// Reads it for a pool of which everything else is known. Without it servers with TLS are trusted by the system's roots.
pub(super) fn read(
    mut section: Section<'_>,
    settings: &UpstreamSettings,
    roots: &SystemRoots,
    upstream: &Origin,
) -> Option<ServerTls> {
    let keys = ["ca", "client_cert", "client_key", "server_name"];
    let given = keys.iter().find_map(|&key| Some((key, section.origin_of(key)?)));
    let [ca, certificate, key] = ["ca", "client_cert", "client_key"].map(|key| section.text(key));
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate.value.into(), key.value.into())),
        (Some(alone), None) | (None, Some(alone)) => {
            let message = "stands alone; write client_cert and client_key, the paths of PEM files";
            section.refuse(&alone.origin, "client_cert", message);
            None
        }
        (None, None) => None,
    };
    let name = section.text("server_name").map(|text| text.value);
    let is_found_with_tls = settings.discovery.as_ref().is_some_and(gateway::Discovery::has_tls);
    let has_tls = is_found_with_tls || settings.servers.iter().any(gateway::ServerUrl::has_tls);
    let files = ServerTlsFiles { ca: ca.map(|ca| ca.value.into()), client, name };
    let tls = match given {
        Some((key, origin)) if !has_tls => {
            section.refuse(origin, key, "no server of this pool has TLS; write https://HOST:PORT");
            None
        }
        _ if !has_tls => None,
        _ => ServerTls::load(files, roots)
            .map_err(|problem| {
                let (key, origin) = given.unwrap_or(("ca", upstream));
                section.refuse(origin, key, problem.to_string());
            })
            .ok(),
    };
    section.finish();
    tls
}
