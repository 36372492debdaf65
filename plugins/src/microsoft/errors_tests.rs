use audit_exporter_core::Kind;

use super::*;

const AUDIT_OFF_BODY: &str = r#"{"error":{"code":"StartSubscription [CorrId=7f3][TenantId=0b1c,ContentType=Audit.General,ApplicationId=9a,PublisherId=00000000-0000-0000-0000-000000000000][AppId","message":"StartSubscription [CorrId=7f3] failed. Exception: Microsoft.Office.Compliance.Audit.DataServiceException: Tenant 0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10 does not exist.\r\n   at Microsoft.Office"}}"#;

#[test]
fn an_answer_is_understood_whatever_its_form() {
    let cases: [(u16, &str, Kind, Option<&str>); 19] = [
        (
            403,
            "{'error':{'code':'AF429','message':'Too many requests. Method=GetBlob, PublisherId=00000000-0000-0000-0000-000000000000'}}",
            Kind::Throttled,
            Some("AF429"),
        ),
        (
            429,
            r#"{"error":{"code":"AF429","message":"Too many requests."}}"#,
            Kind::Throttled,
            Some("AF429"),
        ),
        (429, "", Kind::Throttled, None),
        (403, "<html>Too Many Requests</html>", Kind::Throttled, None),
        (403, "", Kind::Auth, Some("HTTP 403")),
        (
            401,
            r#"{"Message":"Authorization has been denied for this request."}"#,
            Kind::Auth,
            Some("HTTP 401"),
        ),
        (
            403,
            r#"{"error":{"code":"AF10001","message":"The permission set (x) …"}}"#,
            Kind::Auth,
            Some("AF10001"),
        ),
        (
            400,
            r#"{"error":{"code":"AF20024","message":"The subscription is already enabled. No property change."}}"#,
            Kind::Unavailable,
            Some("AF20024"),
        ),
        (
            400,
            r#"{"error":{"code":"","message":"AF20055: bad window"}}"#,
            Kind::Unavailable,
            Some("AF20055"),
        ),
        (
            400,
            r#"{"error":{"code":"AF20051","message":"expired"}}"#,
            Kind::Lost,
            Some("AF20051"),
        ),
        (
            404,
            r#"{"error":{"code":"AF20050","message":"no"}}"#,
            Kind::Lost,
            Some("AF20050"),
        ),
        (
            400,
            r#"{"error":{"code":"AF20013","message":"no"}}"#,
            Kind::Config,
            Some("AF20013"),
        ),
        (
            500,
            r#"{"error":{"code":"AF50006","message":"internal"}}"#,
            Kind::Unavailable,
            Some("AF50006"),
        ),
        (
            404,
            "<html>The page does not exist</html>",
            Kind::Unavailable,
            Some("HTTP 404"),
        ),
        (410, "", Kind::Unavailable, Some("HTTP 410")),
        (
            502,
            "<html>Bad Gateway</html>",
            Kind::Unavailable,
            Some("HTTP 502"),
        ),
        (
            503,
            "\u{0}\u{1}{\"error\":",
            Kind::Unavailable,
            Some("HTTP 503"),
        ),
        (400, AUDIT_OFF_BODY, Kind::Auth, Some(AUDITING_OFF)),
        (
            400,
            r#"{"error":{"code":"x 00AF4291-AF42-0000","message":"AF42"}}"#,
            Kind::Unavailable,
            Some("HTTP 400"),
        ),
    ];
    for (status, body, kind, code) in cases {
        let error = refusal(status, body.as_bytes(), None);
        assert_eq!(error.kind(), kind, "{status} {body}");
        assert_eq!(error.code(), code, "{status} {body}");
    }
}

#[test]
fn auditing_off_is_retried_after_an_hour() {
    let error = refusal(400, AUDIT_OFF_BODY.as_bytes(), None);
    assert_eq!(error.retry_after(), Some(Duration::from_hours(1)));
    assert!(error.to_string().starts_with("auditing is off"), "{error}");
}

#[test]
fn the_wait_that_the_service_asks_for_is_kept() {
    let wait = Some(Duration::from_secs(17));
    assert_eq!(
        refusal(403, b"{'error':{'code':'AF429'", wait).retry_after(),
        wait
    );
    assert_eq!(refusal(503, b"", wait).retry_after(), wait);
}

#[test]
fn a_page_of_html_is_never_shown() {
    let error = refusal(502, b"<html>secret</html>", None);
    assert_eq!(
        error.to_string(),
        "the service answered HTTP 502 without an explanation"
    );
}
