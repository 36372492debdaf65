//! From an event to a record: topic, key, headers, value.

use std::collections::HashMap;
use std::sync::Arc;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::event::{AuditEvent, Origin, normalized};
use audit_exporter_core::{Result, http};
use chrono::{DateTime, Utc};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::config::{self, Destination, Key};
use super::properties::Network;
use crate::sinks::line::Format;
use crate::sinks::template::TimeKey;
use crate::sinks::value::push_topic_value;

/// Each tenant's destination.
pub(super) struct Destinations {
    options: Options,
    network: Network,
    tenants: HashMap<Arc<str>, Arc<Destination>>,
}

impl Destinations {
    /// Reads every tenant's options, so that an error shows at start.
    pub(super) fn new(
        options: Options,
        tenants: &[Tenant],
        http: http::Client,
        clock: Clock,
    ) -> Result<Self> {
        let first = tenants.first().map(|tenant| &*tenant.name);
        let (connection, _) = config::read(&options, first)?;
        let mut destinations = Self {
            options,
            network: Network {
                connection,
                http,
                clock,
            },
            tenants: HashMap::new(),
        };
        for tenant in tenants {
            destinations.of(&tenant.name)?;
        }
        Ok(destinations)
    }

    /// What all of them share.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// Those that are known.
    pub(super) fn known(&self) -> impl Iterator<Item = &Destination> {
        self.tenants.values().map(AsRef::as_ref)
    }

    /// A tenant's destination. One that left the configuration may still have events in the journal.
    fn of(&mut self, tenant: &Arc<str>) -> Result<Arc<Destination>> {
        if let Some(known) = self.tenants.get(tenant) {
            return Ok(Arc::clone(known));
        }
        let (connection, destination) = config::read(&self.options, Some(tenant))?;
        if connection != self.network.connection {
            let problem = "only topic, key and format can differ from tenant to tenant; \
                           other brokers are another sink";
            let key = format!("per_tenant.{tenant}");
            return Err(self.options.problem(&key, problem));
        }
        let destination = Arc::new(destination);
        self.tenants
            .insert(Arc::clone(tenant), Arc::clone(&destination));
        Ok(destination)
    }
}

/// What the previous event's topic depended on.
struct Previous {
    origin: Arc<Origin>,
    destination: Arc<Destination>,
    time: TimeKey,
}

/// Makes records of events, one after the other, without allocating for each but what librdkafka takes over.
pub(super) struct Encoder<'a> {
    destinations: &'a mut Destinations,
    now: DateTime<Utc>,
    previous: Option<Previous>,
    topic: String,
    key: String,
    value: Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// `now` stands in for events without a time.
    pub(super) fn new(destinations: &'a mut Destinations, now: DateTime<Utc>) -> Self {
        Self {
            destinations,
            now,
            previous: None,
            topic: String::new(),
            key: String::new(),
            value: Vec::new(),
        }
    }

    /// The record of `event`; its report will name `index`.
    pub(super) fn record<'r>(
        &'r mut self,
        index: usize,
        event: &'r AuditEvent,
    ) -> Result<BaseRecord<'r, str, [u8], usize>> {
        let destination = self.destination(event)?;
        let value: &[u8] = match destination.format {
            Format::Raw => event.raw(),
            Format::Normalized => {
                self.value.clear();
                normalized::write(event, &mut self.value);
                &self.value
            }
        };
        let mut record = BaseRecord::with_opaque_to(&self.topic, index)
            .payload(value)
            .headers(headers(event, destination.format));
        if let Some(key) = key(event, destination.key) {
            self.key.clear();
            self.key.push_str(&key);
            record = record.key(self.key.as_str());
        }
        Ok(record)
    }

    /// The tenant's destination, after the event's topic has been written down.
    fn destination(&mut self, event: &AuditEvent) -> Result<Arc<Destination>> {
        let origin = event.origin();
        let time = event.created().unwrap_or(self.now);
        if let Some(previous) = &self.previous
            && Arc::ptr_eq(&previous.origin, origin)
            && !previous.destination.topic.reads_record()
            && previous.destination.topic.time_key(time) == previous.time
        {
            return Ok(Arc::clone(&previous.destination));
        }
        let destination = self.destinations.of(&origin.tenant_name)?;
        destination
            .topic
            .name(event, time, push_topic_value, &mut self.topic);
        self.previous = Some(Previous {
            origin: Arc::clone(origin),
            time: destination.topic.time_key(time),
            destination: Arc::clone(&destination),
        });
        Ok(destination)
    }
}

fn key(event: &AuditEvent, key: Key) -> Option<std::borrow::Cow<'_, str>> {
    match key {
        Key::EventId => event.id(),
        Key::Tenant => Some((&*event.origin().tenant).into()),
        Key::User => event.user_id(),
        Key::None => None,
    }
}

/// What consumers can tell without a look at the value. What a record does not have has no header.
fn headers(event: &AuditEvent, format: Format) -> OwnedHeaders {
    let schema = match format {
        Format::Raw => "raw",
        Format::Normalized => "normalized",
    };
    let mut headers = OwnedHeaders::new_with_capacity(4).insert(Header {
        key: "tenant",
        value: Some(&*event.origin().tenant_name),
    });
    if let Some(operation) = event.operation() {
        headers = headers.insert(Header {
            key: "operation",
            value: Some(&*operation),
        });
    }
    if let Some(record_type) = event.record_type() {
        headers = headers.insert(Header {
            key: "record_type",
            value: Some(&record_type.0.to_string()),
        });
    }
    headers.insert(Header {
        key: "schema",
        value: Some(schema),
    })
}
