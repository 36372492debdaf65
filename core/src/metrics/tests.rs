use super::*;

#[test]
fn a_source_that_has_left_lags_no_more() {
    let metrics = Metrics::new().unwrap();
    for (tenant, at) in [("contoso", 100.0), ("fabrikam", 400.0)] {
        let listed = metrics
            .last_listing
            .with_label_values(&[tenant, "activity"]);
        listed.set(at);
    }
    metrics.refresh_listing_lag(1000.0);
    metrics.forget_source("activity", "contoso");
    metrics.refresh_listing_lag(1500.0);
    let lags = series(&metrics.listing_lag);
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels = vec![label("source", "activity"), label("tenant", "fabrikam")];
    assert_eq!(lags, [(labels, 1100.0)]);
}
