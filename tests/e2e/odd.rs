//! The odd shapes that published records have, and worse ones that are made up: a list to read, so that a clean clone
//! covers what the folder of real records shows.

use audit_exporter_simulator::{Config, ContentType, ExplicitBlob, Records, TenantConfig};

use crate::exporter::Home;
use crate::microsoft::Microsoft;

/// A record with these members after the usual ones.
fn record(number: u32, more: &str) -> String {
    format!(
        r#"{{"CreationTime":"2026-01-05T10:00:00","Id":"10000000-0000-4000-8000-{number:012}","Operation":"FileAccessed"{more}}}"#
    )
}

/// Records of which each must arrive as it is; those of a group stand in one blob.
fn groups() -> Vec<Vec<String>> {
    let plain = |text: &str| text.to_owned();
    let same = record(1, "");
    vec![
        // Copies, in one blob and in another: delivered once.
        vec![same.clone(), same.clone(), record(2, "")],
        vec![same.clone(), record(3, "")],
        // One Id: other bytes, another operation, another case, another second.
        vec![
            record(1, r#","Variant":true"#),
            same.replace("FileAccessed", "FileDeleted"),
            same.replace("FileAccessed", "fileaccessed"),
            same.replace("10:00:00", "10:00:01"),
        ],
        // No Id: missing, null, empty. Twice each, and delivered twice, because nothing tells a copy from an event.
        (0..2)
            .flat_map(|_| {
                [
                    plain(r#"{"CreationTime":"2026-01-05T10:00:00","Operation":"A"}"#),
                    plain(r#"{"Id":null,"CreationTime":"2026-01-05T10:00:00","Operation":"A"}"#),
                    plain(r#"{"Id":"","CreationTime":"2026-01-05T10:00:00","Operation":"A"}"#),
                ]
            })
            .collect(),
        // An Id that is a number, or a constant that unrelated events share.
        vec![
            plain(r#"{"Id":7,"CreationTime":"2026-01-05T10:00:00","Operation":"A"}"#),
            plain(r#"{"Id":"sanitized","CreationTime":"2026-01-05T10:00:00","Operation":"A"}"#),
            plain(r#"{"Id":"sanitized","CreationTime":"2026-01-05T10:00:00","Operation":"B"}"#),
            plain(r#"{"Id":"sanitized","CreationTime":"2026-01-05T11:00:00","Operation":"A"}"#),
        ],
        // Times: with zone, fraction, space; missing; nonsense.
        [
            "2026-01-05T10:00:00Z",
            "2026-01-05T10:00:00.1234567Z",
            "2026-01-05 10:00:00",
            "",
            "yesterday",
        ]
        .iter()
        .zip(20..)
        .map(|(time, number)| record(number, "").replace("2026-01-05T10:00:00", time))
        .chain([plain(
            r#"{"Id":"20000000-0000-4000-8000-000000000000","Operation":"A"}"#,
        )])
        .collect(),
        // Values of several types, where one would be expected.
        [
            r#","RecordType":20"#,
            r#","RecordType":"20""#,
            r#","RecordType":"ExchangeAdmin""#,
            r#","RecordType":2147483648000"#,
            r#","Parameters":"text""#,
            r#","Parameters":[{"Name":"a","Value":"b"}]"#,
            r#","ExternalAccess":"False","FileSize":"1e9""#,
            r#","UserId":null,"ClientIP":"[2001:db8::1]:443""#,
            r#","ClientIP":"<null>","UserId":"NT AUTHORITY\\SYSTEM""#,
        ]
        .iter()
        .zip(30..)
        .map(|(more, number)| record(number, more))
        .collect(),
        // Text: escapes, JSON inside, white space, other alphabets, NUL, half a surrogate pair.
        [
            r#","Site":"https:\/\/contoso.sharepoint.com\/""#,
            r#","Data":"{\"a\":[1,{\"b\":\"}]\"}]}""#,
            r#","Braces":"{0f8fad5b-d9cb-469f-a165-70867728950e}""#,
            r#","Space":"  \r\n\ttext \r\n""#,
            r#","Text":"Grüße 日本語 😀 \u0000 \ud83d\ude00""#,
            r#","Half":"\ud800""#,
            r#","UserId":"A@contoso.com","UserId":"b@contoso.com""#,
            r#","X@odata.type":"\#Collection(String)","a key. with all":{"":[]}"#,
        ]
        .iter()
        .zip(40..)
        .map(|(more, number)| record(number, &more.replace("\\#", "#")))
        .collect(),
        // Size and depth.
        vec![
            record(50, &format!(r#","Long":"{}""#, "x".repeat(40_000))),
            record(51, &format!(r#","Long":"{}""#, "ü".repeat(1_500_000))),
            record(
                52,
                &format!(r#","Deep":{}1{}"#, "[".repeat(100), "]".repeat(100)),
            ),
            plain(
                r#"{"id":"60000000-0000-4000-8000-000000000000","creationTime":"2026-01-05T10:00:00"}"#,
            ),
            plain("{}"),
        ],
        // No blob holds only this, but a blob may be empty.
        vec![],
    ]
}

#[test]
fn odd_records_arrive_as_they_are() {
    let blobs = groups()
        .into_iter()
        .map(|records| ExplicitBlob::new(ContentType::General, records));
    let microsoft = Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records: Records::Explicit(blobs.collect()),
            ..TenantConfig::default()
        }],
        ..Config::default()
    });
    let tenant = microsoft.tenant(0, "contoso", "");
    let rest = r#"
[sources.activity]
type = "management_activity"
poll_interval = "1s"

[sinks.archive]
type = "file"
path = "archive/{date}/{workload}.ndjson"
"#;
    let home = Home::new(&format!("{tenant}{rest}"));
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
}
