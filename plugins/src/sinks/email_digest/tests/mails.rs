//! Which mails are sent, when, to whom, and with what in them.

use std::time::Duration;

use audit_exporter_core::Kind;
use chrono::TimeDelta;

use super::*;

#[tokio::test]
async fn a_days_flows_are_in_the_mail_of_the_next_morning() {
    let bench = Bench::begun().await;
    bench
        .deliver(
            "2026-11-20T12:00:00Z",
            [
                flow(0, "2026-11-20T11:00:00", 1),
                flow(0, "2026-11-20T11:30:00", 2),
            ],
        )
        .await;
    // One of the next day is not in it.
    bench
        .deliver("2026-11-21T01:00:00Z", [flow(0, "2026-11-21T00:30:00", 3)])
        .await;
    let next = bench.tick("2026-11-21T06:59:00Z").await.unwrap();
    assert_eq!(next, Some(at("2026-11-21T07:00:00Z")));
    assert_eq!(bench.taken(), []);
    let next = bench.tick("2026-11-21T07:00:01Z").await.unwrap();
    assert_eq!(next, Some(at("2026-11-22T07:00:00Z")));
    assert_eq!(
        bench.subjects(),
        ["New flows: 2 · Friday, 20 November 2026 · contoso"]
    );
    let mail = &bench.taken()[0];
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("audit@example.com", &["ada@example.com".to_owned()][..])
    );
    for text in [html(mail), text(mail)] {
        for shown in [
            "maker1@contoso.example",
            "flow-contoso-2",
            "Request, Http",
            "read and write",
            "env-contoso",
        ] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(!text.contains("maker3"), "{text}");
    }
    // The third is in the next.
    bench.tick("2026-11-22T07:00:01Z").await.unwrap();
    assert!(html(&bench.taken()[1]).contains("maker3"));
}

#[tokio::test]
async fn a_flow_that_arrives_after_its_mail_is_in_the_next_as_late() {
    let bench = Bench::begun().await;
    bench.tick("2026-11-21T07:00:01Z").await.unwrap();
    bench
        .deliver("2026-11-21T08:00:00Z", [flow(0, "2026-11-20T23:00:00", 1)])
        .await;
    bench.tick("2026-11-22T07:00:01Z").await.unwrap();
    bench.tick("2026-11-23T07:00:01Z").await.unwrap();
    assert_eq!(
        bench.subjects(),
        [
            "New flows: none · Friday, 20 November 2026 · contoso",
            "New flows: none + 1 late · Saturday, 21 November 2026 · contoso",
            "New flows: none · Sunday, 22 November 2026 · contoso",
        ]
    );
    assert!(html(&bench.taken()[1]).contains("maker1@contoso.example"));
    // The same record once more, as from an archive, is in no mail again.
    bench
        .deliver("2026-11-23T08:00:00Z", [flow(0, "2026-11-20T23:00:00", 1)])
        .await;
    bench.tick("2026-11-24T07:00:01Z").await.unwrap();
    assert_eq!(
        bench.subjects()[3],
        "New flows: none · Monday, 23 November 2026 · contoso"
    );
}

#[tokio::test]
async fn killed_between_the_servers_answer_and_the_commit_the_same_mail_comes_again() {
    let bench = Bench::with_a_flow().await;
    let standing = bench.complete_to(Some(at("2026-11-21T07:00:00Z")));
    // It is written down first …
    let begun = bench
        .sink("2026-11-21T07:00:01Z")
        .tick(&standing)
        .await
        .unwrap();
    assert_eq!(bench.taken(), []);
    bench.store.apply(begun.changes).await.unwrap();
    // … then sent, and the process ends before the changes are committed.
    drop(
        bench
            .sink("2026-11-21T07:00:02Z")
            .tick(&standing)
            .await
            .unwrap(),
    );
    assert_eq!(bench.taken().len(), 1);
    // What arrives meanwhile does not change the mail.
    bench
        .deliver("2026-11-21T09:00:00Z", [flow(0, "2026-11-20T12:00:00", 2)])
        .await;
    bench.tick("2026-11-21T09:00:01Z").await.unwrap();
    let taken = bench.taken();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0], taken[1], "the same bytes, Message-ID and all");
    assert!(taken[0].header("Message-ID").is_some());
    // It is late in the next.
    bench.tick("2026-11-22T07:00:01Z").await.unwrap();
    assert_eq!(
        bench.subjects()[2],
        "New flows: none + 1 late · Saturday, 21 November 2026 · contoso"
    );
    assert_ne!(
        bench.taken()[2].header("Message-ID"),
        taken[0].header("Message-ID")
    );
}

#[tokio::test]
async fn three_tenants_mails_do_not_cross() {
    let bench = Bench::new(
        &format!(
            "{FLOWS}\n[per_tenant.contoso]\nto = [\"ada@contoso.example\"]\n\
             [per_tenant.fabrikam]\nto = [\"bo@fabrikam.example\"]\n\
             [per_tenant.tailspin]\nto = [\"cy@tailspin.example\"]\ntitle = \"Neue Flows\"\n"
        ),
        3,
    )
    .await;
    bench.tick("2026-11-20T00:10:00Z").await.unwrap();
    for tenant in 0..3 {
        let flows = (0..=tenant).map(|number| flow(tenant, "2026-11-20T11:00:00", number));
        bench.deliver("2026-11-20T12:00:00Z", flows).await;
    }
    bench.tick("2026-11-21T07:00:01Z").await.unwrap();
    let taken = bench.taken();
    assert_eq!(taken.len(), 3);
    for (mail, (name, to, title)) in taken.iter().zip([
        ("contoso", "ada@contoso.example", "New flows: 1"),
        ("fabrikam", "bo@fabrikam.example", "New flows: 2"),
        ("tailspin", "cy@tailspin.example", "Neue Flows: 3"),
    ]) {
        assert_eq!(mail.to, [to]);
        assert!(subject(mail).starts_with(title), "{}", subject(mail));
        for (other, _) in IDS {
            let whole = format!("{} {} {}", html(mail), text(mail), subject(mail));
            assert_eq!(
                whole.contains(other),
                other == name,
                "{other} in the mail of {name}"
            );
        }
    }
}

#[tokio::test]
async fn several_tenants_are_in_one_mail_if_the_configuration_says_so() {
    let bench = Bench::of_flows("combine_tenants = true", 2).await;
    bench.tick("2026-11-20T00:10:00Z").await.unwrap();
    for tenant in 0..2 {
        bench
            .deliver(
                "2026-11-20T12:00:00Z",
                [flow(tenant, "2026-11-20T11:00:00", 7)],
            )
            .await;
    }
    bench.tick("2026-11-21T07:00:01Z").await.unwrap();
    assert_eq!(
        bench.subjects(),
        ["New flows: 2 · Friday, 20 November 2026 · contoso, fabrikam"]
    );
    let html = html(&bench.taken()[0]);
    assert!(html.contains("maker7@contoso.example") && html.contains("maker7@fabrikam.example"));
}

#[tokio::test]
async fn a_mail_waits_for_collection_and_then_says_that_it_is_behind() {
    let bench = Bench::begun().await;
    let behind = bench.complete_to(Some(at("2026-11-21T05:59:59Z")));
    let next = bench
        .tick_when("2026-11-21T07:00:01Z", &behind)
        .await
        .unwrap();
    assert!(
        next.is_some_and(|next| next <= at("2026-11-21T07:01:02Z")),
        "{next:?}"
    );
    let unknown = bench.complete_to(None);
    bench
        .tick_when("2026-11-21T18:59:00Z", &unknown)
        .await
        .unwrap();
    assert_eq!(bench.taken(), []);
    // Twelve hours after it was due.
    bench
        .tick_when("2026-11-21T19:00:01Z", &behind)
        .await
        .unwrap();
    let mail = &bench.taken()[0];
    for text in [html(mail), text(mail)] {
        assert!(text.contains("Collection of contoso was behind"), "{text}");
        assert!(
            text.contains("complete up to Sat 21 Nov 2026, 05:59 UTC"),
            "{text}"
        );
    }
    // One that has all that it needs says nothing.
    let enough = bench.complete_to(Some(at("2026-11-22T06:00:00Z")));
    bench
        .tick_when("2026-11-22T07:00:01Z", &enough)
        .await
        .unwrap();
    assert!(!html(&bench.taken()[1]).contains("behind"));
}

#[tokio::test]
async fn after_a_downtime_the_missed_mails_come_in_order() {
    let bench = Bench::of_flows("catch_up = 2", 1).await;
    bench.tick("2026-11-16T00:10:00Z").await.unwrap();
    for day in 16..20 {
        let time = format!("2026-11-{day}T11:00:00");
        bench
            .deliver("2026-11-20T08:00:00Z", [flow(0, &time, day)])
            .await;
    }
    bench.tick("2026-11-20T08:00:01Z").await.unwrap();
    assert_eq!(
        bench.subjects(),
        [
            "New flows: 3 · Mon 16 – Wed 18 Nov 2026 · contoso",
            "New flows: 1 · Thursday, 19 November 2026 · contoso",
        ]
    );
}

#[tokio::test]
async fn a_day_without_anything_has_a_mail_or_none() {
    let silent = Bench::of_flows("send_empty = false", 1).await;
    silent.tick("2026-11-20T00:10:00Z").await.unwrap();
    silent.tick("2026-11-21T07:00:01Z").await.unwrap();
    assert_eq!(silent.taken(), []);
    silent
        .deliver("2026-11-21T12:00:00Z", [flow(0, "2026-11-21T11:00:00", 1)])
        .await;
    silent.tick("2026-11-22T07:00:01Z").await.unwrap();
    assert_eq!(
        silent.subjects(),
        ["New flows: 1 · Saturday, 21 November 2026 · contoso"]
    );

    let told = Bench::flows().await;
    told.tick("2026-11-20T00:10:00Z").await.unwrap();
    told.tick("2026-11-21T07:00:01Z").await.unwrap();
    assert!(html(&told.taken()[0]).contains("No new flows in this period."));
    assert!(text(&told.taken()[0]).contains("No new flows in this period."));
}

#[tokio::test]
async fn a_refused_mail_keeps_its_rows_and_does_not_hold_up_other_tenants() {
    let bench = Bench::new(
        &format!(
            "{FLOWS}to = [\"ada@example.com\"]\n[per_tenant.contoso]\nto = [\"gone@contoso.example\"]\n"
        ),
        2,
    )
    .await;
    bench.tick("2026-11-20T00:10:00Z").await.unwrap();
    for tenant in 0..2 {
        bench
            .deliver(
                "2026-11-20T12:00:00Z",
                [flow(tenant, "2026-11-20T11:00:00", 5)],
            )
            .await;
    }
    bench
        .server
        .refuse("RCPT TO:<gone@", "550 5.1.1 no such user");
    let error = bench.tick("2026-11-21T07:00:01Z").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let message = error.to_string();
    for said in ["contoso", "gone@contoso.example", "550", "no such user"] {
        assert!(message.contains(said), "{said}: {message}");
    }
    assert_eq!(bench.taken().len(), 1, "fabrikam has its mail");
    assert_eq!(bench.taken()[0].to, ["ada@example.com"]);
    bench.server.accept();
    bench.tick("2026-11-21T08:00:01Z").await.unwrap();
    assert_eq!(bench.taken().len(), 2);
    assert!(html(&bench.taken()[1]).contains("maker5@contoso.example"));
}

#[tokio::test]
async fn rows_stay_for_a_while_after_their_mail_and_then_go() {
    let bench = Bench::of_flows("keep = \"2d\"", 1).await;
    bench.tick("2026-11-20T00:10:00Z").await.unwrap();
    bench
        .deliver("2026-11-20T12:00:00Z", [flow(0, "2026-11-20T11:00:00", 1)])
        .await;
    let rows = async || bench.store.scan("row/", None, 10).await.unwrap().len();
    for (now, left) in [
        ("2026-11-21T07:00:01Z", 1),
        ("2026-11-22T07:00:01Z", 1),
        ("2026-11-23T07:00:01Z", 0),
    ] {
        bench.tick(now).await.unwrap();
        assert_eq!(rows().await, left, "{now}");
    }
}

/// Lets so much time pass for the clocks of tests.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_tenants_refused_mail_is_tried_at_its_own_time_and_puts_off_no_other() {
    let bench = Bench::new(
        &format!(
            "{FLOWS}to = [\"ada@example.com\"]\nkeep = \"1d\"\n[per_tenant.contoso]\nto = [\"gone@contoso.example\"]\n[per_tenant.fabrikam]\nschedule = \"30 7 * * *\"\n"
        ),
        2,
    )
    .await;
    bench.tick("2026-11-19T00:10:00Z").await.unwrap();
    let old = flow(1, "2026-11-19T11:00:00", 1);
    bench.deliver("2026-11-19T12:00:00Z", [old]).await;
    bench.tick("2026-11-20T07:30:01Z").await.unwrap();
    for tenant in 0..2 {
        let flow = flow(tenant, "2026-11-20T11:00:00", 5);
        bench.deliver("2026-11-20T12:00:00Z", [flow]).await;
    }
    bench
        .server
        .refuse("RCPT TO:<gone@", "550 5.1.1 no such user");
    let gone = |line: &&String| line.contains("gone@");
    let tries = || bench.server.commands().iter().filter(gone).count();
    let before = (tries(), bench.taken().len());
    let context = bench.context("2026-11-21T07:00:01Z");
    let clock = context.clock.clone();
    let sink = super::super::build(context).unwrap();
    let standing = bench.complete_to(Some(at("2100-01-01T00:00:00Z")));
    let error = bench.tick_of(&*sink, &standing).await.unwrap_err();
    assert!(error.to_string().contains("contoso"), "{error}");
    let due = at("2026-11-21T07:30:00Z");
    while bench.taken().len() == before.1 {
        let tick = sink.tick(&standing).await.unwrap();
        assert!(matches!(tick.trouble, Trouble::Waits), "{tick:?}");
        let next = tick.next.unwrap();
        assert!(next <= due, "fabrikam's mail waits until {next}");
        pass((next - clock.now()).to_std().unwrap()).await;
        drop(bench.tick_of(&*sink, &standing).await);
    }
    assert!(clock.now() >= due && clock.now() < due + TimeDelta::minutes(1));
    assert_eq!(bench.taken().last().unwrap().to, ["ada@example.com"]);
    let count = tries() - before.0;
    assert!(
        (5..20).contains(&count),
        "tried {count} times, with growing waits"
    );
    let prefix = format!("row/{}", IDS[1].1);
    let rows = bench.store.scan(&prefix, None, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "what is old is gone all the same");
    bench.server.accept();
    pass(Duration::from_hours(1)).await;
    bench.tick_of(&*sink, &standing).await.unwrap();
    assert_eq!(bench.taken().len(), before.1 + 2);
    let tick = sink.tick(&standing).await.unwrap();
    assert!(matches!(tick.trouble, Trouble::None), "{tick:?}");
}
