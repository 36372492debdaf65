//! Listing content: windows, pages and what a page says of a blob (reference, "List available
//! content", "Time-window rules", "Pagination").

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use axum::http::{HeaderName, StatusCode};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, ApiError},
    api::Call,
    catalogue::{Blob, Cursor},
    chance::{Chance, part},
    clock::wire_time,
    config::{Config, LongWindow},
    content_type::ContentType,
    subscriptions::View,
};

/// The continuation header (reference, "Pagination").
const NEXT_PAGE: HeaderName = HeaderName::from_static("nextpageuri");

/// Reads a time as the service does: the three documented forms, and RFC 3339.
pub(crate) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"]
        .into_iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|time| time.and_utc())
}

/// The content type that a request names (`AF20001`, `AF20020`).
pub(crate) fn content_type(query: &HashMap<String, String>) -> Result<ContentType, ApiError> {
    let name = query
        .get("contenttype")
        .filter(|name| !name.is_empty())
        .ok_or_else(|| ApiError::missing("contentType"))?;
    ContentType::parse(name)
        .ok_or_else(|| ApiError::new("AF20020", "The specified content type is not valid."))
}

/// A window, with the texts that the next page repeats.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) texts: (String, String),
}

impl Window {
    /// The window that a request names, or the last 24 hours.
    pub(crate) fn of(
        query: &HashMap<String, String>,
        config: &Config,
        now: DateTime<Utc>,
    ) -> Result<Self, ApiError> {
        let time = |name: &'static str, key: &str| {
            query
                .get(key)
                .filter(|text| !text.is_empty())
                .map(|text| match parse_time(text) {
                    Some(time) => Ok((time, text.clone())),
                    None => Err(ApiError::wrong_type(name, "datetime")),
                })
                .transpose()
        };
        let (start, end) = match (time("startTime", "starttime")?, time("endTime", "endtime")?) {
            (None, None) => {
                // To the second, as the next page repeats it, and with this second.
                let end = now.trunc_subsecs(0) + TimeDelta::seconds(1);
                let start = end - TimeDelta::hours(24);
                let text = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%S").to_string();
                return Ok(Self {
                    start,
                    end,
                    texts: (text(start), text(end)),
                });
            }
            (Some(start), Some(end)) => (start, end),
            _ => return Err(bad_window()),
        };
        let mut window = Self {
            start: start.0,
            end: end.0,
            texts: (start.1, end.1),
        };
        let length = window.end - window.start;
        let day = TimeDelta::hours(24);
        // The next page of the implied window is exactly a day, and good.
        let is_first = !query.contains_key("nextpage");
        if length <= TimeDelta::zero()
            || window.start < now - TimeDelta::days(7)
            || (length == day && is_first && config.reject_exactly_24_hours)
        {
            return Err(bad_window());
        }
        if length > day {
            match config.over_24_hours {
                LongWindow::Reject => return Err(bad_window()),
                LongWindow::Partial => window.end = window.start + day,
            }
        }
        Ok(window)
    }
}

/// `AF20055`, the one that the wire returns; the documented `AF20030` is never seen.
fn bad_window() -> ApiError {
    ApiError::new(
        "AF20055",
        "Start time and end time must both be specified (or both omitted) and must be less than or equal to 24 hours apart, with the start time prior to end time and start time no more than 7 days in the past.",
    )
}

/// Where the next page starts; by default the first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NextPage {
    pub(crate) after: Option<Cursor>,
    /// The page before was empty on purpose; this one must not be.
    was_empty: bool,
}

impl NextPage {
    /// The page that begins after this row.
    pub(crate) fn after(last: Cursor) -> Self {
        Self {
            after: Some(last),
            was_empty: false,
        }
    }

    /// The page that a request asks for.
    pub(crate) fn asked(call: &Call<'_>) -> Result<Self, ApiError> {
        let value = call.query.get("nextpage");
        value.map_or(Ok(Self::default()), |value| Self::read(call, value))
    }

    fn write(&self, call: &Call<'_>) -> String {
        let (created, number) = match self.after {
            Some(after) => (after.created_millis, after.number as i64),
            None => (-1, -1),
        };
        let text = format!("{created}.{number}.{}", u8::from(self.was_empty));
        let mac = call.state.signer.page_mac(&text);
        BASE64_URL_SAFE_NO_PAD.encode(format!("{text}.{mac}"))
    }

    fn read(call: &Call<'_>, value: &str) -> Result<Self, ApiError> {
        let bad = || ApiError::new("AF20031", format!("Invalid nextPage Input: {value}."));
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(value).map_err(|_| bad())?;
        let decoded = String::from_utf8(decoded).map_err(|_| bad())?;
        let (text, mac) = decoded.rsplit_once('.').ok_or_else(bad)?;
        if call.state.signer.page_mac(text) != mac {
            return Err(bad());
        }
        let parts: Vec<i64> = text
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        let [created, number, was_empty] = parts[..] else {
            return Err(bad());
        };
        let after = usize::try_from(number).ok().map(|number| Cursor {
            created_millis: created,
            number,
        });
        Ok(Self {
            after,
            was_empty: was_empty == 1,
        })
    }

    /// The answer with the address of this page as the next.
    pub(crate) fn named_in(
        &self,
        answer: Answer,
        call: &Call<'_>,
        operation: &str,
        content_type: ContentType,
        window: &Window,
    ) -> Answer {
        let url = self.url(call, operation, content_type, window);
        answer.with(NEXT_PAGE, &url)
    }

    /// The URL of the next page: on `/api/v1/`, with the window, without `PublisherIdentifier`
    /// (reference, "Pagination").
    fn url(
        &self,
        call: &Call<'_>,
        operation: &str,
        content_type: ContentType,
        window: &Window,
    ) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("contentType", content_type.name())
            .append_pair("startTime", &window.texts.0)
            .append_pair("endTime", &window.texts.1)
            .append_pair("nextPage", &self.write(call))
            .finish();
        format!(
            "{}/api/v1/{}/activity/feed/subscriptions/{operation}?{query}",
            call.state.url, call.tenant.id
        )
    }
}

/// Answers `GET subscriptions/content`.
pub(crate) fn content(call: &Call<'_>) -> Result<Answer, ApiError> {
    let content_type = content_type(&call.query)?;
    let view =
        call.tenant
            .subscriptions
            .view(&call.claims.appid, content_type, &call.state.config)?;
    let window = Window::of(&call.query, &call.state.config, call.now)?;
    let page = NextPage::asked(call)?;
    let faults = &call.faults.pages;
    let (blobs, next) =
        if !page.was_empty && faults.empty > 0.0 && call.draw("empty page").hit(faults.empty) {
            (
                Vec::new(),
                Some(NextPage {
                    was_empty: true,
                    ..page
                }),
            )
        } else {
            blobs(call, content_type, &window, page.after, &view)
        };
    let mut chance = call.draw("repeated entry");
    let rows: Vec<Value> = blobs
        .iter()
        .flat_map(|blob| {
            let times = 1 + usize::from(chance.hit(faults.repeated_entry));
            let row = entry(call, blob);
            std::iter::repeat_n(row, times)
        })
        .collect();
    let mut answer = Answer::json(StatusCode::OK, Value::from(rows).to_string());
    if let Some(next) = next {
        answer = next.named_in(answer, call, "content", content_type, &window);
    }
    Ok(answer)
}

/// The blobs of a page, and where the next one starts.
fn blobs(
    call: &Call<'_>,
    content_type: ContentType,
    window: &Window,
    after: Option<Cursor>,
    view: &View,
) -> (Vec<Arc<Blob>>, Option<NextPage>) {
    let feed = call
        .tenant
        .feed
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    let size = call.state.config.page_size.max(1);
    let shown = |blob: &Blob| view.shows(blob, call.now);
    let (blobs, last) = feed.page(content_type, (window.start, window.end), after, size, shown);
    (blobs, last.map(NextPage::after))
}

/// What a listing says of a blob.
fn entry(call: &Call<'_>, blob: &Arc<Blob>) -> Value {
    let before = blob.listed.fetch_add(1, Ordering::Relaxed);
    let share = call.faults.pages.foreign_content_uri;
    let foreign =
        before == 0 && Chance::of(&[call.seed(), part("foreign"), part(&blob.id)]).hit(share);
    let host = if foreign {
        &call.state.foreign_url
    } else {
        &call.state.url
    };
    json!({
        "contentType": blob.content_type.name(),
        "contentId": &*blob.id,
        "contentUri": content_uri(host, call.tenant.id, &blob.id),
        "contentCreated": wire_time(blob.created),
        "contentExpiration": wire_time(blob.expires()),
    })
}

/// The address of a blob.
pub(crate) fn content_uri(host: &str, tenant: uuid::Uuid, id: &str) -> String {
    format!("{host}/api/v1.0/{tenant}/activity/feed/audit/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: &str, end: &str, config: &Config) -> Result<(), &'static str> {
        let mut query = HashMap::new();
        for (key, value) in [("starttime", start), ("endtime", end)] {
            if !value.is_empty() {
                query.insert(key.to_owned(), value.to_owned());
            }
        }
        let now = "2026-06-10T12:00:00Z".parse().unwrap();
        Window::of(&query, config, now)
            .map(|_| ())
            .map_err(|error| error.code)
    }

    #[test]
    fn windows_follow_the_rules_of_the_reference() {
        let config = Config::default();
        for (start, end, expected) in [
            ("", "", Ok(())),
            ("2026-06-10", "2026-06-10T06:00", Ok(())),
            ("2026-06-09T00:00:00", "2026-06-10T00:00:00", Ok(())),
            ("2026-06-09T00:00:00Z", "2026-06-09T23:00:00Z", Ok(())),
            ("2026-06-03T12:00:00", "2026-06-04T11:00:00", Ok(())),
            ("2026-06-10T13:00:00", "2026-06-11T00:00:00", Ok(())),
            ("2026-06-10", "", Err("AF20055")),
            ("", "2026-06-10", Err("AF20055")),
            ("2026-06-09T00:00:00", "2026-06-10T00:00:01", Err("AF20055")),
            ("2026-06-03T11:59:59", "2026-06-04T11:00:00", Err("AF20055")),
            ("2026-06-10T01:00:00", "2026-06-10T01:00:00", Err("AF20055")),
            ("2026-06-10T02:00:00", "2026-06-10T01:00:00", Err("AF20055")),
            ("yesterday", "2026-06-10", Err("AF20002")),
        ] {
            assert_eq!(window(start, end, &config), expected, "{start} .. {end}");
        }
    }

    #[test]
    fn a_tenant_may_refuse_exactly_a_day_or_answer_longer_windows_in_part() {
        let strict = Config {
            reject_exactly_24_hours: true,
            ..Config::default()
        };
        assert_eq!(window("2026-06-09", "2026-06-10", &strict), Err("AF20055"));
        assert_eq!(window("2026-06-09T00:00:01", "2026-06-10", &strict), Ok(()));
        let lenient = Config {
            over_24_hours: LongWindow::Partial,
            ..Config::default()
        };
        assert_eq!(window("2026-06-08", "2026-06-10", &lenient), Ok(()));
    }
}
