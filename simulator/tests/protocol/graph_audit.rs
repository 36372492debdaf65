//! Audit log queries of Microsoft Graph.

use std::collections::BTreeSet;

use audit_exporter_simulator::{
    Config, ContentType, ExplicitBlob, Faults, GraphAuditConfig, GraphAuditFaults, Records,
};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Stage, blobs, code, config, generated, read, tenant};

const QUERIES: &str = "/v1.0/security/auditLog/queries";

/// A minute-old record of a flow.
fn record(number: u32, operation: &str) -> String {
    let time = (Utc::now() - TimeDelta::minutes(1)).format("%Y-%m-%dT%H:%M:%S");
    format!(
        r#"{{"CreationTime":"{time}","Id":"0b1cf0ad-1f43-4bdd-9a1b-{number:012x}","Operation":"{operation}","RecordType":30,"UserKey":"key","UserType":0,"Workload":"MicrosoftFlow","UserId":"ada@contoso.com"}}"#
    )
}

fn records(count: u32) -> Config {
    let records = (0..count).map(|number| record(number, "CreateFlow"));
    blobs(vec![ExplicitBlob::new(ContentType::General, records)])
}

async fn call(
    stage: &Stage,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> (reqwest::StatusCode, Value) {
    let url = if path.starts_with("http") {
        path.to_owned()
    } else {
        format!("{}{path}", stage.simulator.url())
    };
    let mut request = stage.http.request(method, url).bearer_auth(&stage.token);
    if let Some(body) = body {
        request = request
            .header("content-type", "application/json")
            .body(body.to_string());
    }
    read(request.send().await.unwrap()).await
}

fn wanted(more: &Value) -> Value {
    let time = |time: DateTime<Utc>| time.to_rfc3339();
    let mut wanted = json!({
        "@odata.type": "#microsoft.graph.security.auditLogQuery",
        "displayName": "mine",
        "filterStartDateTime": time(Utc::now() - TimeDelta::days(12)),
        "filterEndDateTime": time(Utc::now()),
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        wanted[key] = value.clone();
    }
    wanted
}

async fn create(stage: &Stage, more: &Value) -> (reqwest::StatusCode, Value) {
    call(stage, Method::POST, QUERIES, Some(&wanted(more))).await
}

/// Creates a query, lets it end, and returns its id.
async fn ended(stage: &Stage, more: &Value) -> String {
    let (status, query) = create(stage, more).await;
    assert_eq!(status, 201, "{query}");
    stage.simulator.control().advance(TimeDelta::seconds(10));
    query["id"].as_str().unwrap().to_owned()
}

/// What the second page of a query is answered with: the status and the error's code.
async fn second_page(stage: &Stage) -> (u16, String) {
    let id = ended(stage, &json!({})).await;
    let first = format!("{QUERIES}/{id}/records");
    let (_, page) = call(stage, Method::GET, &first, None).await;
    let next = page["@odata.nextLink"].as_str().unwrap();
    code(&call(stage, Method::GET, next, None).await)
}

/// All records of a query, and the number of pages.
async fn read_all(stage: &Stage, id: &str) -> (Vec<Value>, usize) {
    let mut next = format!("{QUERIES}/{id}/records");
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let (status, page) = call(stage, Method::GET, &next, None).await;
        assert_eq!(status, 200, "{page}");
        assert_eq!(
            page["@odata.count"],
            page["value"].as_array().unwrap().len()
        );
        all.extend(page["value"].as_array().unwrap().clone());
        pages += 1;
        match page["@odata.nextLink"].as_str() {
            Some(link) => link.clone_into(&mut next),
            None => return (all, pages),
        }
    }
}

#[tokio::test]
async fn a_query_runs_for_a_while_and_then_has_its_records() {
    let stage = Stage::new(records(3)).await;
    let (status, query) = create(&stage, &json!({})).await;
    assert_eq!(
        (status.as_u16(), &query["status"]),
        (201, &json!("notStarted"))
    );
    assert_eq!(query["displayName"], "mine");
    let id = query["id"].as_str().unwrap();
    let path = format!("{QUERIES}/{id}");
    let (_, early) = call(&stage, Method::GET, &format!("{path}/records"), None).await;
    assert_eq!(early["value"], json!([]), "nothing before it has succeeded");
    stage.simulator.control().advance(TimeDelta::seconds(1));
    assert_eq!(
        call(&stage, Method::GET, &path, None).await.1["status"],
        "running"
    );
    stage.simulator.control().advance(TimeDelta::seconds(5));
    let (_, query) = call(&stage, Method::GET, &path, None).await;
    assert_eq!(query["status"], "succeeded");
    assert_eq!(query["approximateReturnedRecordCount"], 3);
    assert_eq!(query["isRecordCountLimitExceeded"], false);
    assert_eq!(read_all(&stage, id).await.0.len(), 3);
    let (_, list) = call(&stage, Method::GET, QUERIES, None).await;
    assert_eq!(list["value"][0]["id"], id);
    assert_eq!(stage.simulator.stats().audit_queries, 1);
}

#[tokio::test]
async fn records_come_with_crossed_users_and_annotations() {
    let stage = Stage::new(records(1)).await;
    let id = ended(&stage, &json!({})).await;
    let (records, _) = read_all(&stage, &id).await;
    let record = &records[0];
    assert_eq!(record["auditLogRecordType"], "MicrosoftFlow");
    assert_eq!(record["userId"], "key");
    assert_eq!(record["userPrincipalName"], "ada@contoso.com");
    assert_eq!(
        (&record["clientIp"], &record["administrativeUnits"]),
        (&json!(null), &json!([""]))
    );
    let data = &record["auditData"];
    assert_eq!(data["RecordType@odata.type"], "#Int64");
    assert_eq!(data["Id"], record["id"]);
    assert_eq!(data["CreationTime"], record["createdDateTime"]);
    assert!(data["CreationTime"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn pages_are_read_to_the_end_by_opaque_addresses() {
    let stage = Stage::new(records(25)).await;
    let id = ended(&stage, &json!({})).await;
    let path = format!("{QUERIES}/{id}/records?$top=10");
    let (_, first) = call(&stage, Method::GET, &path, None).await;
    let next = first["@odata.nextLink"].as_str().unwrap();
    assert!(next.starts_with(stage.simulator.url()), "{next}");
    let (_, second) = call(&stage, Method::GET, next, None).await;
    let (_, third) = call(
        &stage,
        Method::GET,
        second["@odata.nextLink"].as_str().unwrap(),
        None,
    )
    .await;
    assert!(third.get("@odata.nextLink").is_none());
    let pages = [
        first["value"].clone(),
        second["value"].clone(),
        third["value"].clone(),
    ];
    let ids: BTreeSet<String> = pages
        .iter()
        .flat_map(|page| page.as_array().unwrap())
        .map(|row| row["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 25);
    let forged = next.replace("skiptoken=", "skiptoken=9");
    assert_eq!(code(&call(&stage, Method::GET, &forged, None).await).0, 400);
}

#[tokio::test]
async fn filters_are_obeyed_in_either_case() {
    let all = [record(1, "CreateFlow"), record(2, "EditFlow")];
    let stage = Stage::new(blobs(vec![ExplicitBlob::new(ContentType::General, all)])).await;
    for (filter, found) in [
        (json!({"operationFilters": ["editflow"]}), 1),
        (json!({"recordTypeFilters": ["microsoftFlow"]}), 2),
        (
            json!({"recordTypeFilters": ["MicrosoftFlow"], "operationFilters": ["CreateFlow"]}),
            1,
        ),
        (json!({"recordTypeFilters": ["exchangeAdmin"]}), 0),
        (json!({"userPrincipalNameFilters": ["ada@contoso.com"]}), 2),
        (json!({"userPrincipalNameFilters": ["bob@contoso.com"]}), 0),
        (json!({"serviceFilters": ["MicrosoftFlow"]}), 2),
        (json!({"serviceFilter": "Exchange", "status": ""}), 0),
        (json!({"keywordFilter": "editflow"}), 1),
    ] {
        let id = ended(&stage, &filter).await;
        assert_eq!(read_all(&stage, &id).await.0.len(), found, "{filter}");
    }
}

#[tokio::test]
async fn refusals_are_those_of_graph() {
    let stage = Stage::new(records(1)).await;
    for wrong in [
        json!({"recordTypeFilters": ["noSuchType"]}),
        json!({"filterEndDateTime": "2020-01-01T00:00:00Z"}),
        json!({"filterStartDateTime": "yesterday"}),
        json!({"noSuchProperty": 1}),
    ] {
        assert_eq!(
            code(&create(&stage, &wrong).await),
            (400, "BadRequest".to_owned()),
            "{wrong}"
        );
    }
    let unknown = format!("{QUERIES}/0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10");
    for path in [unknown.clone(), format!("{unknown}/records")] {
        let answer = call(&stage, Method::GET, &path, None).await;
        assert_eq!(code(&answer), (404, "UnknownError".to_owned()));
        assert_eq!(answer.1["error"]["message"], "");
    }
    let mut other = tenant(Records::Explicit(Vec::new()));
    other.roles = vec!["ActivityFeed.Read".to_owned()];
    let stage = Stage::new(config(other)).await;
    assert_eq!(
        code(&create(&stage, &json!({})).await),
        (403, "Forbidden".to_owned())
    );
}

#[tokio::test]
async fn v1_answers_404_where_only_beta_serves_the_tenant() {
    let graph_audit = GraphAuditConfig {
        v1: false,
        ..GraphAuditConfig::default()
    };
    let stage = Stage::new(Config {
        graph_audit,
        ..records(1)
    })
    .await;
    assert_eq!(
        code(&create(&stage, &json!({})).await),
        (404, "UnknownError".to_owned())
    );
    let beta = QUERIES.replace("v1.0", "beta");
    let (status, _) = call(&stage, Method::POST, &beta, Some(&wanted(&json!({})))).await;
    assert_eq!(status, 201);
}

#[tokio::test]
async fn queries_a_day_and_at_a_time_are_limited() {
    let limits = |creates_per_day, at_once| GraphAuditConfig {
        creates_per_day,
        at_once,
        ..GraphAuditConfig::default()
    };
    for (graph_audit, until_free) in [
        (limits(2, 50), TimeDelta::hours(25)),
        (limits(200, 2), TimeDelta::seconds(10)),
    ] {
        let mut stage = Stage::new(Config {
            graph_audit,
            ..records(1)
        })
        .await;
        for _ in 0..2 {
            assert_eq!(create(&stage, &json!({})).await.0, 201);
        }
        let refused = create(&stage, &json!({})).await;
        assert_eq!(code(&refused), (429, "TooManyRequests".to_owned()));
        stage.simulator.control().advance(until_free);
        stage.token = stage.new_token().await;
        assert_eq!(create(&stage, &json!({})).await.0, 201);
        assert_eq!(stage.simulator.stats().audit_queries, 3);
    }
}

#[tokio::test]
async fn a_query_with_too_many_records_succeeds_and_says_that_it_is_cut_off() {
    let graph_audit = GraphAuditConfig {
        most_records: 10,
        ..GraphAuditConfig::default()
    };
    let stage = Stage::new(Config {
        graph_audit,
        ..records(25)
    })
    .await;
    let id = ended(&stage, &json!({})).await;
    let (_, query) = call(&stage, Method::GET, &format!("{QUERIES}/{id}"), None).await;
    assert_eq!(
        (
            &query["status"],
            &query["isRecordCountLimitExceeded"],
            &query["recordCountLimit"]
        ),
        (&json!("succeeded"), &json!(true), &json!(10))
    );
    assert_eq!(read_all(&stage, &id).await.0.len(), 10);
}

#[tokio::test]
async fn faults_come_up_as_they_are_asked_for() {
    let faulty = |graph_audit| Config {
        faults: Faults {
            graph_audit,
            most_in_a_row: 0,
            ..Faults::default()
        },
        ..records(400)
    };
    let none = GraphAuditFaults::default;
    let stage = Stage::new(faulty(GraphAuditFaults {
        failed: 1.0,
        ..none()
    }))
    .await;
    let id = ended(&stage, &json!({})).await;
    let path = format!("{QUERIES}/{id}");
    assert_eq!(
        call(&stage, Method::GET, &path, None).await.1["status"],
        "failed"
    );

    let stage = Stage::new(faulty(GraphAuditFaults {
        lost_create: 1.0,
        ..none()
    }))
    .await;
    assert_eq!(create(&stage, &json!({})).await.0, 504);
    let (_, list) = call(&stage, Method::GET, QUERIES, None).await;
    assert_eq!(list["value"][0]["displayName"], "mine");

    let stage = Stage::new(faulty(GraphAuditFaults {
        unstable: 1.0,
        ..none()
    }))
    .await;
    let id = ended(&stage, &json!({})).await;
    let first = read_all(&stage, &id).await.0.len();
    assert!(first < 400, "{first}");
    assert_eq!(
        read_all(&stage, &id).await.0.len(),
        400,
        "another reading has the rest"
    );

    let stage = Stage::new(faulty(GraphAuditFaults {
        stale_page: 1.0,
        ..none()
    }))
    .await;
    assert_eq!(second_page(&stage).await.0, 400);

    let stage = Stage::new(faulty(GraphAuditFaults {
        breaks_after_pages: Some(1),
        ..none()
    }))
    .await;
    assert_eq!(second_page(&stage).await.0, 500);
}

#[tokio::test]
async fn every_record_of_the_ledger_is_found_once() {
    let stage = Stage::new(generated(500, 20)).await;
    let id = ended(&stage, &json!({})).await;
    let (records, pages) = read_all(&stage, &id).await;
    assert!(pages > 1);
    let told = stage
        .simulator
        .ledger()
        .filter(|entry| entry.repeats.is_none())
        .count();
    assert_eq!(records.len(), told);
}
