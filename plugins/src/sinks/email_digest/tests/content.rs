//! What stands in a mail, whatever the records hold.

use super::super::csv::Csv;
use super::super::report::{Gathered, Report, csv_heads};
use super::super::row::Row;
use super::super::tables::Cut;
use super::*;

/// A mail of one day about these events.
async fn mail_about(options: &str, events: impl IntoIterator<Item = AuditEvent>) -> Taken {
    let bench = Bench::new(&format!("{options}\nto = [\"ada@example.com\"]\n"), 1).await;
    bench.tick("2026-11-20T00:10:00Z").await.unwrap();
    bench.deliver("2026-11-20T12:00:00Z", events).await;
    bench.tick("2026-11-21T07:00:01Z").await.unwrap();
    bench.taken().remove(0)
}

#[tokio::test]
async fn html_in_the_name_of_a_flow_or_a_user_shows_as_text() {
    let record = r#"{"Id":"1","CreationTime":"2026-11-20T11:00:00","Operation":"CreateFlow","UserId":"<img src=x onerror=alert(1)>","FlowDisplayName":"</td><script>alert('x')</script>{{ sink }}","FlowConnectorNames":"\"><a href='https://evil.example'>,Http","FlowDetailsUrl":"javascript:alert(1)","ResultStatus":"a\u0000b\u202ec\nFrom: x"}"#;
    let mail = mail_about(FLOWS, [event(0, record)]).await;
    let html = html(&mail);
    for hostile in [
        "<img",
        "<script",
        "<a href='https://evil",
        "href=\"javascript",
        "\u{202e}",
        "\0",
    ] {
        assert!(!html.contains(hostile), "{hostile}: {html}");
    }
    for shown in [
        "&lt;img src=x onerror=alert(1)&gt;",
        "&lt;script&gt;",
        "{{ sink }}",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    let text = text(&mail);
    assert!(
        text.contains("<script>alert('x')</script>{{ sink }}"),
        "{text}"
    );
    assert!(
        !text.lines().any(|line| line.starts_with("From:")),
        "{text}"
    );
}

#[tokio::test]
async fn no_text_of_others_makes_a_header() {
    let hostile = "subject = \"{{ sections[0].groups[0].parts[0].user }}\"\n";
    let record = r#"{"Id":"1","CreationTime":"2026-11-20T11:00:00","Operation":"CreateFlow","UserId":"x\r\nBcc: eve@evil.example\r\n\r\n<b>body</b>"}"#;
    // The subject of an empty mail has no user; templates are tried with that, too.
    let subject = format!(
        "{FLOWS}{}",
        hostile
            .replace("{{ ", "{% if sections %}{{ ")
            .replace(" }}", " }}{% endif %}")
    );
    let mail = mail_about(&subject, [event(0, record)]).await;
    assert_eq!(mail.to, ["ada@example.com"]);
    assert_eq!(mail.header("Bcc"), None);
    let head = mail.text.split("\r\n\r\n").next().unwrap();
    for line in head.lines() {
        assert!(!line.to_lowercase().starts_with("bcc"), "{head}");
    }
    assert!(super::subject(&mail).starts_with('x'), "{head}");
}

#[tokio::test]
async fn rows_beyond_the_cap_are_in_an_attached_table() {
    let options = format!("{FLOWS}max_rows = 5\n");
    let flows = (0..12).map(|number| flow(0, &format!("2026-11-20T11:{number:02}:00"), number));
    let mail = mail_about(&options, flows).await;
    let html = html(&mail);
    assert_eq!(html.matches("<a href=").count(), 5);
    assert!(html.contains("… and 7 more."), "{html}");
    assert!(html.contains("digest-2026-11-20.csv"), "{html}");
    assert_eq!(
        subject(&mail),
        "New flows: 12 · Friday, 20 November 2026 · contoso"
    );
    let csv = part(&mail, "text/csv").unwrap();
    assert_eq!(csv.lines().count(), 13, "{csv}");
    assert!(mail.text.contains("filename=\"digest-2026-11-20.csv\""));
}

#[tokio::test]
async fn what_has_no_room_in_the_table_is_counted() {
    let options = format!("{FLOWS}max_rows = 1\nattachment_size = \"2KiB\"\n");
    let flows = (0..50).map(|number| flow(0, &format!("2026-11-20T11:{number:02}:00"), number));
    let mail = mail_about(&options, flows).await;
    let csv = part(&mail, "text/csv").unwrap();
    assert!(csv.len() <= 2048);
    let lines = csv.lines().count() - 1;
    let said = format!("except {} for which there was no room", 50 - lines);
    assert!(text(&mail).contains(&said), "{said}: {}", text(&mail));
}

#[tokio::test]
async fn formulas_in_names_are_text_in_the_table() {
    let record = |user: &str| {
        format!(
            r#"{{"Id":"{user}","CreationTime":"2026-11-20T11:00:00","Operation":"DeleteFlow","UserId":"{user}"}}"#
        )
    };
    let options = "report = \"events\"\nfrom = \"a@example.com\"\nmax_rows = 1\n";
    let users = ["=1+1", "+1", "-1", "@SUM(A1)"];
    let mail = mail_about(options, users.map(|user| event(0, &record(user)))).await;
    let csv = part(&mail, "text/csv").unwrap();
    for user in users {
        assert!(csv.contains(&format!("\"'{user}\"")), "{user}: {csv}");
    }
}

#[tokio::test]
async fn launches_of_both_schemas_are_counted_by_app() {
    let old = |app: &str, user: &str, minute: u32| {
        let record = format!(
            r#"{{"Id":"{app}{user}{minute}","CreationTime":"2026-11-20T11:{minute:02}:00","Operation":"LaunchPowerApp","RecordType":45,"Workload":"PowerApps","UserId":"{user}","AppName":"{app}","AdditionalInfo":"{{\"environmentName\":\"env-1\"}}"}}"#
        );
        event(0, &record)
    };
    let new = |app: &str, user: &str, minute: u32| {
        let record = format!(
            r#"{{"PropertyCollection":[{{"Name":"powerplatform.analytics.resource.power_app.display_name","Value":"Expense <Approval>"}},{{"Name":"powerplatform.analytics.resource.power_app.id","Value":"{app}"}}],"EnvironmentId":"env-1","UserId":"{user}","Id":"{app}{user}{minute}","CreationTime":"2026-11-20T11:{minute:02}:00","Operation":"LaunchPowerApp","RecordType":256}}"#
        );
        event(0, &record)
    };
    let options = "report = \"app_launches\"\nfrom = \"a@example.com\"\n";
    let launches = [
        new("app-1", "ada", 1),
        old("app-1", "bo", 2),
        old("app-1", "ada", 30),
        old("app-2", "ada", 4),
    ];
    let mail = mail_about(options, launches).await;
    assert_eq!(
        subject(&mail),
        "App launches: 4 · Friday, 20 November 2026 · contoso"
    );
    let text = text(&mail);
    assert!(text.contains("2 users in 2 apps"), "{text}");
    assert!(text.contains("Environment env-1: 4"), "{text}");
    assert!(
        text.contains("- Expense <Approval> | 3 | 2 | 11:30"),
        "{text}"
    );
    assert!(text.contains("- app-2 | 1 | 1 | 11:04"), "{text}");
    assert!(html(&mail).contains("Expense &lt;Approval&gt;"));
}

#[test]
fn apps_beyond_those_that_are_held_are_counted_and_their_users_too() {
    let launch = |app: usize, user: usize| -> Row {
        let row = format!(
            r#"{{"t":"2026-11-20T11:00:00Z","o":"LaunchPowerApp","u":"u{user}","e":"env","i":"app-{app}"}}"#
        );
        serde_json::from_str(&row).unwrap()
    };
    let mut gathered = Gathered::holding(Report::AppLaunches, 2);
    // Every app has two launches by each of its users, who are two, of five in all.
    for app in (0..4).chain(0..4) {
        gathered.add(launch(app, app));
        gathered.add(launch(app, app + 1));
    }
    let cut = Cut {
        zone: chrono_tz::UTC,
        days: false,
        most: 200,
    };
    let section = gathered.section(None, false, cut);
    assert_eq!(section.summary.unwrap(), "5 users in 4 apps");
    assert_eq!((section.count, section.more), (16, 2));
    assert_eq!(gathered.not_held(), 2);
    let mut csv = Csv::new(csv_heads(Report::AppLaunches), usize::MAX);
    gathered.csv("contoso", false, &mut csv);
    let (text, _) = csv.finish();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{text}");
    for line in lines {
        assert!(line.contains(r#","4","2","2026-11-20"#), "{line}");
    }
}

#[tokio::test]
async fn any_events_are_told_by_operation_and_user() {
    let record = |operation: &str, user: &str| {
        let record = format!(
            r#"{{"Id":"{operation}{user}","CreationTime":"2026-11-20T11:00:00","Operation":"{operation}","UserId":"{user}","RecipientUPN":"eve@example.com"}}"#
        );
        event(0, &record)
    };
    let options = "report = \"events\"\ntitle = \"Permission changes\"\nfrom = \"a@example.com\"\n";
    let events = [
        record("PutPermissions", "ada"),
        record("DeletePermissions", "ada"),
        record("PutPermissions", "bo"),
    ];
    let text = text(&mail_about(options, events).await);
    for shown in [
        "Operation PutPermissions: 2",
        "Operation DeletePermissions: 1",
        "eve@example.com",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
}

#[tokio::test]
async fn a_record_that_says_nothing_is_a_row_all_the_same() {
    let mail = mail_about(
        FLOWS,
        [event(0, "no JSON"), event(0, "{}"), event(0, "[1]")],
    )
    .await;
    assert_eq!(
        subject(&mail),
        "New flows: 3 · Friday, 20 November 2026 · contoso"
    );
    assert!(html(&mail).contains("(unknown)"));
}

#[tokio::test]
async fn a_mail_loads_nothing_and_runs_nothing() {
    let mail = mail_about(FLOWS, [flow(0, "2026-11-20T11:00:00", 1)]).await;
    let html = html(&mail).to_lowercase();
    for foreign in ["<script", "<img", "src=", "url(", "@import", "<link"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert_eq!(
        mail.header("Auto-Submitted").as_deref(),
        Some("auto-generated")
    );
}

#[tokio::test]
async fn a_connector_that_a_flow_names_often_is_shown_once() {
    let record = r#"{"Id":"1","CreationTime":"2026-11-20T11:00:00","Operation":"CreateFlow","FlowConnectorNames":"Http, Request,Http,,Http"}"#;
    let text = text(&mail_about(FLOWS, [event(0, record)]).await);
    assert!(text.contains("| Http, Request"), "{text}");
    assert_eq!(text.matches("Http").count(), 1, "{text}");
}
