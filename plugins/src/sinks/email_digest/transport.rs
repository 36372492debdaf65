//! The ways that a mail can go out.

use std::sync::Arc;

use audit_exporter_core::Result;
use audit_exporter_core::config::Tenant;
use audit_exporter_core::plugin::Context;

use super::config::Way;
use super::graph::Graph;
use super::message::Mail;
use super::smtp::Smtp;
use crate::microsoft::cloud::Access;
use crate::microsoft::token::Tokens;

/// A mail server, or Microsoft Graph.
pub(super) enum Transport {
    Smtp(Box<Smtp>),
    Graph(Box<Graph>),
}

impl Transport {
    /// The transport of the mails of `tenant`; without one, of those of several.
    pub(super) fn new(context: &Context, way: Way, tenant: Option<&Tenant>) -> Result<Self> {
        let access = |key: &str, named: Option<&str>| {
            let tenant = match named {
                Some(name) => context.tenants.iter().find(|tenant| &*tenant.name == name),
                None => tenant,
            };
            let tenant = tenant.ok_or_else(|| {
                let known = context.tenants.iter().map(|tenant| &*tenant.name);
                let found = named.unwrap_or_default();
                context.options.unknown_value(
                    key,
                    "a tenant of this sink, whose app sends",
                    found,
                    known,
                )
            })?;
            Access::of(tenant).map(Arc::new)
        };
        let tokens = |access: &Arc<Access>, audience: &str| {
            let (http, access) = (context.http.clone(), Arc::clone(access));
            Tokens::new(
                http,
                access,
                audience.to_owned(),
                context.meter.clone(),
                context.clock.clone(),
            )
        };
        match way {
            Way::Smtp(given) => {
                let tokens = match given.needs_token() {
                    Some(audience) => Some(tokens(&access("smtp", None)?, audience)),
                    None => None,
                };
                let smtp = Smtp::new(&context.options, given, tokens)?;
                Ok(Self::Smtp(Box::new(smtp)))
            }
            Way::Graph(given) => {
                let access = access("graph.tenant", given.tenant.as_deref())?;
                let tokens = tokens(&access, &access.graph_audience);
                let (http, clock) = (context.http.clone(), context.clock.clone());
                let graph = Graph::new(http, clock, &access, given.sender, tokens)?;
                Ok(Self::Graph(Box::new(graph)))
            }
        }
    }

    /// Hands a mail over: `Ok` only when the far side has it.
    pub(super) async fn send(&self, mail: &Mail) -> Result<()> {
        match self {
            Self::Smtp(smtp) => smtp.send(mail).await,
            Self::Graph(graph) => graph.send(mail).await,
        }
    }

    /// Whether it takes mails, without sending one.
    pub(super) async fn check(&self) -> Result<String> {
        match self {
            Self::Smtp(smtp) => smtp.check().await,
            Self::Graph(graph) => graph.check().await,
        }
    }
}
