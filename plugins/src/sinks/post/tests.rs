use std::sync::Mutex as StdMutex;

use audit_exporter_core::{Error, Kind};

use super::*;
use crate::testing::{batch, event};

/// The answer to a body.
type Answer = Box<dyn Fn(&str) -> Result<Outcome> + Send + Sync>;

/// A far side that answers as a test wants it to.
struct Far {
    limits: Limits,
    answer: Answer,
    bodies: StdMutex<Vec<String>>,
}

impl Far {
    fn new(
        bytes: u64,
        events: usize,
        answer: impl Fn(&str) -> Result<Outcome> + Send + Sync + 'static,
    ) -> Self {
        let options = Options::from_toml("sinks.far", "");
        Self {
            limits: Limits::read(&options, Size(bytes), events, 2).unwrap(),
            answer: Box::new(answer),
            bodies: StdMutex::default(),
        }
    }

    /// The bodies that came since the last call.
    fn bodies(&self) -> Vec<String> {
        std::mem::take(&mut self.bodies.lock().unwrap())
    }
}

#[async_trait]
impl Destination for Far {
    fn frame(&self) -> Frame {
        Frame {
            open: "[",
            between: ",",
            close: "]",
        }
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn write(&self, event: &AuditEvent, body: &mut Vec<u8>) -> Result<(), String> {
        write_value(event.raw(), |_| true, body)
    }

    async fn send(&self, body: Vec<u8>) -> Result<Outcome> {
        let body = String::from_utf8(body).unwrap();
        self.bodies.lock().unwrap().push(body.clone());
        (self.answer)(&body)
    }

    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }
}

fn reasons(delivered: &Delivered) -> Vec<(usize, &str)> {
    let rejected = delivered.rejected.iter();
    rejected.map(|r| (r.index, &*r.reason)).collect()
}

#[tokio::test]
async fn requests_stay_within_the_limits_and_a_large_event_travels_alone() {
    let far = Far::new(9, 3, |_| Ok(Outcome::Stored));
    let events = ["1", "2", "3", "4", "\"123456789\"", "55555", "6", "7"].map(event);
    let delivered = Post::default().deliver(&far, &batch(events)).await.unwrap();
    assert_eq!(delivered, Delivered::default());
    let bodies = far.bodies();
    assert_eq!(
        bodies,
        ["[1,2,3]", "[4]", "[\"123456789\"]", "[55555,6]", "[7]"]
    );
}

#[tokio::test]
async fn what_is_too_large_is_halved_and_the_limit_is_learnt() {
    let far = Far::new(100, 100, |body| {
        Ok(if body.len() > 8 {
            Outcome::TooLarge("too large".to_owned())
        } else {
            Outcome::Stored
        })
    });
    let events = ["1", "2", "3", "4", "6666666"].map(event);
    let post = Post::default();
    let delivered = post.deliver(&far, &batch(events)).await.unwrap();
    assert_eq!(reasons(&delivered), [(4, "too large")]);
    assert_eq!(far.bodies()[0], "[1,2,3,4,6666666]");
    let events = ["1", "2", "3", "4", "5"].map(event);
    let delivered = post.deliver(&far, &batch(events)).await.unwrap();
    assert_eq!(delivered, Delivered::default());
    assert_eq!(far.bodies(), ["[1,2,3]", "[4,5]"]);
}

#[tokio::test]
async fn events_that_are_refused_without_a_number_are_found() {
    let far = Far::new(1000, 100, |body| {
        Ok(if body.contains("666") {
            Outcome::Unclear("bad".to_owned())
        } else {
            Outcome::Stored
        })
    });
    let events = (660..674).map(|number| event(&number.to_string()));
    let delivered = Post::default().deliver(&far, &batch(events)).await.unwrap();
    assert_eq!(reasons(&delivered), [(6, "bad")]);
}

#[tokio::test]
async fn behind_a_refused_event_the_rest_is_sent() {
    for (stored_before, expected) in [
        (true, vec!["[1,2,3,4]", "[4]"]),
        (false, vec!["[1,2,3,4]", "[1,2]", "[4]"]),
    ] {
        let far = Far::new(1000, 100, move |body| {
            Ok(if body.contains('3') {
                Outcome::Refused {
                    index: 2,
                    stored_before,
                    reason: "bad".to_owned(),
                }
            } else {
                Outcome::Stored
            })
        });
        let events = ["1", "2", "3", "4"].map(event);
        let delivered = Post::default().deliver(&far, &batch(events)).await.unwrap();
        assert_eq!(reasons(&delivered), [(2, "bad")]);
        assert_eq!(far.bodies(), expected);
    }
}

#[tokio::test]
async fn a_number_that_the_request_does_not_have_loses_nothing() {
    let far = Far::new(1000, 100, |_| {
        Ok(Outcome::Refused {
            index: 2,
            stored_before: true,
            reason: "bad".to_owned(),
        })
    });
    let two = batch(["1", "2"].map(event));
    let delivered = Post::default().deliver(&far, &two).await.unwrap();
    assert_eq!(reasons(&delivered), [(0, "bad"), (1, "bad")]);
}

#[tokio::test]
async fn what_was_stored_is_not_sent_again_after_an_error() {
    let far = Far::new(5, 100, |body| match body {
        "[3,4]" => Err(Error::unavailable("down")),
        "[5]" => Ok(Outcome::Unclear("bad".to_owned())),
        _ => Ok(Outcome::Stored),
    });
    let post = Post::default();
    let mut events = ["1", "2", "3", "4", "5"].map(event).to_vec();
    let mut failing = batch(events.clone());
    let error = post.deliver(&far, &failing).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(far.bodies(), ["[1,2]", "[3,4]", "[5]"]);

    // It comes again, with more behind it.
    events.push(event("6"));
    failing.events = events.into();
    post.deliver(&far, &failing).await.unwrap_err();
    assert_eq!(far.bodies(), ["[3,4]", "[6]"]);

    let other = post.deliver(&far, &batch(["1", "2"].map(event))).await;
    assert_eq!(other.unwrap(), Delivered::default());
    assert_eq!(far.bodies(), ["[1,2]"], "other events of the same bytes");
}

#[tokio::test]
async fn a_record_that_is_no_json_does_not_spoil_the_others() {
    let far = Far::new(1000, 100, |_| Ok(Outcome::Stored));
    let mut events = vec![event("{\"a\":1}"), event("{\"a\":1},{\"b\":2}"), event("{")];
    let origin = events[0].origin().clone();
    events.push(AuditEvent::new((&b"{\"\xff"[..]).into(), origin));
    let delivered = Post::default().deliver(&far, &batch(events)).await.unwrap();
    let not_text = "the record is neither JSON nor UTF-8 text, so it cannot be sent as it is";
    assert_eq!(reasons(&delivered), [(3, not_text)]);
    let bodies = far.bodies();
    assert_eq!(bodies, [r#"[{"a":1},"{\"a\":1},{\"b\":2}","{"]"#]);
}
