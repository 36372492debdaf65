//! A digest with its store and a mail server, at any time of day.

mod command;
mod content;
mod contract;
mod graph;
mod mails;
mod options;
mod periods;
mod server;
mod smtp;

use std::sync::Arc;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::event::{AuditEvent, Origin};
use audit_exporter_core::journal::Store;
use audit_exporter_core::plugin::{Context, Sink, Standing, Trouble};
use audit_exporter_core::{Error, Result};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::testing::{batch, context};
use server::{Server, Taken};

const IDS: [(&str, &str); 3] = [
    ("contoso", "11111111-1111-1111-1111-111111111111"),
    ("fabrikam", "22222222-2222-2222-2222-222222222222"),
    ("tailspin", "33333333-3333-3333-3333-333333333333"),
];

/// A digest of flows for one tenant, each morning.
const FLOWS: &str =
    "report = \"flows\"\ntitle = \"New flows\"\nfrom = \"Audit <audit@example.com>\"\n";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// What survives a restart, and the server that gets the mails.
struct Bench {
    store: Store,
    server: Server,
    options: String,
    tenants: Vec<Tenant>,
}

impl Bench {
    /// A digest with these options of so many tenants; mails go to the bench's server.
    async fn new(options: &str, tenants: usize) -> Self {
        Self {
            store: Store::in_memory(),
            server: Server::start().await,
            options: options.to_owned(),
            tenants: IDS[..tenants]
                .iter()
                .map(|(name, id)| tenant(name, id))
                .collect(),
        }
    }

    /// New flows of so many tenants, to ada, with one option more.
    async fn of_flows(option: &str, tenants: usize) -> Self {
        let options = format!("{FLOWS}to = [\"ada@example.com\"]\n{option}\n");
        Self::new(&options, tenants).await
    }

    /// New flows of contoso, to ada.
    async fn flows() -> Self {
        Self::of_flows("", 1).await
    }

    /// The same, whose first mail is about the 20th of November.
    async fn begun() -> Self {
        let bench = Self::flows().await;
        bench.tick("2026-11-20T00:10:00Z").await.unwrap();
        bench
    }

    /// The same, with a flow of that day.
    async fn with_a_flow() -> Self {
        let bench = Self::begun().await;
        let flow = flow(0, "2026-11-20T11:00:00", 1);
        bench.deliver("2026-11-20T12:00:00Z", [flow]).await;
        bench
    }

    fn context(&self, now: &str) -> Context {
        let port = self.server.port;
        let options = format!(
            "{}\nsmtp = {{ host = \"127.0.0.1\", port = {port}, tls = \"none\" }}\n",
            self.top()
        );
        let mut context = context("sinks.digest", &(options + self.tables()));
        context.tenants = self.tenants.clone().into();
        context.store = self.store.clone();
        context.clock = Clock::starting_at(at(now));
        context
    }

    fn top(&self) -> &str {
        self.options.split("\n[").next().unwrap_or_default()
    }

    fn tables(&self) -> &str {
        &self.options[self.top().len()..]
    }

    /// A process that starts at this time.
    fn sink(&self, now: &str) -> Box<dyn Sink> {
        super::build(self.context(now)).unwrap()
    }

    /// Events arrive.
    async fn deliver(&self, now: &str, events: impl IntoIterator<Item = AuditEvent>) {
        let delivered = self.sink(now).deliver(&batch(events)).await.unwrap();
        assert_eq!(delivered.rejected, []);
        self.store.apply(delivered.changes).await.unwrap();
    }

    /// Does what is due at this time, while everything is collected. Gives when the sink wants to be asked again.
    async fn tick(&self, now: &str) -> Result<Option<DateTime<Utc>>> {
        self.tick_when(now, &self.complete_to(Some(at("2100-01-01T00:00:00Z"))))
            .await
    }

    async fn tick_when(&self, now: &str, standing: &Standing) -> Result<Option<DateTime<Utc>>> {
        self.tick_of(&*self.sink(now), standing).await
    }

    /// The same of a process that goes on. An error is the first trouble.
    async fn tick_of(&self, sink: &dyn Sink, standing: &Standing) -> Result<Option<DateTime<Utc>>> {
        let mut failed = None;
        loop {
            let tick = sink.tick(standing).await?;
            if let Trouble::Failed(error) = tick.trouble {
                failed = failed.or(Some(error));
            }
            if tick.changes.is_empty() {
                return failed.map_or(Ok(tick.next), Err);
            }
            self.store.apply(tick.changes).await?;
        }
    }

    /// Collection of all tenants is so far.
    fn complete_to(&self, to: Option<DateTime<Utc>>) -> Standing {
        let tenants = self.tenants.iter();
        Standing::of(tenants.filter_map(|tenant| Some((Arc::clone(&tenant.id), to?))))
    }

    async fn ask(&self, now: &str, request: &str) -> Result<String> {
        Ok(self.sink(now).command(request).await?.text)
    }

    fn taken(&self) -> Vec<Taken> {
        self.server.taken()
    }

    fn subjects(&self) -> Vec<String> {
        let taken = self.taken();
        taken.iter().map(subject).collect()
    }
}

fn tenant(name: &str, id: &str) -> Tenant {
    Tenant {
        name: name.into(),
        id: id.into(),
        tags: Vec::new(),
        options: Options::from_toml(&format!("tenants.{name}"), ""),
    }
}

/// An event of one of the tenants.
fn event(tenant: usize, record: &str) -> AuditEvent {
    let (name, id) = IDS[tenant];
    let origin = Origin {
        tenant: id.into(),
        tenant_name: name.into(),
        source: "activity".into(),
        content_type: "Audit.General".into(),
        unit: "blob".into(),
    };
    AuditEvent::new(Bytes::copy_from_slice(record.as_bytes()), Arc::new(origin))
}

/// A flow that a tenant's user made.
fn flow(tenant: usize, time: &str, number: usize) -> AuditEvent {
    let (name, _) = IDS[tenant];
    event(
        tenant,
        &format!(
            r#"{{"Id":"{number}","CreationTime":"{time}","Operation":"CreateFlow","Workload":"MicrosoftFlow","RecordType":30,"ResultStatus":"Success","UserId":"maker{number}@{name}.example","FlowConnectorNames":"Request,Http","FlowDetailsUrl":"https://admin.powerplatform.microsoft.com/environments/env-{name}/flows/flow-{name}-{number}/flowDetails","SharingPermission":3}}"#
        ),
    )
}

/// A mail's subject, decoded.
fn subject(mail: &Taken) -> String {
    decoded_words(&mail.header("Subject").unwrap())
}

/// Undoes RFC 2047's base64, in which the subjects are.
fn decoded_words(text: &str) -> String {
    use base64::Engine as _;
    let mut bytes = Vec::new();
    let mut was_encoded = true;
    for word in text.split(' ') {
        let inner = word
            .strip_prefix("=?utf-8?b?")
            .and_then(|word| word.strip_suffix("?="));
        if !(was_encoded && inner.is_some()) {
            bytes.push(b' ');
        }
        was_encoded = inner.is_some();
        match inner {
            Some(word) => bytes.extend(base64::prelude::BASE64_STANDARD.decode(word).unwrap()),
            None => bytes.extend(word.bytes()),
        }
    }
    String::from_utf8(bytes).unwrap().trim().to_owned()
}

/// The decoded part of a mail with this content type.
fn part(mail: &Taken, kind: &str) -> Option<String> {
    let begin = mail.text.find(&format!("Content-Type: {kind}"))?;
    let (head, body) = mail.text[begin..].split_once("\r\n\r\n")?;
    let body = body.split("\r\n--").next()?;
    if head.contains("base64") {
        use base64::Engine as _;
        let joined: String = body.split_whitespace().collect();
        return String::from_utf8(base64::prelude::BASE64_STANDARD.decode(joined).ok()?).ok();
    }
    if head.contains("quoted-printable") {
        return Some(unquoted(body));
    }
    Some(body.to_owned())
}

fn unquoted(body: &str) -> String {
    let joined = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'=' {
            let hex = std::str::from_utf8(&others[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn html(mail: &Taken) -> String {
    part(mail, "text/html").unwrap()
}

fn text(mail: &Taken) -> String {
    part(mail, "text/plain").unwrap()
}

/// A sink that cannot be built says this.
fn refusal(context: Context) -> Error {
    super::build(context).err().unwrap()
}
