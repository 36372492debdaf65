//! A mail as it goes out: HTML and plain text of the same, and perhaps a table of all rows.

use std::time::SystemTime;

use audit_exporter_core::{Error, Result};
use chrono::{DateTime, Utc};
use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, MultiPartKind, SinglePart};
use xxhash_rust::xxh3::xxh3_128;

use super::render::Rendered;

/// Who a mail is from and to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) from: Mailbox,
    pub(super) reply_to: Option<Mailbox>,
    pub(super) to: Vec<Mailbox>,
    pub(super) cc: Vec<Mailbox>,
}

/// A mail, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    /// Its `Message-ID`.
    pub(super) id: String,
    pub(super) envelope: Envelope,
    /// The message with its headers.
    pub(super) bytes: Vec<u8>,
}

/// The `Message-ID` of what `parts` name: the same whenever that is sent.
pub(super) fn message_id(parts: &[&str], addresses: &Addresses) -> String {
    let hash = xxh3_128(parts.join("\0").as_bytes());
    format!(
        "<{hash:032x}.audit-exporter@{}>",
        addresses.from.email.domain()
    )
}

/// Builds a mail. The same arguments give the same bytes.
pub(super) fn build(
    addresses: &Addresses,
    message_id: &str,
    at: DateTime<Utc>,
    texts: Rendered,
    attachment: Option<(&str, String)>,
) -> Result<Mail> {
    let mut message = Message::builder()
        .message_id(Some(message_id.to_owned()))
        .date(SystemTime::from(at))
        .from(addresses.from.clone())
        .subject(texts.subject);
    for mailbox in &addresses.to {
        message = message.to(mailbox.clone());
    }
    for mailbox in &addresses.cc {
        message = message.cc(mailbox.clone());
    }
    if let Some(mailbox) = &addresses.reply_to {
        message = message.reply_to(mailbox.clone());
    }
    // No holiday notes in answer.
    for (name, value) in [
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
    ] {
        let name = HeaderName::new_from_ascii_str(name);
        message = message.raw_header(HeaderValue::new(name, value.to_owned()));
    }
    let boundary = format!("{:032x}", xxh3_128(message_id.as_bytes()));
    let part = |kind, name: &str| {
        MultiPart::builder()
            .kind(kind)
            .boundary(format!("{name}-{boundary}"))
    };
    let both = part(MultiPartKind::Alternative, "alternative")
        .singlepart(SinglePart::plain(texts.text))
        .singlepart(SinglePart::html(texts.html));
    let body = match attachment {
        None => both,
        Some((name, csv)) => {
            let kind = ContentType::parse("text/csv; charset=utf-8")
                .map_err(|error| Error::bug("text/csv is no content type").with_cause(error))?;
            part(MultiPartKind::Mixed, "mixed")
                .multipart(both)
                .singlepart(Attachment::new(name.to_owned()).body(csv, kind))
        }
    };
    let message = message
        .multipart(body)
        .map_err(|error| Error::config("the mail cannot be put together").with_cause(error))?;
    Ok(Mail {
        id: message_id.to_owned(),
        envelope: message.envelope().clone(),
        bytes: message.formatted(),
    })
}
