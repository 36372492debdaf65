//! How a tenant's generated blobs come about: which records each holds, in which order, and which
//! of them repeat others.
//!
//! Everything is a function of the seed and a blob's number, so that two million records need no
//! memory but for the blobs' names, and the ledger can be written again at any time without
//! looking at a served body.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use crate::{
    chance::{Chance, mix},
    config::Generated,
    content_type::ContentType,
    faults::RecordFaults,
    generate::{Meta, Scene, Twist, Wanted, directory::Directory},
};

/// A typical record's size, for turning bytes into numbers of records; on the low side.
const RECORD_BYTES: u64 = 1_000;

/// How far back an earlier blob of the same feed is looked for.
const LOOK_BACK: u64 = 64;

/// One batch of generated blobs of one tenant.
pub(crate) struct Recipe {
    scene: Scene,
    seed: u64,
    batch: u64,
    config: Generated,
    faults: RecordFaults,
    anchor: DateTime<Utc>,
}

/// A blob before its records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outline {
    pub(crate) content_type: ContentType,
    pub(crate) created: DateTime<Utc>,
    pub(crate) visible_at: DateTime<Utc>,
    first: u64,
    count: u64,
    filler_bytes: usize,
}

/// One place in a blob.
#[derive(Debug, Clone, Copy)]
struct Place {
    blob: u64,
    record: u64,
    twist: Twist,
}

/// One record in a blob, as the ledger sees it.
pub(crate) struct Written {
    pub(crate) meta: Meta,
    /// Number of the blob and index of the occurrence that has the same bytes.
    pub(crate) same_as: Option<(u64, usize)>,
}

impl Recipe {
    /// A batch; batches of a tenant differ in their number and share its people and things.
    pub(crate) fn new(
        (seed, batch): (u64, u64),
        (tenant, domain): (&str, &str),
        directory: Arc<Directory>,
        (config, faults): (Generated, RecordFaults),
        anchor: DateTime<Utc>,
    ) -> Self {
        let seed = mix(&[seed, batch]);
        Self {
            scene: Scene {
                seed,
                tenant: tenant.to_owned(),
                domain: domain.to_owned(),
                directory,
                oddities: config.oddities,
                huge_records: config.huge_records,
                hostile_records: config.hostile_records,
            },
            seed: mix(&[seed, crate::chance::part(tenant)]),
            batch,
            config,
            faults,
            anchor: anchor.trunc_subsecs(3),
        }
    }

    fn per_blob(&self) -> u64 {
        u64::from(self.config.events_per_blob.max(1))
    }

    fn live_events(&self) -> u64 {
        (self.config.live_events_per_second * self.config.live_for_seconds as f64) as u64
    }

    /// Blobs that exist at the start.
    fn old(&self) -> u64 {
        self.config.events.div_ceil(self.per_blob())
    }

    /// Those and the ones that appear later, without the giants.
    fn usual(&self) -> u64 {
        self.old() + self.live_events().div_ceil(self.per_blob())
    }

    /// All blobs of the batch.
    pub(crate) fn blobs(&self) -> u64 {
        self.usual()
            + u64::from(self.config.giant_blob_bytes > 0)
            + u64::from(self.config.giant_record_bytes > 0)
    }

    /// The outline of a blob.
    pub(crate) fn outline(&self, blob: u64) -> Outline {
        if blob >= self.usual() {
            return self.giant(blob);
        }
        let mut chance = Chance::of(&[self.seed, 1, blob]);
        let content_type = self.content_type(blob, &mut chance);
        let first = blob * self.per_blob();
        let late = chance.hit(self.faults.late_blob);
        let lateness = self.faults.late_within_seconds as f64 * 1000.0 * chance.unit();
        let (created, end) = if blob < self.old() {
            (self.spread(blob, chance.unit()), self.config.events)
        } else {
            let step = self.per_blob() as f64 / self.config.live_events_per_second;
            let after = (step * 1000.0 * (blob - self.old() + 1) as f64) as i64;
            let end = self.old() * self.per_blob() + self.live_events();
            (self.anchor + TimeDelta::milliseconds(after), end)
        };
        let visible_at = if late {
            created.max(self.anchor) + TimeDelta::milliseconds(lateness as i64)
        } else {
            created
        };
        Outline {
            content_type,
            created,
            visible_at,
            first,
            count: self.per_blob().min(end - first),
            filler_bytes: 0,
        }
    }

    /// Spreads the old blobs over the configured days, in order, up to a minute before the anchor.
    fn spread(&self, blob: u64, jitter: f64) -> DateTime<Utc> {
        let span = (self.config.days * 86_400_000.0 - 60_000.0).max(0.0);
        let share = (blob as f64 + jitter) / self.old() as f64;
        let back = span * (1.0 - share) + 60_000.0f64.min(self.config.days * 86_400_000.0);
        self.anchor - TimeDelta::milliseconds(back as i64)
    }

    fn content_type(&self, blob: u64, chance: &mut Chance) -> ContentType {
        let all = if self.config.content_types.is_empty() {
            &ContentType::ALL[..]
        } else {
            &self.config.content_types[..]
        };
        // The first blobs make sure that no feed stays empty.
        if blob < all.len() as u64 {
            return all[blob as usize];
        }
        let weight = |it: &ContentType| match it {
            ContentType::General => 40,
            ContentType::SharePoint => 22,
            ContentType::Exchange => 18,
            ContentType::AzureActiveDirectory => 16,
            ContentType::Dlp => 4,
        };
        let mut left = chance.below(all.iter().map(weight).sum());
        *all.iter()
            .find(|it| {
                let found = left < weight(it);
                left = left.saturating_sub(weight(it));
                found
            })
            .unwrap_or(&all[0])
    }

    fn giant(&self, blob: u64) -> Outline {
        let many = self.config.giant_blob_bytes > 0 && blob == self.usual();
        let created = self.anchor - TimeDelta::hours(2);
        Outline {
            content_type: self.giant_content_type(),
            created,
            visible_at: created,
            first: (1 << 40) + (u64::from(many) << 39),
            count: if many {
                self.config.giant_blob_bytes / RECORD_BYTES + 1
            } else {
                1
            },
            filler_bytes: if many {
                0
            } else {
                self.config.giant_record_bytes as usize
            },
        }
    }

    fn giant_content_type(&self) -> ContentType {
        let all = &self.config.content_types;
        let general = all.contains(&ContentType::General);
        *all.first()
            .filter(|_| !general)
            .unwrap_or(&ContentType::General)
    }

    /// The content id of a blob (reference, "List available content": the modern shape).
    pub(crate) fn content_id(&self, blob: u64) -> String {
        let outline = self.outline(blob);
        let salt = mix(&[self.seed, self.batch, blob]);
        content_id(outline.content_type, outline.created, salt, blob)
    }

    /// When the blob comes again under another content id, if it does.
    pub(crate) fn redelivered_at(&self, blob: u64) -> Option<DateTime<Utc>> {
        let mut chance = Chance::of(&[self.seed, 2, blob]);
        (blob < self.usual() && chance.hit(self.faults.redelivered_blob)).then(|| {
            let outline = self.outline(blob);
            let after = TimeDelta::milliseconds(300_000 + chance.below(3_000_000) as i64);
            let again = outline.created + after;
            if again < self.anchor {
                again
            } else {
                outline.visible_at
            }
        })
    }

    /// Whether the blob is too large to be made in one piece.
    pub(crate) fn is_giant(&self, blob: u64) -> bool {
        self.outline(blob).count > 20_000
    }

    /// The order of a blob's records, repeats included.
    fn order(&self, blob: u64, outline: &Outline) -> Vec<Place> {
        let faults = &self.faults;
        let mut chance = Chance::of(&[self.seed, 3, blob]);
        let mut places = Vec::with_capacity(outline.count as usize + 8);
        for record in outline.first..outline.first + outline.count {
            let own = Place {
                blob,
                record,
                twist: Twist::None,
            };
            places.push(own);
            if blob >= self.usual() {
                continue;
            }
            if chance.hit(faults.duplicate_in_blob) {
                places.push(own);
            }
            if chance.hit(faults.two_operations) {
                places.push(Place {
                    twist: Twist::OtherOperation,
                    ..own
                });
            }
            if chance.hit(faults.variant) {
                let of = self.earlier(blob, outline.content_type, &mut chance);
                let twist = Twist::Variant(mix(&[self.seed, blob, record]));
                places.push(Place {
                    twist,
                    ..of.filter(|_| record % 2 == 0).unwrap_or(own)
                });
            }
            if chance.hit(faults.duplicate_in_other_blob) {
                places.extend(self.earlier(blob, outline.content_type, &mut chance));
            }
        }
        if blob < self.usual() {
            chance.shuffle(&mut places);
        }
        places
    }

    /// A record of an earlier blob of the same feed.
    fn earlier(&self, blob: u64, content_type: ContentType, chance: &mut Chance) -> Option<Place> {
        let from = chance.below(blob);
        let other = (from.saturating_sub(LOOK_BACK)..=from)
            .rev()
            .find(|other| *other < blob && self.outline(*other).content_type == content_type)?;
        let outline = self.outline(other);
        Some(Place {
            blob: other,
            record: outline.first + chance.below(outline.count),
            twist: Twist::None,
        })
    }

    /// Makes the records of a blob one after the other. `visit` gets each with its bytes and says
    /// whether to go on.
    pub(crate) fn each(&self, blob: u64, mut visit: impl FnMut(&[u8], Written) -> bool) {
        let outline = self.outline(blob);
        let places = self.order(blob, &outline);
        let mut first = HashMap::with_capacity(places.len());
        for (index, place) in places.iter().enumerate() {
            first.entry((place.record, place.twist)).or_insert(index);
        }
        let mut bytes = Vec::with_capacity(4096);
        for (index, place) in places.iter().enumerate() {
            bytes.clear();
            let meta = self.scene.write(&mut bytes, self.wanted(*place));
            let same_as = if place.blob == blob || place.twist != Twist::None {
                first
                    .get(&(place.record, place.twist))
                    .filter(|first| **first < index)
                    .map(|first| (blob, *first))
            } else {
                self.position(*place)
            };
            let same_as = same_as.filter(|_| meta.identified);
            if !visit(&bytes, Written { meta, same_as }) {
                return;
            }
        }
    }

    fn wanted(&self, place: Place) -> Wanted {
        let outline = self.outline(place.blob);
        Wanted {
            number: place.record,
            content_type: outline.content_type,
            blob_created: outline.created,
            twist: place.twist,
            filler_bytes: outline.filler_bytes,
        }
    }

    /// Where a record of another blob is in that blob.
    fn position(&self, place: Place) -> Option<(u64, usize)> {
        let order = self.order(place.blob, &self.outline(place.blob));
        let index = order
            .iter()
            .position(|it| it.record == place.record && it.twist == place.twist)?;
        Some((place.blob, index))
    }
}

/// Spells a content id: the moments at which a blob was opened and closed, and its feed.
pub(crate) fn content_id(
    content_type: ContentType,
    created: DateTime<Utc>,
    salt: u64,
    number: u64,
) -> String {
    let opened = created - TimeDelta::milliseconds(480_000 + (salt % 60_000) as i64);
    format!(
        "{}{:06}${}{:06}{}",
        opened.format("%Y%m%d%H%M%S%3f"),
        salt % 1_000_000,
        created.format("%Y%m%d%H%M%S%3f"),
        number % 1_000_000,
        content_type.tail()
    )
}

#[cfg(test)]
mod tests;
