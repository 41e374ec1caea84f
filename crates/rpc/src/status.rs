//! Errors across the wire: kind → gRPC status, the whole error in the status's details, and back.

use std::time::Duration;

use alyx_core::{Detail, Error, ErrorKind, with_causes};
use alyx_proto::common;
use prost::Message as _;
use tonic::{Code, Status};

/// Names the message in the status's details.
const TYPE_URL: &str = "type.googleapis.com/alyx.common.v1.Error";
/// Longest message in a header: peers refuse headers beyond 16 KiB, and it travels in the details too.
const MAX_MESSAGE: usize = 1024;
/// Longest message, and most bytes of details, outside of headers.
const MAX_TEXT: usize = 1 << 20;
/// Largest details in a header, before base64.
const MAX_DETAILS: usize = 8 << 10;

/// The status that tells `error` to the caller. The cause of an internal error is logged here, since it does not
/// travel.
pub fn to_status(error: &Error) -> Status {
    if let Some(cause) = std::error::Error::source(error)
        && error.kind() == ErrorKind::Internal
    {
        tracing::error!(code = error.code(), cause = %with_causes(cause), "a call failed");
    }
    let code = code(error.kind());
    let message = shortened(error.message());
    let mut wire = to_wire(error);
    // A collective error with very many parts keeps the first ones.
    while wire.encoded_len() > MAX_DETAILS && !wire.details.is_empty() {
        wire.details.truncate(wire.details.len() / 2);
    }
    if wire.encoded_len() > MAX_DETAILS {
        wire.message.clone_from(&message);
    }
    let details = common::StatusDetails {
        code: code as i32,
        message: String::new(),
        details: vec![common::Packed {
            type_url: TYPE_URL.to_owned(),
            value: wire.encode_to_vec().into(),
        }],
    };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// The error that `status` tells. A status that no role made (the connection broke, the peer is not there, the
/// deadline passed) becomes the error that fits it.
pub fn from_status(status: Status) -> Error {
    let told = common::StatusDetails::decode(status.details())
        .ok()
        .and_then(|details| {
            let packed = details
                .details
                .into_iter()
                .find(|packed| packed.type_url == TYPE_URL)?;
            common::Error::decode(packed.value).ok()
        })
        .and_then(from_wire);
    told.unwrap_or_else(|| foreign(status))
}

/// Total: every kind has exactly one.
const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::UnsupportedMediaType => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::MethodNotAllowed => Code::Unimplemented,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::PreconditionFailed => Code::FailedPrecondition,
        ErrorKind::PayloadTooLarge => Code::OutOfRange,
        ErrorKind::TooManyRequests => Code::ResourceExhausted,
        ErrorKind::Internal => Code::Internal,
        ErrorKind::BadGateway => Code::Unknown,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
    }
}

/// `error` as a message of its own, for streams whose calls fail one by one. Its `source` is left out, and what is
/// longer than [`MAX_TEXT`] is cut off: one error must not break a stream by its size.
pub fn to_wire(error: &Error) -> common::Error {
    let message = error.message();
    let mut room = MAX_TEXT;
    common::Error {
        kind: kind_to_wire(error.kind()).into(),
        code: error.code().to_owned(),
        message: message[..message.floor_char_boundary(MAX_TEXT)].to_owned(),
        field: error.field().map(str::to_owned),
        details: error
            .details()
            .iter()
            .take_while(|detail| {
                room =
                    room.saturating_sub(detail.field.len() + detail.code.len() + detail.message.len() + 16);
                room > 0
            })
            .map(|detail| common::Detail {
                field: detail.field.clone(),
                code: detail.code.clone(),
                message: detail.message.clone(),
            })
            .collect(),
        retry_after_nanos: error
            .retry_after()
            .map(|after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)),
        step: error.step().and_then(|step| u32::try_from(step).ok()),
    }
}

/// The error in such a message; `None` where its kind is not one that this version knows.
pub fn from_wire(wire: common::Error) -> Option<Error> {
    let kind = kind_from_wire(wire.kind())?;
    let details = wire
        .details
        .into_iter()
        .map(|detail| Detail {
            field: detail.field,
            code: detail.code,
            message: detail.message,
        })
        .collect();
    let mut error = Error::new(kind, wire.code, wire.message).with_details(details);
    if let Some(field) = wire.field {
        error = error.with_field(field);
    }
    if let Some(after) = wire.retry_after_nanos {
        error = error.with_retry_after(Duration::from_nanos(after));
    }
    if let Some(step) = wire.step {
        error = error.with_step(step as usize);
    }
    Some(error)
}

const fn kind_to_wire(kind: ErrorKind) -> common::ErrorKind {
    match kind {
        ErrorKind::InvalidInput => common::ErrorKind::InvalidInput,
        ErrorKind::Unauthenticated => common::ErrorKind::Unauthenticated,
        ErrorKind::Forbidden => common::ErrorKind::Forbidden,
        ErrorKind::NotFound => common::ErrorKind::NotFound,
        ErrorKind::MethodNotAllowed => common::ErrorKind::MethodNotAllowed,
        ErrorKind::Conflict => common::ErrorKind::Conflict,
        ErrorKind::PreconditionFailed => common::ErrorKind::PreconditionFailed,
        ErrorKind::PayloadTooLarge => common::ErrorKind::PayloadTooLarge,
        ErrorKind::UnsupportedMediaType => common::ErrorKind::UnsupportedMediaType,
        ErrorKind::TooManyRequests => common::ErrorKind::TooManyRequests,
        ErrorKind::Internal => common::ErrorKind::Internal,
        ErrorKind::BadGateway => common::ErrorKind::BadGateway,
        ErrorKind::Unavailable => common::ErrorKind::Unavailable,
        ErrorKind::DeadlineExceeded => common::ErrorKind::DeadlineExceeded,
    }
}

const fn kind_from_wire(kind: common::ErrorKind) -> Option<ErrorKind> {
    Some(match kind {
        common::ErrorKind::Unspecified => return None,
        common::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
        common::ErrorKind::Unauthenticated => ErrorKind::Unauthenticated,
        common::ErrorKind::Forbidden => ErrorKind::Forbidden,
        common::ErrorKind::NotFound => ErrorKind::NotFound,
        common::ErrorKind::MethodNotAllowed => ErrorKind::MethodNotAllowed,
        common::ErrorKind::Conflict => ErrorKind::Conflict,
        common::ErrorKind::PreconditionFailed => ErrorKind::PreconditionFailed,
        common::ErrorKind::PayloadTooLarge => ErrorKind::PayloadTooLarge,
        common::ErrorKind::UnsupportedMediaType => ErrorKind::UnsupportedMediaType,
        common::ErrorKind::TooManyRequests => ErrorKind::TooManyRequests,
        common::ErrorKind::Internal => ErrorKind::Internal,
        common::ErrorKind::BadGateway => ErrorKind::BadGateway,
        common::ErrorKind::Unavailable => ErrorKind::Unavailable,
        common::ErrorKind::DeadlineExceeded => ErrorKind::DeadlineExceeded,
    })
}

/// A status that carries no error of ours.
fn foreign(status: Status) -> Error {
    // Statuses that this side made have a source; what came over the wire has none.
    let broken = std::error::Error::source(&status).is_some();
    let unreachable = Error::new(
        ErrorKind::Unavailable,
        "PEER_UNAVAILABLE",
        "another part of the cluster cannot be reached at the moment; try again",
    )
    .with_retry_after(Duration::from_secs(1));
    let error = match status.code() {
        Code::DeadlineExceeded | Code::Cancelled if timed_out(&status) => Error::new(
            ErrorKind::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "the call was not done when its time was over",
        ),
        Code::Cancelled if !broken => Error::new(
            ErrorKind::Unavailable,
            "CALL_CANCELLED",
            "the call was ended before it was done; try again",
        ),
        Code::Cancelled | Code::Unavailable | Code::Aborted | Code::DeadlineExceeded => unreachable,
        Code::Unknown | Code::Internal | Code::Ok if broken => unreachable,
        Code::Unauthenticated => Error::new(
            ErrorKind::Internal,
            "CLUSTER_UNAUTHENTICATED",
            "roles of this cluster do not trust each other; check `cluster.token` of each",
        ),
        Code::Unimplemented => Error::new(
            ErrorKind::Internal,
            "CLUSTER_VERSION_MISMATCH",
            "another part of the cluster does not know this call; bring all roles to the same version",
        ),
        Code::ResourceExhausted | Code::OutOfRange => Error::new(
            ErrorKind::PayloadTooLarge,
            "MESSAGE_TOO_LARGE",
            "a message is too large to travel between parts of the cluster",
        ),
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Internal
        | Code::DataLoss => return Error::internal(status),
    };
    error.with_source(status)
}

/// The transport reports a deadline that passed as a cancelled call: on this side by a source of its own, from the
/// other side by its words alone.
fn timed_out(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if cause.is::<tonic::TimeoutExpired>() {
            return true;
        }
        source = cause.source();
    }
    status.code() == Code::DeadlineExceeded || status.message() == "Timeout expired"
}

fn shortened(message: &str) -> String {
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MAX_MESSAGE);
    format!("{}…", &message[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [ErrorKind; 14] = [
        ErrorKind::InvalidInput,
        ErrorKind::Unauthenticated,
        ErrorKind::Forbidden,
        ErrorKind::NotFound,
        ErrorKind::MethodNotAllowed,
        ErrorKind::Conflict,
        ErrorKind::PreconditionFailed,
        ErrorKind::PayloadTooLarge,
        ErrorKind::UnsupportedMediaType,
        ErrorKind::TooManyRequests,
        ErrorKind::Internal,
        ErrorKind::BadGateway,
        ErrorKind::Unavailable,
        ErrorKind::DeadlineExceeded,
    ];

    fn any_error() -> impl Strategy<Value = Error> {
        let detail = (".{0,20}", "[a-z_]{1,20}", ".{0,60}").prop_map(|(field, code, message)| Detail {
            field,
            code,
            message,
        });
        (
            prop::sample::select(&KINDS[..]),
            "[A-Z_]{1,30}",
            ".{0,400}",
            prop::option::of(".{0,40}"),
            prop::collection::vec(detail, 0..8),
            prop::option::of(0..u64::MAX),
        )
            .prop_map(|(kind, code, message, field, details, after)| {
                let mut error = Error::new(kind, code, message).with_details(details);
                if let Some(field) = field {
                    error = error.with_field(field);
                }
                if let Some(after) = after {
                    error = error.with_retry_after(Duration::from_nanos(after));
                }
                error
            })
    }

    fn assert_same(left: &Error, right: &Error) {
        assert_eq!(left.kind(), right.kind());
        assert_eq!(left.code(), right.code());
        assert_eq!(left.message(), right.message());
        assert_eq!(left.field(), right.field());
        assert_eq!(left.details(), right.details());
        assert_eq!(left.retry_after(), right.retry_after());
    }

    proptest! {
        #[test]
        fn an_error_survives_the_wire(error in any_error()) {
            let headers = to_status(&error).into_http::<()>().into_parts().0.headers;
            let status = Status::from_header_map(&headers).expect("a status");
            assert_same(&from_status(status), &error);
        }
    }

    #[test]
    fn an_error_of_any_size_stays_within_a_message() {
        let detail = |_| Detail {
            field: "f".repeat(100),
            code: "c".to_owned(),
            message: "é".repeat(1000),
        };
        let error = Error::new(ErrorKind::InvalidInput, "TOO_LONG", "é".repeat(4 << 20))
            .with_details((0..5000).map(detail).collect());
        let wire = to_wire(&error);
        assert!(wire.encoded_len() < 4 << 20, "{}", wire.encoded_len());
        assert!(wire.message.len() >= (1 << 20) - 1 && !wire.details.is_empty());
    }

    #[test]
    fn an_error_with_very_many_details_stays_within_a_header() {
        let details = (0..10_000).map(|number| Detail {
            field: format!("f{number}"),
            code: "required".to_owned(),
            message: "m".repeat(100),
        });
        let error = Error::new(ErrorKind::InvalidInput, "VALIDATION_ERROR", "x".repeat(5_000))
            .with_details(details.collect());
        let status = to_status(&error);
        assert!(
            status.details().len() <= MAX_DETAILS + 256,
            "{}",
            status.details().len()
        );
        let told = from_status(status);
        assert_eq!(told.code(), "VALIDATION_ERROR");
        assert_eq!(
            told.details().first().map(|detail| detail.field.as_str()),
            Some("f0")
        );
    }

    #[test]
    fn what_no_role_said_becomes_an_error_that_fits() {
        let check = |status: Status, kind: ErrorKind, code: &str| {
            let error = from_status(status);
            assert_eq!((error.kind(), error.code()), (kind, code));
        };
        let broken = || Status::from_error("connection reset".into());
        check(broken(), ErrorKind::Unavailable, "PEER_UNAVAILABLE");
        check(
            Status::unavailable(""),
            ErrorKind::Unavailable,
            "PEER_UNAVAILABLE",
        );
        check(
            Status::deadline_exceeded(""),
            ErrorKind::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
        );
        check(
            Status::cancelled("Timeout expired"),
            ErrorKind::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
        );
        check(Status::cancelled(""), ErrorKind::Unavailable, "CALL_CANCELLED");
        check(Status::unknown("?"), ErrorKind::Internal, "INTERNAL_ERROR");
        check(
            Status::unimplemented(""),
            ErrorKind::Internal,
            "CLUSTER_VERSION_MISMATCH",
        );
        check(
            Status::unauthenticated(""),
            ErrorKind::Internal,
            "CLUSTER_UNAUTHENTICATED",
        );
    }
}
