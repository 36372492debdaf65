use super::*;

fn token(tid: &str, roles: &str) -> Reply {
    let claims = format!(r#"{{"aud":"https://manage.office.com","tid":"{tid}","roles":{roles}}}"#);
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
    Reply::token(&format!("e30.{claims}.sig"), "3600")
}

/// All findings, one a line, as `severity: message`.
async fn findings(
    answer: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
    options: &str,
) -> String {
    let peer = tenant(answer).await;
    let found = source(&peer, options).check().await;
    assert!(
        peer.seen()
            .iter()
            .all(|seen| seen.is_token_request() || seen.method == "GET")
    );
    let line = |finding: Finding| format!("{:?}: {}\n", finding.severity, finding.message);
    let text: String = found.into_iter().map(line).collect();
    assert!(!text.contains(SECRET));
    text
}

#[tokio::test]
async fn a_tenant_that_is_set_up_has_nothing_but_good_findings() {
    let roles = r#"["ActivityFeed.Read","ActivityFeed.ReadDlp"]"#;
    let found = findings(
        move |seen| seen.is_token_request().then(|| token(TENANT, roles)),
        "",
    )
    .await;
    assert_eq!(found.lines().count(), 9, "{found}");
    assert!(
        found.lines().all(|line| line.starts_with("Ok: ")),
        "{found}"
    );
    assert!(
        found.contains("(cloud commercial) with ActivityFeed.Read"),
        "{found}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_with_microsofts_code() {
    let refusal = |code: u32| {
        let body = format!(r#"{{"error":"x","error_codes":[{code}]}}"#);
        move |seen: &Seen| {
            seen.is_token_request()
                .then(|| Reply::new(400, body.clone()))
        }
    };
    for (code, told) in [
        (7_000_215, "the secret's value, not the secret's ID"),
        (90_002, "cloud names the national cloud"),
        (900_382, "another national cloud"),
        (500_011, "check cloud and audience"),
        (700_016, "check client_id"),
    ] {
        let found = findings(refusal(code), "").await;
        let problem = found.lines().last().unwrap();
        assert!(problem.starts_with("Problem: no token: "), "{found}");
        assert!(
            problem.contains(&format!("AADSTS{code}")) && problem.contains(told),
            "{found}"
        );
        assert_eq!(found.matches("Problem: ").count(), 1, "{found}");
    }
}

#[tokio::test]
async fn missing_permissions_and_the_wrong_tenant_are_told() {
    let found = findings(
        |seen| seen.is_token_request().then(|| token("other", "[]")),
        "",
    )
    .await;
    assert!(
        found.contains("Problem: the token is for tenant other"),
        "{found}"
    );
    assert!(
        found.contains("Problem: the app lacks the application permission ActivityFeed.Read"),
        "{found}"
    );
    assert!(
        found.contains("Warning: without the application permission ActivityFeed.ReadDlp"),
        "{found}"
    );
}

#[tokio::test]
async fn what_a_token_claims_cannot_steer_the_terminal() {
    let roles = format!(
        r#"["ActivityFeed.Read","\u001b[2J\u202e","{}"]"#,
        "x".repeat(5000)
    );
    let found = findings(
        move |seen| {
            seen.is_token_request()
                .then(|| token(r"other\u001b]0;owned\u0007", &roles))
        },
        "",
    )
    .await;
    assert!(found.contains("tenant other]0;owned, not for"), "{found}");
    assert!(
        found.contains("with ActivityFeed.Read, [2J, xxx"),
        "{found}"
    );
    let is_unsafe = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!found.contains(is_unsafe), "{found:?}");
    assert!(found.lines().all(|line| line.chars().count() < 600));
}

#[tokio::test]
async fn the_state_of_each_subscription_is_told() {
    let list = r#"[{"contentType":"Audit.General","status":"enabled"},{"contentType":"DLP.All","status":"disabled"}]"#;
    let answer = move |seen: &Seen| {
        seen.target
            .contains("/subscriptions/list")
            .then(|| Reply::ok(list))
    };
    let found = findings(answer, "").await;
    assert!(
        found.contains("Ok: Audit.General: the subscription is enabled"),
        "{found}"
    );
    assert!(
        found.contains(
            "Warning: DLP.All: the subscription is disabled (AF20023); a run will start it"
        ),
        "{found}"
    );
    assert!(
        found.contains("Warning: Audit.Exchange: the subscription is not started (AF20022)"),
        "{found}"
    );
    let found = findings(answer, "start_subscriptions = false").await;
    assert!(
        found.contains("Problem: Audit.Exchange: the subscription is not started (AF20022)"),
        "{found}"
    );
}

#[tokio::test]
async fn auditing_off_and_refused_access_are_told_apart() {
    let off = r#"{"error":{"code":"x","message":"Exception: Microsoft.Office.Compliance.Audit.DataServiceException: Tenant x does not exist."}}"#;
    for (status, body, told) in [
        (400, off, "auditing is off"),
        (403, "", "access is refused, HTTP 403"),
        (401, "", "does not accept the token"),
        (
            400,
            r#"{"error":{"code":"AF20011","message":"x"}}"#,
            "AF20011",
        ),
    ] {
        let answer = move |seen: &Seen| {
            seen.target
                .contains("/subscriptions/")
                .then(|| Reply::new(status, body))
        };
        let found = findings(answer, "").await;
        let problem = found.lines().last().unwrap();
        assert!(
            problem.starts_with("Problem: 127.0.0.1:") && problem.contains(told),
            "{found}"
        );
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_named() {
    let peer = tenant(|_| None).await;
    let tenant = testing::tenant("http://127.0.0.1:9", "");
    let context = testing::context(tenant, "", Clock::system());
    let found = ManagementActivity::new(&context).unwrap().check().await;
    let last = found.last().unwrap();
    assert_eq!(last.severity, Severity::Problem);
    assert!(
        last.message
            .starts_with("no token: 127.0.0.1:9: cannot be reached"),
        "{}",
        last.message
    );
    drop(peer);
}

#[tokio::test]
async fn a_secrets_id_in_place_of_its_value_is_noticed() {
    let peer = tenant(|_| None).await;
    let mut tenant = testing::tenant(&peer.url, "");
    tenant.options = audit_exporter_core::config::Options::from_toml(
        "tenants.contoso",
        &format!(
            "client_id = \"app\"\nclient_secret = \"{TENANT}\"\nauthority = \"{0}\"\nmanagement_api = \"{0}\"",
            peer.url
        ),
    );
    let context = testing::context(tenant, "", Clock::system());
    let found = ManagementActivity::new(&context).unwrap().check().await;
    assert!(
        found[0]
            .message
            .starts_with("client_secret looks like a GUID")
    );
    assert!(found[1].message.starts_with("client_id is not a GUID"));
    assert!(
        found
            .iter()
            .all(|finding| !finding.message.contains(TENANT) || finding.severity == Severity::Ok)
    );
}
