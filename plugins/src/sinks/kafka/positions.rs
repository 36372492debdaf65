//! The topic that says how far committed transactions are.
//!
//! One record a lane, under the journal's id, the sink's name and the lane; compaction keeps the last. It is part of
//! the transaction that holds the lane's events, so it is there exactly if they are.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use audit_exporter_core::journal::Position;
use audit_exporter_core::{Error, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Message};
use serde::{Deserialize, Serialize};

use super::errors;
use super::producer::{QUESTION, ask, code_of};
use super::properties::{Network, PATIENCE, not_made};
use super::reports::Reports;

/// Compaction works on closed segments alone: small ones keep short what is read at each start.
const SEGMENT_BYTES: &str = "8388608";
/// Compact when a tenth of it is out of date.
const DIRTY_RATIO: &str = "0.1";

/// What a transaction leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The delivery, by a name that no other has: to tell whether a commit without an answer has happened.
    pub(super) delivery: String,
    /// How far the lane is. None for events that came outside of the journal's order.
    pub(super) position: Option<Position>,
}

/// Whose marks they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The journal's id and the sink's name, with the replay's word if it is one.
    prefix: String,
}

impl Owner {
    pub(super) fn new(journal: &str, sink: &str, replay: Option<&str>) -> Self {
        let replay = replay.map_or_else(String::new, |word| format!(".replay-{word}"));
        Self {
            prefix: format!("{journal}.{sink}{replay}"),
        }
    }

    /// The name by which brokers know the one process that may write.
    pub(super) fn transactional_id(&self) -> &str {
        &self.prefix
    }

    /// The key of a mark.
    pub(super) fn key(&self, position: Option<&Position>) -> String {
        match position {
            Some(position) => format!("{}/{}", self.prefix, position.lane),
            None => format!("{}/-", self.prefix),
        }
    }

    fn owns(&self, key: &[u8]) -> bool {
        key.strip_prefix(self.prefix.as_bytes())
            .is_some_and(|rest| rest.starts_with(b"/"))
    }
}

/// Makes the topic unless it is there.
pub(super) async fn ensure(network: &Network, topic: &str) -> Result<()> {
    let config = network.reader("read_committed")?;
    let (reports, name) = (network.reports(), topic.to_owned());
    let context = reports.clone();
    let found = ask(move || partitions(&client(&config, context)?, &name)).await?;
    match found {
        Ok(_) => return Ok(()),
        Err(error) if is_unknown(&error) => {}
        Err(error) => return Err(failed(topic, &error, &reports)),
    }
    let context = network.reports();
    let config = network.asking()?;
    let admin: AdminClient<Reports> = config.create_with_context(context).map_err(not_made)?;
    // As many copies as the brokers give by default.
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", SEGMENT_BYTES)
        .set("min.cleanable.dirty.ratio", DIRTY_RATIO);
    let options = AdminOptions::new().request_timeout(Some(QUESTION));
    let made = admin.create_topics([&new], &options).await;
    let code = match made {
        Ok(answers) => match answers.into_iter().next() {
            Some(Err((_, code))) => code,
            _ => return Ok(()),
        },
        Err(error) => code_of(&error),
    };
    if code == RDKafkaErrorCode::TopicAlreadyExists {
        return Ok(());
    }
    Err(errors::failed(code, reports.trouble().as_ref()).context(format_args!(
        "the topic {topic} for positions cannot be created; create it with cleanup.policy=compact"
    )))
}

/// The owner's marks, of all that was committed so far.
pub(super) async fn read(network: &Network, topic: &str, owner: &Owner) -> Result<Vec<Mark>> {
    let all = network.reader("read_uncommitted")?;
    let committed = network.reader("read_committed")?;
    let (reports, name, owner) = (network.reports(), topic.to_owned(), owner.clone());
    let context = reports.clone();
    let read = ask(move || {
        let ends = ends(&client(&all, context.clone())?, &name)?;
        let consumer = client(&committed, context)?;
        let until = Instant::now() + PATIENCE;
        wait_for_others(&consumer, &name, &ends, until)?;
        to_the_end(&consumer, &name, &ends, &owner, until)
    });
    let values = read
        .await?
        .map_err(|error| failed(topic, &error, &reports))?;
    let parse = |(key, value): (Vec<u8>, Vec<u8>)| {
        serde_json::from_slice(&value).map_err(|error| {
            let key = String::from_utf8_lossy(&key).into_owned();
            Error::config(format!(
                "the topic {topic} holds something else than a position under {key:?}: \
                 another program writes there"
            ))
            .with_cause(error)
        })
    };
    values.into_iter().map(parse).collect()
}

type Client = BaseConsumer<Reports>;

fn client(config: &ClientConfig, context: Reports) -> KafkaResult<Client> {
    Client::from_config_and_context(config, context)
}

fn partitions(consumer: &Client, topic: &str) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), QUESTION)?;
    let topic = metadata.topics().first();
    let error = match topic {
        Some(topic) => topic.error(),
        None => Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC),
    };
    match (topic, error) {
        (Some(topic), None) => Ok(topic
            .partitions()
            .iter()
            .map(MetadataPartition::id)
            .collect()),
        (_, error) => Err(KafkaError::MetadataFetch(
            error.map_or(RDKafkaErrorCode::UnknownTopic, Into::into),
        )),
    }
}

fn is_unknown(error: &KafkaError) -> bool {
    matches!(
        code_of(error),
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition
    )
}

/// Where each partition ends now, whatever is still open there.
fn ends(consumer: &Client, topic: &str) -> KafkaResult<HashMap<i32, i64>> {
    let ids = partitions(consumer, topic)?;
    let end = |id| Ok((id, consumer.fetch_watermarks(topic, id, QUESTION)?.1));
    ids.into_iter().map(end).collect()
}

/// Another's open transaction hides what was committed behind it. It ends, or the brokers end it.
fn wait_for_others(
    consumer: &Client,
    topic: &str,
    ends: &HashMap<i32, i64>,
    until: Instant,
) -> KafkaResult<()> {
    for (id, end) in ends {
        while consumer.fetch_watermarks(topic, *id, QUESTION)?.1 < *end {
            if Instant::now() > until {
                return Err(KafkaError::MetadataFetch(
                    RDKafkaErrorCode::OperationTimedOut,
                ));
            }
            // Nobody tells; serves the client's events meanwhile.
            drop(consumer.poll(std::time::Duration::from_millis(100)));
        }
    }
    Ok(())
}

/// Keys and last values of what the owner has, in all partitions.
fn to_the_end(
    consumer: &Client,
    topic: &str,
    ends: &HashMap<i32, i64>,
    owner: &Owner,
    until: Instant,
) -> KafkaResult<HashMap<Vec<u8>, Vec<u8>>> {
    let mut assigned = TopicPartitionList::new();
    for id in ends.keys() {
        assigned.add_partition_offset(topic, *id, Offset::Beginning)?;
    }
    consumer.assign(&assigned)?;
    let mut found = HashMap::new();
    let mut open: HashSet<i32> = ends.keys().copied().collect();
    while !open.is_empty() {
        if Instant::now() > until {
            return Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::OperationTimedOut,
            ));
        }
        match consumer.poll(QUESTION) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(id))) => drop(open.remove(&id)),
            Some(Err(error)) => return Err(error),
            Some(Ok(message)) => {
                if let (Some(key), Some(value)) = (message.key(), message.payload())
                    && owner.owns(key)
                {
                    found.insert(key.to_vec(), value.to_vec());
                }
            }
        }
    }
    Ok(found)
}

fn failed(topic: &str, error: &KafkaError, reports: &Reports) -> Error {
    match error {
        KafkaError::ClientCreation(_) | KafkaError::ClientConfig(..) => not_made(error.clone()),
        _ => errors::failed(code_of(error), reports.trouble().as_ref())
            .context(format_args!("reading positions from topic {topic}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_owner_has_its_own_marks_alone() {
        let owner = Owner::new("j1", "kafka", None);
        let position = Position {
            journal: Arc::from("j1"),
            lane: 7,
            first: 1,
            last: 2,
        };
        assert_eq!(owner.key(Some(&position)), "j1.kafka/7");
        assert!(owner.owns(b"j1.kafka/7") && owner.owns(owner.key(None).as_bytes()));
        for other in [
            Owner::new("j2", "kafka", None),
            Owner::new("j1", "kafka2", None),
            Owner::new("j1", "kafka", Some("monday")),
        ] {
            assert!(!owner.owns(other.key(None).as_bytes()), "{other:?}");
            assert!(!other.owns(owner.key(None).as_bytes()), "{other:?}");
        }
    }
}
