//! Makes up audit records: each is a function of the seed and its number, so none is kept.
//!
//! Field names, their order and their types follow the published records and Microsoft's schema
//! (audit schema, sections 1 to 12), with the oddities that were counted in ten thousand real
//! records: see [`Odd`].

pub(crate) mod directory;
mod entra;
mod exchange;
mod hostile;
pub(crate) mod json;
mod odd;
mod power_platform;
mod protection;
mod sharepoint;
mod teams;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    chance::{Chance, part},
    content_type::ContentType,
    generate::{
        directory::{Directory, User},
        hostile::Hostile,
        json::{Object, guid_text},
        odd::Odd,
    },
};

/// Where records are made: one tenant and the chances it was given.
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) tenant: String,
    pub(crate) domain: String,
    pub(crate) directory: Arc<Directory>,
    pub(crate) oddities: f64,
    pub(crate) huge_records: f64,
    pub(crate) hostile_records: f64,
}

/// Which record to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The record's number in its tenant.
    pub(crate) number: u64,
    /// The feed it belongs to.
    pub(crate) content_type: ContentType,
    /// `contentCreated` of its blob; the event lies before it.
    pub(crate) blob_created: DateTime<Utc>,
    /// What is different from the record of that number.
    pub(crate) twist: Twist,
    /// Size to which it is blown up; 0 = as it comes.
    pub(crate) filler_bytes: usize,
}

/// How a record relates to the record of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Twist {
    /// It is that record.
    None,
    /// Same identity, other bytes.
    Variant(u64),
    /// Same Id, another operation.
    OtherOperation,
}

/// What the ledger needs to know of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The Id, unless missing or empty.
    pub(crate) id: Option<String>,
    /// Whether Id, time and operation are all there, so that a second copy can be told.
    pub(crate) identified: bool,
}

impl Scene {
    /// Appends a record to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, wanted: Wanted) -> Meta {
        let mut chance = Chance::of(&[self.seed, part(&self.tenant), wanted.number]);
        let odd = Odd::draw(&mut chance, self.oddities);
        let huge = chance.hit(self.huge_records);
        let hostile = Hostile::draw(&mut chance, self.hostile_records);
        let escape_slashes = chance.hit(0.6);
        let start = out.len();
        let draft = &mut Draft {
            scene: self,
            created: wanted.blob_created - delay(&mut chance),
            user: chance.favour(&self.directory.users),
            id: match odd {
                Odd::MissingId => None,
                Odd::EmptyId => Some(String::new()),
                Odd::ConstantId => Some("sanitized".to_owned()),
                Odd::PlainId => Some(format!("{:016x}:{}", chance.bits(), wanted.number)),
                _ => Some(guid_text(chance.wide())),
            },
            twist: wanted.twist,
            odd,
            chance,
        };
        let mut object = Object::open(out, escape_slashes);
        match wanted.content_type {
            ContentType::AzureActiveDirectory => entra::write(draft, &mut object),
            ContentType::Exchange => exchange::write(draft, &mut object),
            ContentType::SharePoint => sharepoint::write(draft, &mut object),
            ContentType::Dlp => protection::write(draft, &mut object),
            ContentType::General if draft.chance.hit(0.62) => {
                power_platform::write(draft, &mut object);
            }
            ContentType::General => teams::write(draft, &mut object),
        }
        let filler_bytes = if huge { 300 << 10 } else { wanted.filler_bytes };
        draft.finish(&mut object, filler_bytes);
        if let Some(hostile) = hostile {
            hostile.add(&mut object);
        }
        object.close();
        let id = draft.id.take().filter(|id| !id.is_empty());
        let mut meta = Meta {
            identified: odd != Odd::MissingTime && id.is_some(),
            id,
        };
        if let Some(hostile) = hostile {
            hostile.finish(out, start, &mut meta);
        }
        meta
    }
}

/// How long after an event its blob appears: minutes to an hour and a half for most, days for a
/// few (reference, "latency").
fn delay(chance: &mut Chance) -> TimeDelta {
    let seconds = match chance.below(100) {
        0..50 => 60 + chance.below(9 * 60),
        50..90 => 600 + chance.below(80 * 60),
        90..99 => 5_400 + chance.below(22 * 3600),
        _ => 86_400 + chance.below(2 * 86_400),
    };
    TimeDelta::milliseconds((seconds * 1000 + chance.below(1000)) as i64)
}

/// A record being made.
pub(crate) struct Draft<'s> {
    pub(crate) scene: &'s Scene,
    pub(crate) chance: Chance,
    pub(crate) user: &'s User,
    created: DateTime<Utc>,
    id: Option<String>,
    odd: Odd,
    twist: Twist,
}

/// The common fields of a record that differ by workload.
pub(crate) struct Head<'h> {
    /// The operations it may be; the first are the most frequent.
    pub(crate) operations: &'h [&'static str],
    pub(crate) record_type: i64,
    pub(crate) workload: &'h str,
    pub(crate) result: Option<&'h str>,
    pub(crate) user_key: &'h str,
    pub(crate) address: bool,
    pub(crate) object_id: Option<&'h str>,
}

impl Draft<'_> {
    /// Writes the common fields in the order in which most workloads have them.
    pub(crate) fn head(&mut self, object: &mut Object<'_>, head: &Head<'_>) -> &'static str {
        self.time(object);
        self.id(object);
        let operation = self.operation(object, head.operations);
        object.text("OrganizationId", &self.scene.tenant);
        self.record_type(object, head.record_type);
        if let Some(result) = head.result {
            object.text("ResultStatus", result);
        }
        object.text("UserKey", head.user_key);
        self.user_type(object);
        self.version(object);
        object.text("Workload", head.workload);
        if head.address {
            self.address(object);
        }
        if let Some(object_id) = head.object_id {
            object.text("ObjectId", object_id);
        }
        self.user_id(object);
        operation
    }
}
