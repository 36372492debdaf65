//! The odd shapes of real records, each with the frequency at which it is worth meeting: no Id, an
//! empty or constant one, times with a zone or a fraction, numbers as text, a key that occurs
//! twice (audit schema, "Type drift to tolerate", and the counts over published records).

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};

use crate::{
    chance::Chance,
    generate::{Draft, Twist, json::Object},
};

/// What is odd about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    Nothing,
    MissingId,
    EmptyId,
    ConstantId,
    PlainId,
    TimeWithZone,
    TimeWithFraction,
    TimeWithSpace,
    MissingTime,
    RecordTypeUnknown,
    RecordTypeAsText,
    RecordTypeAsName,
    UserTypeAsName,
    VersionAsText,
    RepeatedKey,
    NullAddress,
    StrangeKeys,
    EmptyUser,
}

/// Of ten thousand records, how many are odd in this way.
const FREQUENCIES: [(Odd, u64); 17] = [
    (Odd::MissingId, 30),
    (Odd::EmptyId, 15),
    (Odd::ConstantId, 25),
    (Odd::PlainId, 25),
    (Odd::TimeWithZone, 80),
    (Odd::TimeWithFraction, 40),
    (Odd::TimeWithSpace, 10),
    (Odd::MissingTime, 10),
    (Odd::RecordTypeUnknown, 40),
    (Odd::RecordTypeAsText, 30),
    (Odd::RecordTypeAsName, 10),
    (Odd::UserTypeAsName, 20),
    (Odd::VersionAsText, 10),
    (Odd::RepeatedKey, 30),
    (Odd::NullAddress, 30),
    (Odd::StrangeKeys, 30),
    (Odd::EmptyUser, 15),
];

impl Odd {
    /// Draws what is odd about a record, at `scale` times the usual frequency.
    pub(crate) fn draw(chance: &mut Chance, scale: f64) -> Self {
        let place = chance.unit() * 10_000.0;
        let mut reached = 0.0;
        FREQUENCIES
            .into_iter()
            .find_map(|(odd, frequency)| {
                reached += frequency as f64 * scale;
                (place < reached).then_some(odd)
            })
            .unwrap_or(Self::Nothing)
    }
}

impl Draft<'_> {
    /// `CreationTime`: UTC without a zone, but for a few.
    pub(crate) fn time(&mut self, object: &mut Object<'_>) {
        let mut text = stamp(
            self.created,
            if self.odd == Odd::TimeWithSpace {
                ' '
            } else {
                'T'
            },
        );
        match self.odd {
            Odd::MissingTime => return,
            Odd::TimeWithZone => text.push('Z'),
            Odd::TimeWithFraction => {
                let ticks = self.created.timestamp_subsec_nanos() / 100;
                let fraction = format!(".{ticks:07}Z");
                text.push_str(&fraction);
            }
            _ => {}
        }
        object.text("CreationTime", &text);
    }

    /// A time of the event's past, zone-less, for the fields that hold one.
    pub(crate) fn earlier(&mut self, seconds: u64) -> String {
        let back = TimeDelta::seconds(self.chance.below(seconds) as i64);
        stamp(self.created - back, 'T')
    }

    /// `Id`.
    pub(crate) fn id(&mut self, object: &mut Object<'_>) {
        if let Some(id) = &self.id {
            object.text("Id", id);
        }
    }

    /// `Operation`: one of these, the first far more often.
    pub(crate) fn operation(
        &mut self,
        object: &mut Object<'_>,
        operations: &[&'static str],
    ) -> &'static str {
        let share = self.chance.unit();
        let operation = self.turned(
            operations,
            (share * share * operations.len() as f64) as usize,
        );
        object.text("Operation", operation);
        operation
    }

    /// The operation at this place, or another one for the twin that shares its Id.
    pub(crate) fn turned(&self, operations: &[&'static str], place: usize) -> &'static str {
        let drawn = operations[place];
        let other = || operations.iter().find(|operation| **operation != drawn);
        match self.twist {
            Twist::OtherOperation => other().copied().unwrap_or("OtherOperation"),
            _ => drawn,
        }
    }

    /// `RecordType`: an integer, but for a few.
    pub(crate) fn record_type(&mut self, object: &mut Object<'_>, value: i64) {
        match self.odd {
            Odd::RecordTypeUnknown => object.number("RecordType", 9_999),
            Odd::RecordTypeAsText => object.text("RecordType", &value.to_string()),
            Odd::RecordTypeAsName => object.text("RecordType", name_of(value)),
            _ => object.number("RecordType", value),
        }
    }

    /// `UserType`: an integer, but for a few.
    pub(crate) fn user_type(&mut self, object: &mut Object<'_>) {
        let value = if self.user.admin { 2 } else { 0 };
        if self.odd == Odd::UserTypeAsName {
            object.text("UserType", if value == 2 { "Admin" } else { "DcAdmin" });
        } else {
            object.number("UserType", value);
        }
    }

    /// `Version`.
    pub(crate) fn version(&mut self, object: &mut Object<'_>) {
        if self.odd == Odd::VersionAsText {
            object.text("Version", "1");
        } else {
            object.number("Version", 1);
        }
    }

    /// `ClientIP` in one of its many forms.
    pub(crate) fn address(&mut self, object: &mut Object<'_>) {
        if self.odd == Odd::NullAddress {
            object.raw("ClientIP", "null");
            return;
        }
        let address = &self.user.address;
        match self.chance.below(100) {
            0..72 => object.text("ClientIP", address),
            72..80 => {
                let port = 1_024 + self.chance.below(60_000);
                object.text("ClientIP", &format!("{address}:{port}"));
            }
            80..88 => {
                let host = self.chance.below(65_536);
                object.text("ClientIP", &format!("2001:db8:85a3::8a2e:370:{host:x}"));
            }
            88..91 => object.text("ClientIP", "[2001:db8:85a3::7]:53127"),
            91..94 => object.text("ClientIP", &format!("::ffff:{address}")),
            94..96 => object.text("ClientIP", "<null>"),
            96..97 => object.text("ClientIP", "000.000.1.212"),
            97..98 => object.text("ClientIP", ""),
            _ => {}
        }
        if self.odd == Odd::RepeatedKey {
            object.text("ClientIP", "0.0.0.0");
        }
    }

    /// `UserId`: the principal name, in either case, or one of the things that stand for it.
    pub(crate) fn user_id(&mut self, object: &mut Object<'_>) {
        let name = &self.user.principal_name;
        match self.chance.below(1_000) {
            _ if self.odd == Odd::EmptyUser => object.text("UserId", ""),
            0..900 => object.text("UserId", name),
            900..960 => object.text("UserId", &name.to_lowercase()),
            960..970 => object.text(
                "UserId",
                "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.ServiceHost)",
            ),
            970..980 => object.text("UserId", "app@sharepoint"),
            980..985 => object.text("UserId", "Not Available"),
            985..990 => object.text("UserId", &self.user.sid),
            990..995 => object.text("UserId", &self.user.puid),
            _ => object.guid("UserId", self.user.object_id),
        }
    }

    /// A random GUID member.
    pub(crate) fn any_guid(&mut self, object: &mut Object<'_>, key: &str) {
        let value = self.chance.wide();
        object.guid(key, value);
    }

    /// The members that some records have at their end.
    pub(crate) fn finish(&mut self, object: &mut Object<'_>, filler_bytes: usize) {
        if self.odd == Odd::StrangeKeys {
            object.text("Actor@odata.type", "#Collection(Edm.String)");
            object.text("some key. with spaces", " padded ");
            object.number("Ticks", 638_000_000_000_000_000 + self.created.timestamp());
        }
        if let Twist::Variant(salt) = self.twist {
            let unit = Chance::of(&[salt]).wide();
            object.array("AssociatedAdminUnits", |units| units.guid(unit));
        }
        if filler_bytes > 0 {
            object.filler("ExtendedData", filler_bytes);
        }
    }
}

fn name_of(record_type: i64) -> &'static str {
    match record_type {
        1 => "ExchangeAdmin",
        8 => "AzureActiveDirectory",
        15 => "AzureActiveDirectoryStsLogon",
        30 => "MicrosoftFlow",
        45 => "PowerAppsApp",
        _ => "SharePointFileOperation",
    }
}

/// `yyyy-MM-ddTHH:mm:ss`. Written by hand: formatting through a pattern took a third of the time
/// of a whole record.
fn stamp(time: DateTime<Utc>, between: char) -> String {
    let mut text = String::with_capacity(20);
    let mut digits = |value: u32, places: u32| {
        for place in (0..places).rev() {
            text.push(char::from(b'0' + (value / 10u32.pow(place) % 10) as u8));
        }
    };
    digits(time.year().unsigned_abs(), 4);
    digits(time.month(), 2);
    digits(time.day(), 2);
    digits(time.hour(), 2);
    digits(time.minute(), 2);
    digits(time.second(), 2);
    for (place, separator) in [(4, '-'), (7, '-'), (10, between), (13, ':'), (16, ':')] {
        text.insert(place, separator);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_zone_less_and_to_the_second() {
        let time = "2026-03-09T04:05:06.789Z".parse().unwrap();
        assert_eq!(stamp(time, 'T'), "2026-03-09T04:05:06");
        assert_eq!(stamp(time, ' '), "2026-03-09 04:05:06");
    }

    #[test]
    fn no_oddity_at_scale_zero_and_each_at_scale_one() {
        let mut chance = Chance::of(&[3]);
        assert!((0..10_000).all(|_| Odd::draw(&mut chance, 0.0) == Odd::Nothing));
        let seen: Vec<Odd> = (0..200_000).map(|_| Odd::draw(&mut chance, 1.0)).collect();
        for (odd, _) in FREQUENCIES {
            assert!(seen.contains(&odd), "{odd:?}");
        }
    }
}
