//! What a request that is not granted is answered with.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use hermesh_mesh::{
    Error,
    wire::{FailureCode, Refusal, Wire},
};

use super::{convert, routes::SOURCE};

/// A refusal of the protocol with the HTTP status that goes with it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) refusal: Refusal,
}

impl Refused {
    /// HTTP itself was used wrongly.
    pub(super) fn http(status: StatusCode, message: impl Into<String>) -> Self {
        let code = FailureCode::Malformed;
        Self { status, refusal: Refusal { code, message: message.into(), retryable: false } }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { status: status(refusal.code), refusal }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Refused(refusal) => return Refusal::clone(refusal).into(),
            Error::TooLarge { .. } => FailureCode::TooLarge,
            Error::Full { .. } => FailureCode::Overloaded,
            error if error.retryable() => FailureCode::Internal,
            _ => FailureCode::Malformed,
        };
        Refusal { code, message: error.to_string(), retryable: error.retryable() }.into()
    }
}

/// The HTTP status for a code.
pub(super) fn status(code: FailureCode) -> StatusCode {
    use FailureCode as Code;
    match code {
        Code::Malformed | Code::DigestMismatch | Code::ParameterMismatch | Code::DeadlineTooFar => {
            StatusCode::BAD_REQUEST
        }
        Code::UnknownTenant | Code::TenantRefused | Code::BadSignature | Code::WrongKeyOwner => {
            StatusCode::FORBIDDEN
        }
        Code::UnknownKey | Code::UnknownModel => StatusCode::NOT_FOUND,
        Code::Replay => StatusCode::CONFLICT,
        Code::KeyRevoked | Code::Expired => StatusCode::GONE,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Overloaded | Code::Undeliverable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal.message)
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut message = self.refusal.encode(SOURCE);
        // Programs read the headers; this is for people.
        message.body = format!("{}\n", self.refusal.message).into();
        let mut response = convert::response(self.status, &message);
        let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }
}
