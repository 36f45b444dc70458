//! The answers to the challenges of a certificate authority: by them it sees that a name leads to this server.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Request, Response};

use super::before::Before;
use super::https::CHALLENGES;
use crate::observe::Observer;

/// Challenges at once. They are answered within minutes, for one name after the other; the next waits for its turn.
const MAX_PENDING: usize = 256;

/// No token and no answer of an authority is longer.
const MAX_BYTES: usize = 512;

/// What is answered to an authority that asks for a token: nothing, unless it is asked to prove names. A clone shares
/// everything.
#[derive(Clone, Default)]
pub struct Challenges(Option<Arc<Pending>>);

type Pending = Mutex<HashMap<String, String>>;

/// A challenge that is answered until this is dropped.
pub struct PendingChallenge {
    pending: Arc<Pending>,
    token: String,
}

/// Answers them, whatever the route and the transport.
#[derive(Clone)]
pub(crate) struct AnswerChallenges {
    challenges: Challenges,
    observer: Observer,
}

// === impl Challenges ===

impl Challenges {
    /// For a server that has names to prove.
    pub fn answered() -> Self {
        Self(Some(Arc::default()))
    }

    /// Answers this token from now on. None if it cannot be one, or too many are pending.
    pub fn answer(&self, token: &str, answer: &str) -> Option<PendingChallenge> {
        let pending = self.0.as_ref()?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_right = !token.is_empty() && token.bytes().all(is_token);
        if !is_right || token.len() > MAX_BYTES || answer.len() > MAX_BYTES {
            return None;
        }
        let mut answers = pending.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MAX_PENDING {
            return None;
        }
        answers.insert(token.to_owned(), answer.to_owned());
        Some(PendingChallenge { pending: pending.clone(), token: token.to_owned() })
    }

    fn find(&self, request: &Request<Body>) -> Option<String> {
        let pending = self.0.as_ref()?;
        let token = request.uri().path().strip_prefix(CHALLENGES)?;
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return None;
        }
        pending.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}

/// Their answers are of no use to anybody else, but there is no need to show them.
impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenges")
    }
}

// === impl PendingChallenge ===

impl Drop for PendingChallenge {
    fn drop(&mut self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

// === impl AnswerChallenges ===

impl AnswerChallenges {
    pub(crate) fn new(challenges: Challenges, observer: Observer) -> Self {
        Self { challenges, observer }
    }
}

impl Before for AnswerChallenges {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        let answer = self.challenges.find(request)?;
        let mut response = Response::new(Body::from(answer));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Some(self.observer.answered(request, response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(challenges: &Challenges, method: Method, path: &str) -> Option<String> {
        challenges.find(&Request::builder().method(method).uri(path).body(Body::empty()).unwrap())
    }

    #[test]
    fn a_token_is_answered_while_it_is_pending() {
        let challenges = Challenges::answered();
        let path = "/.well-known/acme-challenge/abc-D_1";
        assert_eq!(found(&challenges, Method::GET, path), None);
        let pending = challenges.answer("abc-D_1", "abc-D_1.print").unwrap();
        assert_eq!(found(&challenges, Method::GET, path).as_deref(), Some("abc-D_1.print"));
        assert_eq!(found(&challenges, Method::POST, path), None);
        assert_eq!(found(&challenges, Method::GET, "/.well-known/acme-challenge/abc"), None);
        assert_eq!(found(&challenges, Method::GET, "/abc-D_1"), None);
        drop(pending);
        assert_eq!(found(&challenges, Method::GET, path), None);
    }

    #[test]
    fn what_is_no_token_and_one_too_many_is_not_taken() {
        let challenges = Challenges::answered();
        for token in ["", "a/b", "../x", "a b", &"a".repeat(MAX_BYTES + 1)] {
            assert!(challenges.answer(token, "x").is_none(), "{token:?}");
        }
        let pending: Vec<_> =
            (0..MAX_PENDING).map(|number| challenges.answer(&number.to_string(), "x").unwrap()).collect();
        assert!(challenges.answer("more", "x").is_none());
        drop(pending);
        assert!(challenges.answer("more", "x").is_some());
        assert!(Challenges::default().answer("a", "x").is_none(), "nobody asks");
    }
}
