use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::http;

/// A plain HTTP client for everything but the load: set-up, comparing answers, and the cases whose single requests
/// take long enough that one caller at a time is the right measure.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base_url: String,
    token: Option<String>,
}

/// One request, the same for every server.
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) caller: Caller,
    /// The status that the contract promises.
    pub(crate) expected: u16,
}

/// Whose token a request carries.
#[derive(Clone, Copy)]
pub(crate) enum Caller {
    Guest,
    Account(usize),
    Superuser,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: String, body: Option<Value>) -> Self {
        Self { method, path, body, caller: Caller::Guest, expected: 200 }
    }

    pub(crate) fn by(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    pub(crate) fn expecting(self, expected: u16) -> Self {
        Self { expected, ..self }
    }
}

impl Client {
    pub(crate) fn new(base_url: &str) -> Self {
        // Above the 30 s after which the peer gives up a read by itself.
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(90)))
            .build();
        Self { agent: config.into(), base_url: base_url.to_owned(), token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The JSON of a 2xx answer; anything else is an error.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.send(method, path, body)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {answer}");
        }
        Ok(answer)
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let doing = || format!("{method} {path}");
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.base_url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        let mut response = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json").body(body.to_string())?;
                self.agent.run(request).with_context(doing)?
            }
            // Said in so many words: without it the client sends an empty chunked body, which both refuse.
            None => self.agent.run(request.header("Content-Length", "0").body(())?).with_context(doing)?,
        };
        let text = response.body_mut().read_to_string().with_context(doing)?;
        let answer = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        Ok((response.status().as_u16(), answer))
    }

    /// Signs in to an auth collection; the token.
    pub(crate) fn sign_in(&self, collection: &str, identity: &str, password: &str) -> Result<String> {
        let body = serde_json::json!({ "identity": identity, "password": password });
        let path = format!("/api/collections/{collection}/auth-with-password");
        let answer = self.call("POST", &path, Some(&body))?;
        Ok(answer["token"].as_str().context("sign-in without a token")?.to_owned())
    }
}
