//! What librdkafka's codes mean for an event and for the engine.

use audit_exporter_core::{Error, printable};
use rdkafka::error::RDKafkaErrorCode;

use super::properties::PATIENCE;
use super::reports::Trouble;

/// What a record's report means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The brokers will never take it, or the batch that it was in: sent alone it is certain which.
    Refused,
    /// Nothing is said about the record. The delivery has failed.
    Failed,
}

/// What `code` says about a record.
pub(super) fn verdict(code: RDKafkaErrorCode) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::InvalidDifferentRecord
        | Code::PolicyViolation
        | Code::BadMessage => Verdict::Refused,
        _ => Verdict::Failed,
    }
}

/// The reason of a dead letter.
pub(super) fn reason(code: RDKafkaErrorCode) -> String {
    let what_to_do = match code {
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge => {
            ": allow more by `max_message_size`, and by max.message.bytes of the topic"
        }
        _ => "",
    };
    format!("{}{what_to_do}", printable(&code.to_string()))
}

/// The error for a delivery that failed with `code`. `trouble` is what librdkafka said last about its connections.
pub(super) fn failed(code: RDKafkaErrorCode, trouble: Option<&Trouble>) -> Error {
    use RDKafkaErrorCode as Code;
    if let Some(trouble) = trouble.filter(|trouble| trouble.stays()) {
        return refused(trouble);
    }
    let says = printable(&code.to_string()).into_owned();
    let error = match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Error::config(format!(
                "the topic does not exist: {says}; create it, or let the brokers create topics"
            ))
        }
        Code::InvalidTopic => Error::config(format!("the brokers refuse the topic's name: {says}")),
        Code::UnsupportedCompressionType | Code::UnsupportedVersion | Code::UnsupportedFeature => {
            Error::config(format!("the brokers are too old for these options: {says}"))
        }
        Code::InvalidTransactionTimeout => Error::config(format!(
            "{says}: raise transaction.max.timeout.ms of the brokers"
        )),
        Code::TopicAuthorizationFailed => Error::auth(format!(
            "{says}: grant this user Write and Describe on the topic"
        )),
        Code::ClusterAuthorizationFailed => Error::auth(format!(
            "{says}: grant this user IdempotentWrite on the cluster"
        )),
        Code::TransactionalIdAuthorizationFailed => Error::auth(format!(
            "{says}: grant this user Write and Describe on the transactional id"
        )),
        Code::GroupAuthorizationFailed | Code::SaslAuthenticationFailed | Code::Authentication => {
            Error::auth(says)
        }
        Code::MessageTimedOut | Code::OperationTimedOut | Code::AllBrokersDown => {
            Error::unavailable(match trouble {
                Some(trouble) => format!("the brokers do not answer: {}", trouble.reason),
                None => format!(
                    "the brokers did not confirm within {} s: {says}",
                    PATIENCE.as_secs()
                ),
            })
        }
        _ => Error::unavailable(match trouble {
            Some(trouble) => format!("{says}: {}", trouble.reason),
            None => says,
        }),
    };
    error.with_code(format!("{code:?}"))
}

/// The error for trouble that no wait mends.
pub(super) fn refused(trouble: &Trouble) -> Error {
    Error::auth(format!("authentication failed: {}", trouble.reason))
        .with_code(format!("{:?}", trouble.code))
}
