use super::*;

fn unit(locator: &str) -> Unit {
    Unit {
        id: "blob".into(),
        content_type: "Audit.General".into(),
        locator: locator.to_owned(),
        created: Utc::now(),
        expires: Utc::now() + TimeDelta::days(7),
        lane: LaneKind::Live,
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn records(count: usize) -> Vec<u8> {
    let record =
        |n| format!(r#"{{"Id":"{n}","CreationTime":"2026-01-01T00:00:00","Operation":"x"}}"#);
    let records: Vec<_> = (0..count).map(record).collect();
    format!("[{}]", records.join(",")).into_bytes()
}

/// What becomes of a body, and how many batches and events it leaves.
async fn fetched(coding: Option<&'static str>, body: Vec<u8>) -> (Result<()>, (usize, usize)) {
    let peer = tenant(move |seen| {
        seen.target.contains("/audit/").then(|| {
            let reply = Reply::ok(body.clone());
            match coding {
                Some(coding) => reply.with("content-encoding", coding),
                None => reply,
            }
        })
    })
    .await;
    let bench = Bench::new(&peer, "").await;
    let outcome = bench
        .fetch(&unit(&format!("{}/audit/1$2$x", peer.url)))
        .await;
    assert!(peer.calls()[0].starts_with("/audit/1$2$x?PublisherIdentifier="));
    let batches = bench.filled.journaled(LaneKind::Live).await;
    (outcome, (batches.len(), batches.iter().map(Vec::len).sum()))
}

#[tokio::test]
async fn a_body_arrives_whatever_its_coding() {
    let whole = records(50);
    let (first, second) = whole.split_at(1000);
    let members = [gzip(first), gzip(second)].concat();
    for (coding, body) in [
        (None, records(50)),
        (Some("identity"), records(50)),
        (Some("gzip"), gzip(&records(50))),
        (Some("GZIP"), members),
    ] {
        let (outcome, (_, events)) = fetched(coding, body).await;
        outcome.unwrap();
        assert_eq!(events, 50, "{coding:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_or_damaged_is_fetched_again() {
    let whole = gzip(&records(50));
    let mut flipped = whole.clone();
    let crc = flipped.len() - 6;
    flipped[crc] ^= 1;
    let cases = [
        (Some("gzip"), whole[..whole.len() - 1].to_vec()),
        (Some("gzip"), whole[..whole.len() - 9].to_vec()),
        (Some("gzip"), whole[..5].to_vec()),
        (Some("gzip"), Vec::new()),
        (Some("gzip"), flipped),
        (Some("gzip"), records(50)),
        (Some("br"), records(50)),
        (None, records(50)[..100].to_vec()),
        (None, whole.clone()),
        (None, Vec::new()),
        (None, b"<html>".to_vec()),
    ];
    for (index, (coding, body)) in cases.into_iter().enumerate() {
        let (outcome, _) = fetched(coding, body).await;
        assert_eq!(
            outcome.unwrap_err().kind(),
            Kind::Unavailable,
            "case {index}"
        );
    }
}

#[tokio::test]
async fn a_body_that_inflates_a_thousandfold_is_committed_in_steps() {
    // 64 MB of records from about 100 kB.
    let record = format!(r#"{{"Id":"","Operation":"{}"}}"#, "x".repeat(1 << 20));
    let body = format!("[{}]", vec![record; 64].join(","));
    let small = gzip(body.as_bytes());
    assert!(small.len() < body.len() / 500);
    let (outcome, (batches, events)) = fetched(Some("gzip"), small).await;
    outcome.unwrap();
    assert_eq!(events, 64);
    assert!(batches >= 7, "{batches} batches");
}

#[tokio::test]
async fn a_refused_blob_fails_alone() {
    for (status, code, kind) in [
        (400, "AF20051", Kind::Lost),
        // It was listed, so another server may know it.
        (400, "AF20050", Kind::Unavailable),
        (400, "AF20052", Kind::Lost),
        (403, "other", Kind::Unavailable),
        (403, "AF10001", Kind::Unavailable),
        (401, "other", Kind::Auth),
        (429, "AF429", Kind::Throttled),
        (404, "other", Kind::Unavailable),
        (500, "AF50000", Kind::Unavailable),
    ] {
        let peer = tenant(move |seen| {
            seen.target
                .contains("/audit/")
                .then(|| Reply::error(status, code))
        })
        .await;
        let bench = Bench::new(&peer, "").await;
        let unit = unit(&format!("{}/audit/a", peer.url));
        let error = bench.fetch(&unit).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {code}");
        assert!(!error.to_string().contains(SECRET));
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_was_listed_is_not_believed_to_be_unknown_for_an_hour() {
    let absences = Absences::default();
    let [one, other] = ["one", "other"].map(Arc::<str>::from);
    assert!(absences.may_pass(&one));
    tokio::time::advance(Duration::from_mins(59)).await;
    assert!(absences.may_pass(&one) && absences.may_pass(&other));
    tokio::time::advance(Duration::from_mins(2)).await;
    assert!(!absences.may_pass(&one));
    assert!(absences.may_pass(&other));
}

#[tokio::test]
async fn content_that_the_listing_did_not_name_is_lost_by_name() {
    let peer = tenant(|_| None).await;
    let bench = Bench::new(&peer, "").await;
    let error = bench.fetch(&unit("")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Lost);
}
