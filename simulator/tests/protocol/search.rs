//! Search-UnifiedAuditLog, by Exchange Online and by the older REST service.

use std::collections::BTreeSet;

use audit_exporter_simulator::{
    AuditReader, Config, ContentType, ExplicitBlob, Records, ResultCount, SearchConfig,
    TenantConfig,
};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::client::{Stage, config, generated, hash, read, tenant};

/// What a search of everything is asked with.
fn everything() -> Value {
    json!({"StartDate": ago(20), "EndDate": ago(0), "ResultSize": 5000})
}

fn ago(days: i64) -> String {
    let time: DateTime<Utc> = Utc::now() - TimeDelta::days(days);
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A change to the account of the older service.
type Change = fn(&mut AuditReader);

/// The parameters with others on top.
#[allow(clippy::needless_pass_by_value)] // Each is made where it is passed.
fn with(more: Value) -> Value {
    let mut all = everything();
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

async fn post(stage: &Stage, path: &str, body: Value) -> Response {
    let url = format!("{}/adminapi/beta/{path}", stage.simulator.url());
    let request = stage.http.post(url).bearer_auth(&stage.token).json(&body);
    request.send().await.unwrap()
}

async fn invoke(stage: &Stage, cmdlet: &str, parameters: Value) -> (StatusCode, Value) {
    let body = json!({"CmdletInput": {"CmdletName": cmdlet, "Parameters": parameters}});
    let path = format!("{}/InvokeCommand", stage.tenant.id);
    read(post(stage, &path, body).await).await
}

async fn search(stage: &Stage, parameters: Value) -> (StatusCode, Value) {
    invoke(stage, "Search-UnifiedAuditLog", parameters).await
}

/// The rows of a good answer.
async fn rows(stage: &Stage, parameters: Value) -> Vec<Value> {
    let (status, body) = search(stage, parameters).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["@adminapi.warnings"], json!([]));
    body["value"].as_array().unwrap().clone()
}

fn legacy_url(stage: &Stage, query: &str) -> String {
    format!(
        "{}/psws/service.svc/UnifiedAuditLog?{query}",
        stage.simulator.url()
    )
}

async fn legacy(stage: &Stage, query: &str, password: &str) -> Response {
    let user = format!("auditor@{}", stage.tenant.domain);
    let request = stage.http.get(legacy_url(stage, query));
    let request = request
        .header("Accept", "application/json")
        .basic_auth(user, Some(password));
    request.send().await.unwrap()
}

/// A query over everything, in US style.
fn legacy_query(more: &str) -> String {
    let day = |days| {
        (Utc::now() - TimeDelta::days(days))
            .format("%m/%d/%Y")
            .to_string()
    };
    format!("StartDate={}&enddate={}{more}", day(20), day(-1))
}

async fn legacy_page(stage: &Stage, more: &str) -> Value {
    let (status, body) = read(legacy(stage, &legacy_query(more), "simulator-password").await).await;
    assert_eq!(status, 200, "{body}");
    body
}

fn indexes(rows: &[Value]) -> Vec<i64> {
    rows.iter()
        .map(|row| row["ResultIndex"].as_i64().unwrap())
        .collect()
}

/// The hashes of the rows' records.
fn hashes(rows: &[Value]) -> BTreeSet<String> {
    let record = |row: &Value| hash(row["AuditData"].as_str().unwrap().as_bytes());
    rows.iter().map(record).collect()
}

fn ledger(stage: &Stage) -> BTreeSet<String> {
    stage.simulator.ledger().map(|entry| entry.sha256).collect()
}

#[tokio::test]
async fn a_session_of_the_large_set_shows_every_record_shuffled_and_some_twice() {
    let mut config = generated(400, 20);
    config.search.duplicates = 0.1;
    let stage = Stage::new(config).await;
    let asked =
        with(json!({"ResultSize": 150, "SessionId": "a", "SessionCommand": "ReturnLargeSet"}));
    let (mut all, mut count) = (Vec::new(), 0);
    loop {
        let page = rows(&stage, asked.clone()).await;
        if page.is_empty() {
            break;
        }
        count = page[0]["ResultCount"].as_u64().unwrap();
        all.extend(page);
    }
    assert_eq!(hashes(&all), ledger(&stage));
    assert_eq!(all.len() as u64, count);
    assert!((410..480).contains(&all.len()), "{}", all.len());
    assert_eq!(indexes(&all), (1..=all.len() as i64).collect::<Vec<_>>());
    let times: Vec<&str> = all
        .iter()
        .map(|row| row["CreationDate"].as_str().unwrap())
        .collect();
    assert!(!times.is_sorted());
}

#[tokio::test]
async fn a_preview_is_sorted_and_rows_have_the_documented_members() {
    let stage = Stage::new(generated(100, 20)).await;
    let command = "ReturnNextPreviewPage";
    let asked = with(json!({"SessionId": "a", "SessionCommand": command}));
    let rows = rows(&stage, asked).await;
    assert_eq!(hashes(&rows), ledger(&stage));
    let times: Vec<&str> = rows
        .iter()
        .map(|row| row["CreationDate"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted() && times.iter().all(|time| time.ends_with('Z')));
    let row = rows.iter().find(|row| row["Identity"] != "").unwrap();
    let record: Value = serde_json::from_str(row["AuditData"].as_str().unwrap()).unwrap();
    assert_eq!(row["Identity"], record["Id"]);
    assert_eq!(row["Operations"], record["Operation"]);
    assert_eq!(
        (&row["IsValid"], &row["ObjectState"]),
        (&json!(true), &json!("Unchanged"))
    );
}

#[tokio::test]
async fn what_is_asked_for_limits_what_is_found() {
    let records = ["CreateFlow", "EditFlow"].map(|operation| {
        format!(
            r#"{{"CreationTime":"2026-06-01T10:00:00","Id":"{operation}","Operation":"{operation}","UserId":"a@b.example"}}"#
        )
    });
    let blob = ExplicitBlob::new(ContentType::General, records);
    let mut config = config(tenant(Records::Explicit(vec![blob])));
    config.search.retention_days = 3_650;
    let stage = Stage::new(config).await;
    let found = async |more: Value| rows(&stage, with(more)).await.len();
    let (from, to) = ("2026-06-01T10:00:00Z", "2026-06-01T10:00:01Z");
    assert_eq!(found(json!({"StartDate": from, "EndDate": to})).await, 2);
    assert_eq!(found(json!({"StartDate": to, "EndDate": ago(0)})).await, 0);
    assert_eq!(
        found(json!({"StartDate": "2026-05-31", "EndDate": from})).await,
        0
    );
    let one = json!({"StartDate": from, "Operations": ["createflow"]});
    assert_eq!(found(one).await, 1);
    assert_eq!(
        found(json!({"StartDate": from, "UserIds": "A@b.example"})).await,
        2
    );
    assert_eq!(found(json!({"StartDate": from, "ResultSize": 1})).await, 1);
    assert_eq!(found(json!({"StartDate": from, "ResultSize": 0})).await, 0);
}

#[tokio::test]
async fn the_two_grants_are_two_refusals() {
    let roles = |roles: &[&str]| roles.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (granted, exchange_role, expected) in [
        (roles(&[]), false, 401),
        (roles(&["ActivityFeed.Read"]), true, 401),
        (roles(&["Exchange.ManageAsApp"]), false, 403),
        (roles(&["Exchange.ManageAsApp"]), true, 200),
    ] {
        let stage = Stage::new(config(TenantConfig {
            roles: granted,
            exchange_role,
            ..tenant(Records::Explicit(Vec::new()))
        }))
        .await;
        let body = json!({"CmdletInput": {"CmdletName": "Search-UnifiedAuditLog", "Parameters": everything()}});
        let path = format!("{}/InvokeCommand", stage.tenant.domain);
        let response = post(&stage, &path, body).await;
        assert_eq!(response.status(), expected);
        if expected == 403 {
            let body = response.bytes().await.unwrap();
            assert!(!body.is_empty() && body.iter().all(|byte| *byte == 0));
        }
    }
}

#[tokio::test]
async fn a_token_for_graph_is_refused() {
    let mut stage = Stage::new(generated(10, 10)).await;
    for (audience, expected) in [
        ("https://graph.microsoft.com", 401),
        ("https://outlook.office365.com", 200),
    ] {
        let url = format!(
            "{}/{}/oauth2/v2.0/token",
            stage.simulator.url(),
            stage.tenant.id
        );
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &stage.tenant.client_id),
            ("client_secret", &stage.tenant.client_secret),
            ("scope", &format!("{audience}/.default")),
        ];
        let answer: Value = stage
            .http
            .post(url)
            .form(&form)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        answer["access_token"]
            .as_str()
            .unwrap()
            .clone_into(&mut stage.token);
        assert_eq!(search(&stage, everything()).await.0, expected);
    }
}

#[tokio::test]
async fn errors_come_in_the_envelope_with_the_reason_in_its_depth() {
    let stage = Stage::new(generated(10, 10)).await;
    for (parameters, kind, said) in [
        (
            with(json!({"Colour": 1})),
            "AmbiguousParameterSetException",
            "colour",
        ),
        (
            with(json!({"SessionCommand": "All"})),
            "ParameterBindingArgumentTransformationException",
            "ReturnLargeSet, ReturnNextPreviewPage",
        ),
        (
            with(json!({"ResultSize": 5001})),
            "ParameterBindingValidationException",
            "5000",
        ),
        (
            with(json!({"StartDate": "2001-01-01"})),
            "InvalidParameterValueException",
            "startDate should be after",
        ),
        (
            with(json!({"EndDate": "soon"})),
            "ParameterBindingArgumentTransformationException",
            "enddate",
        ),
    ] {
        let (status, body) = search(&stage, parameters).await;
        assert_eq!(status, 400);
        assert_eq!(body["error"]["message"], "Invalid Operation");
        let exception = &body["error"]["innererror"]["internalexception"];
        assert!(
            exception["type"].as_str().unwrap().ends_with(kind),
            "{body}"
        );
        assert!(
            exception["message"].as_str().unwrap().contains(said),
            "{body}"
        );
        let detail = body["error"]["details"][0]["message"].as_str().unwrap();
        assert!(detail.starts_with('|') && detail.contains(said), "{detail}");
    }
    let (status, body) = invoke(&stage, "Get-Everything", json!({})).await;
    assert_eq!(status, 400);
    assert!(
        body.to_string().contains("CommandNotFoundException"),
        "{body}"
    );
    assert_eq!(
        invoke(&stage, "Search-UnifiedAuditLog", Value::Null)
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn a_page_larger_than_is_preferred_is_cut_and_its_link_leads_nowhere() {
    let stage = Stage::new(generated(60, 20)).await;
    let url = format!(
        "{}/adminapi/beta/{}/InvokeCommand",
        stage.simulator.url(),
        stage.tenant.id
    );
    let body = json!({"CmdletInput": {"CmdletName": "Search-UnifiedAuditLog", "Parameters": everything()}});
    let request = stage
        .http
        .post(format!("{url}?%24select=Identity,ResultIndex"))
        .bearer_auth(&stage.token);
    let answer = request
        .header("Prefer", "odata.maxpagesize=25")
        .json(&body)
        .send()
        .await
        .unwrap();
    let (status, answer) = read(answer).await;
    assert_eq!(status, 200);
    let rows = answer["value"].as_array().unwrap();
    assert_eq!(rows.len(), 25);
    assert!(rows[0].get("AuditData").is_none() && rows[0].get("Identity").is_some());
    let next = answer["@odata.nextLink"].as_str().unwrap();
    let request = stage.http.post(next).bearer_auth(&stage.token).json(&body);
    let (status, answer) = read(request.send().await.unwrap()).await;
    assert_eq!(status, 400);
    assert!(
        answer
            .to_string()
            .contains("Expired or Invalid pagination request"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_limit_is_told_by_its_headers_and_then_enforced() {
    let mut config = generated(10, 10);
    config.search.requests_per_minute = Some(2);
    let stage = Stage::new(config).await;
    let body = json!({"CmdletInput": {"CmdletName": "Search-UnifiedAuditLog", "Parameters": everything()}});
    let path = format!("{}/InvokeCommand", stage.tenant.id);
    let mut told = Vec::new();
    for _ in 0..3 {
        let response = post(&stage, &path, body.clone()).await;
        let left = response.headers()["rate-limit-remaining"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(response.headers().contains_key("rate-limit-reset"));
        told.push((response.status().as_u16(), left));
    }
    // Unless a minute ended in between.
    let left = |left: &str| left.to_owned();
    let within = vec![(200, left("1")), (200, left("0")), (429, left("0"))];
    assert!(
        told == within || told.iter().all(|(status, _)| *status == 200),
        "{told:?}"
    );
}

#[tokio::test]
async fn whether_auditing_is_on_can_be_asked_and_off_finds_nothing() {
    let stage = Stage::new(generated(10, 10)).await;
    for on in [true, false] {
        assert!(stage.simulator.control().set_audit(&stage.tenant.id, on));
        let (_, body) = invoke(&stage, "Get-AdminAuditLogConfig", json!({})).await;
        assert_eq!(body["value"][0]["UnifiedAuditLogIngestionEnabled"], on);
        assert_eq!(rows(&stage, everything()).await.is_empty(), !on);
    }
}

#[tokio::test]
async fn a_session_that_is_not_kept_any_more_says_minus_one() {
    let stage = Stage::new(generated(60, 20)).await;
    let asked =
        with(json!({"ResultSize": 20, "SessionId": "a", "SessionCommand": "ReturnLargeSet"}));
    assert_eq!(rows(&stage, asked.clone()).await.len(), 20);
    stage.simulator.control().advance(TimeDelta::minutes(31));
    let failed = rows(&stage, asked).await;
    assert_eq!(
        (&failed[0]["ResultIndex"], &failed[0]["ResultCount"]),
        (&json!(-1), &json!(0))
    );
}

#[tokio::test]
async fn the_older_service_pages_by_the_same_address_until_it_is_empty() {
    let stage = Stage::new(generated(500, 20)).await;
    let more = "&RESULTSIZE=300&SessionId=a&SessionCommand=ReturnNextPreviewPage";
    let mut all = Vec::new();
    for expected in [300, 200, 0] {
        let body = legacy_page(&stage, more).await;
        assert!(body["odata.metadata"].is_string() && body.get("odata.nextLink").is_none());
        let page = body["value"].as_array().unwrap();
        assert_eq!(page.len(), expected);
        all.extend(page.clone());
    }
    assert_eq!(hashes(&all), ledger(&stage));
    assert!(all[0]["RecordType"].is_string() && all[0]["IPAddresses"].is_null());
}

#[tokio::test]
async fn the_older_service_passes_over_what_is_asked_for_beyond_its_cap() {
    let stage = Stage::new(generated(1_000, 50)).await;
    let more = "&ResultSize=600&SessionId=a&SessionCommand=ReturnNextPreviewPage";
    let first = legacy_page(&stage, more).await;
    let second = legacy_page(&stage, more).await;
    let places = |page: &Value| indexes(page["value"].as_array().unwrap());
    assert_eq!(places(&first), (1..=400).collect::<Vec<_>>());
    assert_eq!(places(&second), (601..=1_000).collect::<Vec<_>>());
    let next = first["odata.nextLink"].as_str().unwrap();
    assert!(next.ends_with("/UnifiedAuditLog?$skiptoken=400"), "{next}");
}

#[tokio::test]
async fn the_older_service_wants_a_password_and_json_to_be_asked_for() {
    let stage = Stage::new(generated(10, 10)).await;
    let query = legacy_query("");
    let response = legacy(&stage, &query, "wrong").await;
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("www-authenticate"));
    let user = format!("auditor@{}", stage.tenant.domain);
    let request = stage.http.get(legacy_url(&stage, &query));
    let atom = request
        .basic_auth(user, Some("simulator-password"))
        .send()
        .await
        .unwrap();
    assert!(
        atom.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/atom+xml")
    );
    let (mfa, role) = (
        |reader: &mut AuditReader| reader.mfa = true,
        |reader: &mut AuditReader| reader.role = false,
    );
    for (change, expected) in [(mfa as Change, 401), (role, 403)] {
        let mut config = generated(10, 10);
        change(&mut config.tenants[0].audit_reader);
        let stage = Stage::new(config).await;
        assert_eq!(
            legacy(&stage, &query, "simulator-password").await.status(),
            expected
        );
    }
}

#[tokio::test]
async fn counts_may_be_those_of_the_page() {
    for (result_count, expected) in [
        (ResultCount::Session, [60, 60]),
        (ResultCount::Page, [40, 20]),
        (ResultCount::ResultSize, [40, 40]),
    ] {
        let stage = Stage::new(Config {
            search: SearchConfig {
                result_count,
                duplicates: 0.0,
                ..SearchConfig::default()
            },
            ..generated(60, 20)
        })
        .await;
        let asked =
            with(json!({"ResultSize": 40, "SessionId": "a", "SessionCommand": "ReturnLargeSet"}));
        for count in expected {
            let page = rows(&stage, asked.clone()).await;
            assert!(page.iter().all(|row| row["ResultCount"] == count));
        }
    }
}
