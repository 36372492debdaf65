//! The configurations for the collectors of a SIEM do what their comments say.

use crate::configs::{CONTOSO, assert_same, collected, contoso};
use crate::intake::Post;
use crate::program::{SECRET, Setup, blobs, raw_of};

#[tokio::test(flavor = "multi_thread")]
async fn the_intake_of_a_siem_gets_what_its_configuration_selects() {
    let microsoft = contoso().await;
    let intake = crate::intake::start().await;
    let setup = Setup::of("siem-http.toml")
        .at("contoso", &microsoft)
        .variable("M365_CLIENT_SECRET", SECRET)
        .variable("SIEM_API_KEY", "the key")
        .with(
            "SINKS__SIEM__URL",
            &format!("{}/intake/{{tenant}}", intake.url),
        );
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    let directory = |_: &str, content_type: &str| content_type == "Audit.AzureActiveDirectory";
    setup.run(blobs(&microsoft, directory)).await;
    let types = ["Audit.AzureActiveDirectory"];
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &types);
    let posted = intake.posted();
    assert!(
        posted
            .iter()
            .all(|post| post.path == "/intake/contoso" && post.key == "the key")
    );
    let taken: Vec<String> = posted.iter().flat_map(Post::events).collect();
    let whole: Vec<String> = taken
        .into_iter()
        .filter(|line| line.contains("\"raw\":"))
        .collect();
    let valid = everything
        .iter()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert_same(&raw_of(&whole), valid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_syslog_has_every_record_in_a_message_of_its_own() {
    let microsoft = contoso().await;
    let collector = crate::syslog::start();
    let setup = Setup::of("siem-syslog.toml")
        .at("contoso", &microsoft)
        .variable("M365_CLIENT_SECRET", SECRET)
        .with("SINKS__SIEM__ADDRESS", &collector.address)
        .with("SINKS__SIEM__TLS", "false");
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    setup.run(blobs(&microsoft, |_, _| true)).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    let messages = collector.messages();
    let mut records = Vec::new();
    for message in &messages {
        // Facility 20, severity 6.
        assert!(message.starts_with("<166>1 "), "{message}");
        let (head, record) = message.split_once("] ").unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        assert_eq!(words[2], "contoso", "{message}");
        assert!(words[3].starts_with("m365-"), "{message}");
        records.push(record.to_owned());
    }
    assert_same(&records, &everything);
}
