//! What went wrong, as the client is told: the contract's error body with its fixed messages
//! (CONTRACT §1.3, §1.5, §5.2).

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use model::errors::{FieldErrors, sentence};
use model::json::{Json, JsonObject, write_string};

use crate::respond;

/// An answer that is an error: a status of 400 or more, a message, and what is wrong with which field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} {message}", status.0.as_u16())]
pub struct ApiError {
    status: ErrorStatus,
    message: Cow<'static, str>,
    data: ErrorData,
    retry_after: Option<Duration>,
    is_schema_changed: bool,
}

/// A status that says that something went wrong: 4xx or 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorStatus(StatusCode);

#[derive(Debug, Clone, PartialEq)]
enum ErrorData {
    Fields(FieldErrors),
    Object(JsonObject),
}

/// What the client reads when a request cannot be understood or served, and nothing better is known.
const WENT_WRONG: &str = "Something went wrong while processing your request.";

// === impl ApiError ===

impl ApiError {
    /// An error with this message, completed to a sentence, and no data.
    pub fn new(status: ErrorStatus, message: impl Into<Cow<'static, str>>) -> ApiError {
        let data = ErrorData::Fields(FieldErrors::new());
        ApiError { status, message: message.into(), data, retry_after: None, is_schema_changed: false }
    }

    /// The schema was changed while the answer was worked out: 503, unless the handler tries again.
    pub fn schema_changed() -> ApiError {
        ApiError { is_schema_changed: true, ..ApiError::busy(Duration::from_secs(1)) }
    }

    /// Whether this is [`ApiError::schema_changed`].
    pub fn is_schema_changed(&self) -> bool {
        self.is_schema_changed
    }

    /// The same error with what is wrong with each field.
    pub fn with_fields(mut self, fields: FieldErrors) -> ApiError {
        self.data = ErrorData::Fields(fields);
        self
    }

    /// The same error with other data, such as the answer of a step of a batch.
    pub fn with_data(mut self, data: JsonObject) -> ApiError {
        self.data = ErrorData::Object(data);
        self
    }

    /// The same error, with a word on when to come again.
    pub fn with_retry_after(mut self, wait: Duration) -> ApiError {
        self.retry_after = Some(wait);
        self
    }

    /// The status that the client gets.
    pub fn status(&self) -> StatusCode {
        self.status.0
    }

    /// The message, before it is completed to a sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When to come again, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The field errors, unless the error carries other data.
    pub fn fields(&self) -> Option<&FieldErrors> {
        match &self.data {
            ErrorData::Fields(fields) => Some(fields),
            ErrorData::Object(_) => None,
        }
    }

    /// Appends the error body: `data`, `message`, `status`.
    pub fn write(&self, out: &mut String) {
        out.push_str("{\"data\":");
        match &self.data {
            ErrorData::Fields(fields) => fields.write(out),
            ErrorData::Object(object) => Json::Object(object.clone()).write(out),
        }
        out.push_str(",\"message\":");
        write_string(&sentence(&self.message), out);
        out.push_str(",\"status\":");
        out.push_str(self.status.0.as_str());
        out.push('}');
    }

    /// The error body.
    pub fn to_body(&self) -> String {
        let mut body = String::with_capacity(128);
        self.write(&mut body);
        body
    }
}

/// The generic messages, one a status.
impl ApiError {
    /// 400 with the generic message.
    pub fn bad_request() -> ApiError {
        ApiError::new(ErrorStatus::BAD_REQUEST, WENT_WRONG)
    }

    /// 400 with a message of its own.
    pub fn bad_request_with(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(ErrorStatus::BAD_REQUEST, message)
    }

    /// 401 with the generic message. Guards use [`ApiError::token_required`].
    pub fn unauthorized() -> ApiError {
        ApiError::new(ErrorStatus::UNAUTHORIZED, "Missing or invalid authentication.")
    }

    /// 403 with the generic message; also a superuser's address that is not on the list.
    pub fn forbidden() -> ApiError {
        ApiError::new(ErrorStatus::FORBIDDEN, "You are not allowed to perform this request.")
    }

    /// 403 with a message of its own.
    pub fn forbidden_with(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(ErrorStatus::FORBIDDEN, message)
    }

    /// 404 with the generic message.
    pub fn not_found() -> ApiError {
        ApiError::new(ErrorStatus::NOT_FOUND, "The requested resource wasn't found.")
    }

    /// 404 with a message of its own.
    pub fn not_found_with(message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::new(ErrorStatus::NOT_FOUND, message)
    }

    /// 408: the body did not arrive in time.
    pub fn request_timeout() -> ApiError {
        ApiError::new(ErrorStatus::REQUEST_TIMEOUT, "The request took too long to arrive.")
    }

    /// 413: the body is over its limit.
    pub fn too_large() -> ApiError {
        ApiError::new(ErrorStatus::PAYLOAD_TOO_LARGE, "Request entity too large.")
    }

    /// 429 with the generic message.
    pub fn too_many_requests() -> ApiError {
        ApiError::new(ErrorStatus::TOO_MANY_REQUESTS, "Too Many Requests.")
    }

    /// 500. What happened is logged where it is turned into this, and never told.
    pub fn internal() -> ApiError {
        ApiError::new(ErrorStatus::INTERNAL, WENT_WRONG)
    }

    /// 503: a queue is full or the store is busy; the same request may be tried again after `wait`.
    pub fn busy(wait: Duration) -> ApiError {
        ApiError::new(ErrorStatus::UNAVAILABLE, "The server is busy, please try again later.")
            .with_retry_after(wait)
    }

    /// 503: something that the answer needs cannot be reached.
    pub fn unavailable(wait: Duration) -> ApiError {
        ApiError::new(ErrorStatus::UNAVAILABLE, "The service is temporarily unavailable.")
            .with_retry_after(wait)
    }
}

/// The fixed messages of guards, look-ups and forms.
impl ApiError {
    /// 401: the route needs a caller.
    pub fn token_required() -> ApiError {
        let message = "The request requires valid record authorization token.";
        ApiError::new(ErrorStatus::UNAUTHORIZED, message)
    }

    /// 403: the route needs a superuser.
    pub fn not_allowed() -> ApiError {
        ApiError::forbidden_with("The authorized record is not allowed to perform this action.")
    }

    /// 403: the route needs a caller of its own collection. The name is the one of the *caller's* collection.
    pub fn wrong_collection(callers_collection: &str) -> ApiError {
        ApiError::forbidden_with(format!(
            "The request requires auth record from {callers_collection} collection."
        ))
    }

    /// 403: the rule is null.
    pub fn superusers_only() -> ApiError {
        ApiError::forbidden_with("Only superusers can perform this action.")
    }

    /// 404: no such collection, on record routes.
    pub fn missing_collection() -> ApiError {
        ApiError::not_found_with("Missing collection context.")
    }

    /// 404: no such collection, on auth routes.
    pub fn missing_or_invalid_collection() -> ApiError {
        ApiError::not_found_with("Missing or invalid collection context.")
    }

    /// 404: the collection cannot sign in.
    pub fn not_an_auth_collection() -> ApiError {
        ApiError::not_found_with("Missing or invalid auth collection context.")
    }

    /// 403: the auth rule does not pass.
    pub fn auth_rule_denied() -> ApiError {
        ApiError::forbidden_with("The request doesn't satisfy the collection requirements to authenticate.")
    }

    /// 400: a view collection cannot be written to.
    pub fn unsupported_collection_type() -> ApiError {
        ApiError::bad_request_with("Unsupported collection type.")
    }

    /// 400: a form was read and its values are not right.
    pub fn invalid_form(fields: FieldErrors) -> ApiError {
        ApiError::bad_request_with("An error occurred while validating the submitted data.")
            .with_fields(fields)
    }

    /// 400: a form could not be read.
    pub fn unreadable_form() -> ApiError {
        ApiError::bad_request_with(UNREADABLE_FORM)
    }

    /// 400: the body is of a type that is not read.
    pub fn unsupported_content_type() -> ApiError {
        ApiError::bad_request_with("Unsupported Content-Type.")
    }

    /// 404: no such static or stored file, and every unknown GET path.
    pub fn file_not_found() -> ApiError {
        ApiError::not_found_with("File not found.")
    }
}

/// The message of most forms that cannot be read.
pub const UNREADABLE_FORM: &str = "An error occurred while loading the submitted data.";

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = respond::json(self.status.0, self.to_body());
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

// === impl ErrorStatus ===

#[allow(missing_docs, reason = "the names of HTTP; nothing to add")]
impl ErrorStatus {
    pub const BAD_REQUEST: ErrorStatus = ErrorStatus(StatusCode::BAD_REQUEST);
    pub const UNAUTHORIZED: ErrorStatus = ErrorStatus(StatusCode::UNAUTHORIZED);
    pub const FORBIDDEN: ErrorStatus = ErrorStatus(StatusCode::FORBIDDEN);
    pub const NOT_FOUND: ErrorStatus = ErrorStatus(StatusCode::NOT_FOUND);
    pub const REQUEST_TIMEOUT: ErrorStatus = ErrorStatus(StatusCode::REQUEST_TIMEOUT);
    pub const PAYLOAD_TOO_LARGE: ErrorStatus = ErrorStatus(StatusCode::PAYLOAD_TOO_LARGE);
    pub const TOO_MANY_REQUESTS: ErrorStatus = ErrorStatus(StatusCode::TOO_MANY_REQUESTS);
    pub const INTERNAL: ErrorStatus = ErrorStatus(StatusCode::INTERNAL_SERVER_ERROR);
    pub const UNAVAILABLE: ErrorStatus = ErrorStatus(StatusCode::SERVICE_UNAVAILABLE);
}

impl TryFrom<StatusCode> for ErrorStatus {
    type Error = NotAnError;

    fn try_from(status: StatusCode) -> Result<ErrorStatus, NotAnError> {
        let is_error = status.is_client_error() || status.is_server_error();
        if is_error { Ok(ErrorStatus(status)) } else { Err(NotAnError(status)) }
    }
}

/// A status that is no error was to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an error status")]
pub struct NotAnError(StatusCode);

#[cfg(test)]
mod tests {
    use model::errors::FieldError;

    use super::*;

    #[test]
    fn the_body_has_three_keys_in_order() {
        assert_eq!(
            ApiError::not_found().to_body(),
            r#"{"data":{},"message":"The requested resource wasn't found.","status":404}"#
        );
        let fields = FieldErrors::one("identity", FieldError::required());
        assert_eq!(
            ApiError::invalid_form(fields).to_body(),
            r#"{"data":{"identity":{"code":"validation_required","message":"Cannot be blank."}},"message":"An error occurred while validating the submitted data.","status":400}"#
        );
    }

    #[test]
    fn messages_become_sentences() {
        assert!(ApiError::bad_request_with(" failed to x").to_body().contains(r#""Failed to x.""#));
    }

    #[test]
    fn only_errors_are_errors() {
        assert!(ErrorStatus::try_from(StatusCode::OK).is_err());
        assert!(ErrorStatus::try_from(StatusCode::TEMPORARY_REDIRECT).is_err());
        assert_eq!(ErrorStatus::try_from(StatusCode::NOT_FOUND), Ok(ErrorStatus::NOT_FOUND));
    }

    #[test]
    fn busy_says_when_to_come_again() {
        let response = ApiError::busy(Duration::from_millis(1200)).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["content-type"], "application/json");
    }
}
