//! What an operator can ask.

use serde_json::Value;

use super::*;

#[tokio::test]
async fn a_preview_shows_what_the_next_mail_would_say() {
    let bench = Bench::begun().await;
    bench
        .deliver(
            "2026-11-20T12:00:00Z",
            [
                flow(0, "2026-11-20T11:00:00", 1),
                flow(0, "2026-11-18T11:00:00", 2),
            ],
        )
        .await;
    let html = bench
        .ask("2026-11-20T12:00:01Z", r#"{"do":"preview"}"#)
        .await
        .unwrap();
    assert!(
        html.contains("maker1@contoso.example") && html.contains("Late"),
        "{html}"
    );
    let day = bench
        .ask(
            "2026-11-20T12:00:01Z",
            r#"{"do":"preview","period":"2026-11-18"}"#,
        )
        .await
        .unwrap();
    assert!(
        day.contains("maker2@contoso.example") && !day.contains("maker1@"),
        "{day}"
    );
    let csv = r#"{"do":"csv","tenant":"contoso","period":"2026-11-18..2026-11-20"}"#;
    let csv = bench.ask("2026-11-20T12:00:01Z", csv).await.unwrap();
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert_eq!(bench.taken(), [], "nothing is sent");
}

#[tokio::test]
async fn a_period_is_sent_by_hand_without_touching_the_schedule() {
    let bench = Bench::with_a_flow().await;
    let request = r#"{"do":"send","period":"2026-11-20"}"#;
    let said = bench.ask("2026-11-20T13:00:00Z", request).await.unwrap();
    assert!(
        said.starts_with("contoso: sent to ada@example.com, <"),
        "{said}"
    );
    bench.tick("2026-11-21T07:00:01Z").await.unwrap();
    let subject = "New flows: 1 · Friday, 20 November 2026 · contoso".to_owned();
    assert_eq!(bench.subjects(), [subject.clone(), subject]);
    let ids: Vec<_> = bench
        .taken()
        .iter()
        .map(|mail| mail.header("Message-ID"))
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn the_list_has_what_was_sent_and_what_waits() {
    let bench = Bench::with_a_flow().await;
    bench.tick("2026-11-21T07:00:01Z").await.unwrap();
    bench
        .deliver(
            "2026-11-21T08:00:00Z",
            [
                flow(0, "2026-11-20T12:00:00", 2),
                flow(0, "2026-11-21T07:30:00", 3),
            ],
        )
        .await;
    let list = bench
        .ask("2026-11-21T09:00:00Z", r#"{"do":"list"}"#)
        .await
        .unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let contoso = &list[0];
    assert_eq!(contoso["tenant"], "contoso");
    assert_eq!(contoso["next"][2], "2026-11-22T07:00:00Z");
    assert_eq!(
        (&contoso["rows"], &contoso["late"]),
        (&Value::from(1), &Value::from(1))
    );
    let sent = &contoso["sent"][0];
    assert_eq!(
        (&sent["start"], &sent["rows"]),
        (&Value::from("2026-11-20T00:00:00Z"), &Value::from(1))
    );
    assert_eq!(
        sent["message_id"],
        *bench.taken()[0].header("Message-ID").unwrap()
    );
}

#[tokio::test]
async fn requests_that_cannot_be_met_say_why() {
    let bench = Bench::of_flows("", 2).await;
    for (request, said) in [
        (r#"{"do":"preview"}"#, "say which tenant: contoso, fabrikam"),
        (
            r#"{"do":"preview","tenant":"nobody"}"#,
            "this digest has no tenant nobody",
        ),
        (
            r#"{"do":"preview","tenant":"contoso","period":"soon"}"#,
            "a period is a day",
        ),
        (r#"{"do":"send"}"#, "say which period"),
        (r#"{"do":"dance"}"#, "does not know this request"),
    ] {
        let error = bench
            .ask("2026-11-20T12:00:00Z", request)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}
