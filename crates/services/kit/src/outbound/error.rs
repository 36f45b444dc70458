//! Why a request got no answer.

use std::error::Error;
use std::io;

use super::host::Target;

/// Why there is no answer. What it shows is a sentence for a person, with host and port, and neither path nor
/// query nor header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// None of the host's addresses may be reached. Nothing was sent, nobody was connected to.
    #[error(
        "{0} may not be reached, as it has no public address; `outbound.allow` in the configuration may permit it"
    )]
    Forbidden(Target),
    /// The name has no address. Nothing was sent.
    #[error("{0} has no address, or its name could not be looked up")]
    Unresolvable(Target),
    /// Nobody took the request. Nothing was sent.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(Target, &'static str),
    /// No connection that can be trusted.
    #[error("{0} cannot be trusted: {1}")]
    Tls(Target, &'static str),
    /// The deadline passed; the request may have been sent, in part or whole.
    #[error("{0} gave no whole answer in time")]
    Deadline(Target),
    /// Not HTTP, too much of it, or too little; the request may have been carried out.
    #[error("{0} gave no answer that can be read: {1}")]
    BadAnswer(Target, &'static str),
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectProblem {
    #[error("forbidden")]
    Forbidden,
    #[error("unresolvable")]
    Unresolvable,
    #[error("unreachable: {0}")]
    Unreachable(&'static str),
    #[error("tls: {0}")]
    Tls(&'static str),
}

pub(super) const HEAD_TOO_LARGE: &str = "its head is too large";

// === impl OutboundError ===

impl OutboundError {
    /// A short word for it that stays, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            OutboundError::Forbidden(_) => "forbidden",
            OutboundError::Unresolvable(_) => "unresolvable",
            OutboundError::Unreachable(..) => "unreachable",
            OutboundError::Tls(..) => "tls",
            OutboundError::Deadline(_) => "deadline",
            OutboundError::BadAnswer(..) => "bad_answer",
        }
    }

    /// What the client's error says of it; nothing of its text is shown.
    pub(super) fn of(target: Target, error: &(dyn Error + 'static)) -> OutboundError {
        let causes =
            || std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
        if let Some(problem) = causes().find_map(|cause| cause.downcast_ref::<ConnectProblem>()) {
            return OutboundError::connecting(target, *problem);
        }
        if let Some(problem) = causes().find_map(tls_error) {
            return OutboundError::Tls(target, why_not_trusted(problem));
        }
        match causes().find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
            // hyper says so of a request that it gives back, of which nothing was written.
            Some(error) if error.is_canceled() => {
                OutboundError::Unreachable(target, "the connection ended before it took the request")
            }
            Some(error) if error.is_parse_too_large() => OutboundError::BadAnswer(target, HEAD_TOO_LARGE),
            Some(error) if error.is_parse() => OutboundError::BadAnswer(target, "it is not HTTP"),
            _ => OutboundError::BadAnswer(target, "the connection broke off"),
        }
    }

    fn connecting(target: Target, problem: ConnectProblem) -> OutboundError {
        match problem {
            ConnectProblem::Forbidden => OutboundError::Forbidden(target),
            ConnectProblem::Unresolvable => OutboundError::Unresolvable(target),
            ConnectProblem::Unreachable(why) => OutboundError::Unreachable(target, why),
            ConnectProblem::Tls(why) => OutboundError::Tls(target, why),
        }
    }
}

// === impl ConnectProblem ===

impl ConnectProblem {
    pub(super) fn of_connecting(error: &io::Error) -> ConnectProblem {
        ConnectProblem::Unreachable(match error.kind() {
            io::ErrorKind::ConnectionRefused => "it refuses connections at that port",
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "there is no way to it",
            io::ErrorKind::TimedOut => "it does not take connections",
            _ => "the connection failed",
        })
    }

    pub(super) fn of_handshake(error: &io::Error) -> ConnectProblem {
        ConnectProblem::Tls(tls_error(error).map_or("it broke off the TLS handshake", why_not_trusted))
    }
}

/// rustls's error, if it is one or lies in one of the system's.
fn tls_error<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let inner = cause.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
    match inner {
        Some(inner) => inner.downcast_ref(),
        None => cause.downcast_ref(),
    }
}

fn why_not_trusted(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            Certificate::Expired | Certificate::ExpiredContext { .. } => "its certificate has expired",
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            Certificate::UnknownIssuer => "its certificate is from an issuer that is not known",
            Certificate::Revoked => "its certificate was revoked",
            _ => "its certificate is not valid",
        },
        rustls::Error::AlertReceived(_) => "it ended the TLS handshake",
        rustls::Error::InvalidMessage(_) => "it does not speak TLS at that port",
        _ => "there is no TLS that both sides know",
    }
}
