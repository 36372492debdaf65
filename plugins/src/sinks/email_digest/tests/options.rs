//! Mistakes in the options are told at start.

use audit_exporter_core::Kind;

use super::*;

fn error_of(options: &str, tenants: usize) -> String {
    let mut context = context("sinks.digest", options);
    context.tenants = IDS[..tenants]
        .iter()
        .map(|(name, id)| tenant(name, id))
        .collect();
    let error = refusal(context);
    assert_eq!(error.kind(), Kind::Config, "{error}");
    error.to_string()
}

const SMTP: &str = "smtp = { host = \"smtp.example.com\" }\n";

#[test]
fn a_tenant_without_recipients_is_named() {
    let options = format!("{FLOWS}{SMTP}[per_tenant.contoso]\nto = [\"ada@example.com\"]\n");
    let error = error_of(&options, 2);
    assert!(
        error.contains("to") && error.contains("fabrikam"),
        "{error}"
    );
}

#[test]
fn mistakes_are_named_with_their_key() {
    let good = format!("{FLOWS}to = [\"ada@example.com\"]\n");
    for (more, named) in [
        ("", "sinks.digest.smtp"),
        (
            "smtp = { host = \"a\" }\ngraph = { sender = \"b\" }\n",
            "sinks.digest.graph",
        ),
        (
            "smtp = { host = \"smtp.example.com\", tls = \"none\" }\n",
            "smtp.tls",
        ),
        (
            "smtp = { host = \"smtp.example.com\", user = \"u\" }\n",
            "smtp.password",
        ),
        (
            "smtp = { host = \"smtp.example.com\", password = \"p\" }\n",
            "smtp.user",
        ),
        (
            "smtp = { host = \"smtp.example.com\", ca_file = \"nowhere.pem\" }\n",
            "smtp.ca_file",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\ntime_zone = \"Europe/Berlim\"\n",
            "Europe/Berlin",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\nschedule = \"0 7 * *\"\n",
            "sinks.digest.schedule",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\nschedule = \"0 7 30 2 *\"\n",
            "sinks.digest.schedule",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\ncatch_up = 0\n",
            "sinks.digest.catch_up",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\nsettle = \"500d\"\n",
            "sinks.digest.settle",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\nhtml_template = \"nowhere.html\"\n",
            "nowhere.html",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\nsubject = \"{{ titel }}\"\n",
            "sinks.digest.subject",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\ncc = [\"ada\"]\n",
            "sinks.digest.cc",
        ),
        (
            "smtp = { host = \"smtp.example.com\" }\nreports = 1\n",
            "reports",
        ),
        (
            "graph = { sender = \"a@b.c\", tenant = \"contosso\" }\n",
            "contoso",
        ),
    ] {
        let error = error_of(&format!("{good}{more}"), 1);
        assert!(error.contains(named), "{named}: {error}");
    }
}

#[test]
fn an_archive_is_not_replayed_into_a_digest() {
    let mut context = context(
        "sinks.digest",
        &format!("{FLOWS}to = [\"ada@example.com\"]\n{SMTP}"),
    );
    context.replay = Some("20261120".into());
    assert!(refusal(context).to_string().contains("another sink"));
}

#[tokio::test]
async fn check_warns_of_recipients_that_get_the_mails_of_several_tenants() {
    let bench = Bench::new(&format!("{FLOWS}to = [\"ada@example.com\"]\n"), 2).await;
    let found = bench.sink("2026-11-20T00:00:00Z").check().await;
    let messages: Vec<&str> = found
        .iter()
        .map(|finding| finding.message.as_str())
        .collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(
        messages[0].ends_with("takes mails without a login"),
        "{messages:?}"
    );
    assert!(
        messages[1].starts_with("ada@example.com gets the mails of 2 tenants"),
        "{messages:?}"
    );
}
