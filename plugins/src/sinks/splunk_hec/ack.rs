//! Channels, on which the indexers' acknowledgements are asked for (reference: sinks-protocols.md §1.4).
//!
//! Acknowledgements are numbered in their channel, from 0, and a restart of Splunk begins anew: the number of a request
//! of before could then name one that came after it, and its acknowledgement be taken for the other's. So a channel
//! has one request at a time, and is used again only once that was acknowledged.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reqwest::header::{COOKIE, HeaderMap, SET_COOKIE};
use reqwest::{RequestBuilder, header::HeaderName};
use serde::Deserialize;
use uuid::Uuid;

pub(super) const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");
/// Cookies of a channel, and bytes of each: more than load balancers set.
const MOST_COOKIES: usize = 8;
const LONGEST_COOKIE: usize = 4096;

/// One channel of one endpoint.
#[derive(Debug)]
pub(super) struct Channel {
    id: String,
    /// By which a load balancer finds the server that has the channel.
    cookies: BTreeMap<String, String>,
}

impl Channel {
    fn new() -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            cookies: BTreeMap::new(),
        }
    }

    /// A request on this channel, to the server that has it.
    pub(super) fn mark(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header(CHANNEL, &self.id);
        if self.cookies.is_empty() {
            return request;
        }
        let pairs: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        request.header(COOKIE, pairs.join("; "))
    }

    /// Keeps the cookies of an answer.
    pub(super) fn learn(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap_or_default();
            let pair = pair.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=')
                && pair.len() <= LONGEST_COOKIE
                && (self.cookies.len() < MOST_COOKIES || self.cookies.contains_key(name.trim()))
            {
                self.cookies
                    .insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

/// The channels of one endpoint that nothing waits on.
#[derive(Debug, Default)]
pub(super) struct Channels(Mutex<Vec<Channel>>);

impl Channels {
    /// One that is free, or a new one.
    pub(super) fn take(&self) -> Channel {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.pop().unwrap_or_else(Channel::new)
    }

    /// Its request was acknowledged.
    pub(super) fn give_back(&self, channel: Channel) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(channel);
    }
}

/// The answer to a question for acknowledgements.
#[derive(Debug, Deserialize)]
pub(super) struct Acks {
    acks: BTreeMap<String, bool>,
}

impl Acks {
    /// Whether this one came. It is told once: Splunk forgets it.
    pub(super) fn has(&self, id: u64) -> bool {
        self.acks.get(&id.to_string()).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_one_request_at_a_time() {
        let channels = Channels::default();
        let (first, second) = (channels.take(), channels.take());
        assert_ne!(first.id, second.id);
        let id = first.id.clone();
        channels.give_back(first);
        assert_eq!(channels.take().id, id);
        assert_ne!(channels.take().id, second.id);
    }

    #[test]
    fn a_channel_goes_back_to_the_server_that_its_cookies_name() {
        let mut channel = Channel::new();
        let cookies = [
            "AWSALB=abc; Path=/; Secure",
            "node = 2",
            "broken",
            "AWSALB=def",
        ];
        channel.learn(&HeaderMap::from_iter(
            cookies.map(|cookie| (SET_COOKIE, cookie.parse().unwrap())),
        ));
        let client = audit_exporter_core::http::Client::new().unwrap();
        let url = url::Url::parse("http://localhost").unwrap();
        let request = channel.mark(client.request(reqwest::Method::POST, url));
        let request = request.build().unwrap();
        assert_eq!(request.headers()[COOKIE], "AWSALB=def; node=2");
        assert_eq!(request.headers()[CHANNEL], channel.id);
    }
}
