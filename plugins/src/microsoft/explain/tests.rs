use super::*;

#[test]
fn no_code_of_a_service_stands_twice_in_the_table() {
    let mut seen = std::collections::HashSet::new();
    for (service, code, _) in codes() {
        let key = (service.name(), code.to_ascii_lowercase());
        assert!(seen.insert(key), "{code} of {}", service.name());
    }
}

#[test]
fn every_row_is_one_line_of_the_log_and_says_what_to_do_about_what_does_not_pass_by_itself() {
    for (_, code, row) in codes() {
        for text in [row.meaning, row.advice] {
            assert!(
                !text.contains('\n') && !text.ends_with('.'),
                "{code}: {text}"
            );
            assert!(!text.contains("  "), "{code}: {text}");
        }
        let passes = matches!(row.kind, Kind::Unavailable | Kind::Throttled | Kind::Lost);
        assert!(passes || !row.advice.is_empty(), "{code}");
        assert_eq!(row.kind == Kind::Lost, row.loss == Loss::Gone, "{code}");
    }
}

#[test]
fn a_code_is_found_however_it_is_written() {
    for (written, code) in [
        ("AADSTS7000215", "AADSTS7000215"),
        ("aadsts7000215", "AADSTS7000215"),
        ("7000215", "AADSTS7000215"),
        (
            " AADSTS7000215: Invalid client secret provided. ",
            "AADSTS7000215",
        ),
        ("af20022", "AF20022"),
        ("AF429.", "AF429"),
        ("forbidden", "Forbidden"),
        ("HTTP 403", "HTTP 403"),
        ("http403", "HTTP 403"),
        ("403", "HTTP 403"),
        ("dataserviceexception", "DataServiceException"),
    ] {
        let found = explain(written).unwrap();
        assert!(found.iter().all(|found| found.code == code), "{written}");
    }
    let services: Vec<&str> = explain("403")
        .unwrap()
        .iter()
        .map(|it| it.service)
        .collect();
    assert_eq!(services.len(), 3, "{services:?}");
}

#[test]
fn an_unknown_code_is_told_with_the_nearest_that_is_known() {
    for (written, told) in [
        (
            "AADSTS90O02",
            "the code \"AADSTS90O02\" is not known here; did you mean AADSTS90002?",
        ),
        (
            "AF20O22",
            "the code \"AF20O22\" is not known here; did you mean AF20022?",
        ),
        (
            "SecretNotfond",
            "the code \"SecretNotfond\" is not known here; did you mean SecretNotFound?",
        ),
        ("hello", "the code \"hello\" is not known here"),
        ("", "the code \"\" is not known here"),
        ("\u{1b}[31m", "the code \"\\u{1b}[31m\" is not known here"),
    ] {
        let error = explain(written).unwrap_err();
        assert_eq!(error.to_string(), told);
        assert_eq!(error.kind(), Kind::Config);
    }
}

/// What users get wrong with the ways that Microsoft's own guides describe (reference: scenarios.md): the codes by
/// which it shows, and a word that the explanation must say.
const STUMBLES: [(&str, &[&str], &str); 16] = [
    (
        "auditing is off",
        &["DataServiceException"],
        "auditing is off",
    ),
    (
        "auditing was switched on minutes ago",
        &["DataServiceException"],
        "less than an hour ago",
    ),
    (
        "no plan that supports unified auditing",
        &["DataServiceException"],
        "no plan with unified auditing",
    ),
    (
        "ActivityFeed.Read is missing or without consent",
        &["AF10001", "HTTP 403"],
        "ActivityFeed.Read",
    ),
    (
        "AuditLogsQuery.Read.All is missing or without consent",
        &["Forbidden", "Authorization_RequestDenied", "UnknownError"],
        "AuditLogsQuery.Read.All",
    ),
    ("no admin consent", &["AADSTS65001", "AF10001"], "onsent"),
    (
        "wrong tenant id",
        &[
            "AADSTS90002",
            "AADSTS900023",
            "AF20010",
            "AF20011",
            "AF20013",
        ],
        "tenant",
    ),
    (
        "wrong audience",
        &["AADSTS500011", "AADSTS70011", "HTTP 401"],
        "audience",
    ),
    ("wrong cloud", &["AADSTS900382", "AADSTS90002"], "cloud"),
    (
        "the secret's id in place of the secret",
        &["AADSTS7000215"],
        "ID",
    ),
    ("the secret has expired", &["AADSTS7000222"], "expired"),
    (
        "the subscription is not started",
        &["AF20022"],
        "not started",
    ),
    (
        "a subscription that is already enabled is success",
        &["AF20024"],
        "enabled already",
    ),
    (
        "more than seven days back, or the end before the start",
        &["AF20030", "AF20055"],
        "7 days ago",
    ),
    (
        "MFA makes Basic authentication fail",
        &["HTTP 401", "AADSTS50076"],
        "multifactor authentication",
    ),
    (
        "the vault does not give its secret",
        &["SecretNotFound", "Forbidden", "Unauthorized"],
        "vault",
    ),
];

#[test]
fn every_precondition_and_stumble_of_microsofts_guides_is_explained() {
    for (stumble, codes, word) in STUMBLES {
        for code in codes {
            let told = explain(code).unwrap();
            let says = |told: &Explanation| {
                let advice = told.advice.unwrap_or_default();
                format!("{}; {advice}", told.meaning).contains(word)
            };
            assert!(
                told.iter().any(says),
                "{stumble}: {code} does not say {word}"
            );
        }
    }
}
