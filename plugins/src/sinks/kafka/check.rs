//! What `check` says about brokers and topics. It makes no topic, and writes nothing.

use std::collections::BTreeSet;

use audit_exporter_core::plugin::Finding;
use audit_exporter_core::{Result, printable};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer as _;

use super::errors;
use super::producer::{Producer, QUESTION};
use super::record::Destinations;

/// Asks the brokers for what the sink needs.
pub(super) async fn brokers(destinations: &Destinations) -> Vec<Finding> {
    match ask(destinations).await {
        Ok(mut findings) => {
            findings.extend(mixed_tenants(destinations));
            findings
        }
        Err(error) => vec![Finding::problem(format!(
            "{}: {error}",
            destinations.network().connection.brokers
        ))],
    }
}

async fn ask(destinations: &Destinations) -> Result<Vec<Finding>> {
    let network = destinations.network();
    let producer = Producer::asking(network).await?;
    let metadata = metadata(&producer, None).await?;
    let mut findings = vec![Finding::ok(format!(
        "{} answers, {} in the cluster",
        network.connection.brokers,
        plural(metadata.brokers().len(), "broker")
    ))];
    for topic in fixed_topics(destinations) {
        findings.push(self::topic(&producer, &topic).await?);
    }
    if let Some(positions) = &network.connection.positions {
        let known = self::metadata(&producer, Some(positions.clone())).await?;
        let there = known.topics().iter().any(|topic| topic.error().is_none());
        let state = if there { "is there" } else { "will be made" };
        findings.push(Finding::ok(format!(
            "topic {positions} for positions {state}"
        )));
    }
    Ok(findings)
}

async fn metadata(producer: &Producer, topic: Option<String>) -> Result<Metadata> {
    let found = producer.blocking(move |client| -> KafkaResult<Metadata> {
        client.client().fetch_metadata(topic.as_deref(), QUESTION)
    });
    found.await?.map_err(|error| producer.error(&error))
}

async fn topic(producer: &Producer, name: &str) -> Result<Finding> {
    let metadata = metadata(producer, Some(name.to_owned())).await?;
    let Some(topic) = metadata.topics().first() else {
        return Ok(Finding::warning(format!("topic {name} is not told of")));
    };
    Ok(match topic.error().map(RDKafkaErrorCode::from) {
        None => Finding::ok(format!(
            "topic {name} has {}",
            plural(topic.partitions().len(), "partition")
        )),
        Some(
            code @ (RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition),
        ) => Finding::warning(format!(
            "topic {name} does not exist ({code:?}): create it, unless the brokers create topics by themselves"
        )),
        Some(code) => {
            let error = errors::failed(code, None);
            Finding::problem(format!("topic {name}: {}", printable(&error.to_string())))
        }
    })
}

/// The topics that no record decides.
fn fixed_topics(destinations: &Destinations) -> BTreeSet<String> {
    let fixed = destinations
        .known()
        .filter(|destination| destination.topic.placeholders() == 0);
    fixed
        .map(|destination| destination.topic.start().to_owned())
        .collect()
}

/// Warns where several tenants' events end in one topic.
fn mixed_tenants(destinations: &Destinations) -> Option<Finding> {
    let shared = destinations
        .known()
        .filter(|destination| !destination.topic.names_tenant())
        .count();
    (shared > 1 && fixed_topics(destinations).len() <= 1).then(|| {
        Finding::warning(format!(
            "the topic of {shared} tenants has neither {{tenant}} nor {{tenant_id}}: their events stand in the same \
             topic, and only the header `tenant` tells them apart"
        ))
    })
}

fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}
