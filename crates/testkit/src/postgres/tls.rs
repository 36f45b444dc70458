use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::programs;

/// In the data folder, so that a standby has them too.
pub(crate) const AUTHORITY: &str = "authority.pem";

/// Puts an authority's certificate into the data folder, and one of the server that it has signed, for `localhost` and
/// `127.0.0.1`.
pub(crate) fn put_certificates(data: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate for its own issuer where both have one name.
    params.distinguished_name.push(DnType::CommonName, "the authority of a test");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, &authority)?;

    std::fs::write(data.join(AUTHORITY), authority.pem())?;
    std::fs::write(data.join("server.crt"), certificate.pem())?;
    std::fs::write(data.join("server.key"), key.serialize_pem())?;
    for name in [AUTHORITY, "server.crt", "server.key"] {
        // PostgreSQL takes no key that others may read.
        std::fs::set_permissions(data.join(name), Permissions::from_mode(0o600))?;
        programs::give(&data.join(name))?;
    }
    Ok(())
}
