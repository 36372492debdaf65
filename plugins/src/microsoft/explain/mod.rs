//! What the error codes of Microsoft's services mean, what to do, and whether anything is lost meanwhile: one table,
//! so that the log, `check` and `explain` say the same.
//!
//! Only what a restart with another configuration alone can mend is [`Kind::Config`]. What an administrator mends at
//! Microsoft, or by a new secret, is [`Kind::Auth`]: it is tried again, slowly, and works without a restart.

mod activity;
mod azure;
mod entra;
mod exchange;
mod graph;

use audit_exporter_core::{Error, Kind};

pub(crate) use self::activity::{ACCESS_IS_REFUSED, AUDITING_IS_OFF, TOKEN_IS_REFUSED};

/// Whose code it is. The same word can mean different things to two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Microsoft Entra's token endpoint.
    Entra,
    /// The Office 365 Management Activity API.
    ManagementActivity,
    /// Microsoft Graph.
    Graph,
    /// Exchange Online's `InvokeCommand`.
    Exchange,
    /// The older web service of Search-UnifiedAuditLog.
    ExchangeBasic,
    /// The endpoint of a managed identity.
    ManagedIdentity,
    /// Azure Key Vault.
    KeyVault,
    /// Any of them, by the HTTP status alone.
    Any,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Entra => "Microsoft Entra, which issues tokens",
            Self::ManagementActivity => "the Office 365 Management Activity API",
            Self::Graph => "Microsoft Graph",
            Self::Exchange => "Exchange Online (Search-UnifiedAuditLog as an app)",
            Self::ExchangeBasic => {
                "the web service of Search-UnifiedAuditLog (Basic authentication)"
            }
            Self::ManagedIdentity => "the endpoint of Azure's managed identities",
            Self::KeyVault => "Azure Key Vault",
            Self::Any => "any of Microsoft's services",
        }
    }
}

/// What becomes of events while an error lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It is no failure.
    Nothing,
    /// It passes by itself.
    Delayed,
    /// Somebody must mend it, in time.
    Waiting,
    /// There are events, but the Management Activity API does not offer them.
    NotOffered,
    /// There are no events.
    NotRecorded,
    /// This content is lost.
    Gone,
}

impl Loss {
    fn text(self) -> &'static str {
        match self {
            Self::Nothing => "no",
            Self::Delayed => {
                "no: it is tried again by itself, and what is delayed arrives later; the Management Activity API lists \
                 the last 7 days"
            }
            Self::Waiting => {
                "not yet: collecting waits, and goes on by itself when this is mended. The Management Activity API lists \
                 the last 7 days and no more; Graph audit queries and Search-UnifiedAuditLog reach as far back as the \
                 tenant keeps its audit log"
            }
            Self::NotOffered => {
                "yes, by the Management Activity API: without a subscription it offers nothing, and `coverage` shows a \
                 gap. The audit log itself goes on, so Graph audit queries and Search-UnifiedAuditLog can still bring \
                 it in"
            }
            Self::NotRecorded => {
                "yes: what happens while auditing is off is recorded nowhere and cannot be brought in later"
            }
            Self::Gone => {
                "yes, this content: `coverage` counts it as lost and names it. Graph audit queries and \
                 Search-UnifiedAuditLog can still bring in its events, as far back as the tenant keeps its audit log"
            }
        }
    }
}

/// What is known of some codes that mean the same.
#[derive(Debug)]
pub(crate) struct Row {
    codes: &'static [&'static str],
    /// The engine's next action.
    pub(crate) kind: Kind,
    /// What is wrong.
    pub(crate) meaning: &'static str,
    /// What to do; empty if there is nothing to do.
    pub(crate) advice: &'static str,
    loss: Loss,
}

impl Row {
    const fn new(
        codes: &'static [&'static str],
        kind: Kind,
        meaning: &'static str,
        advice: &'static str,
        loss: Loss,
    ) -> Self {
        Self {
            codes,
            kind,
            meaning,
            advice,
            loss,
        }
    }

    /// What is wrong, and what to do.
    pub(crate) fn text(&self) -> String {
        match self.advice {
            "" => self.meaning.to_owned(),
            advice => format!("{}; {advice}", self.meaning),
        }
    }

    /// The same as an error, with the code before it.
    pub(crate) fn error(&self, code: &str) -> Error {
        Error::new(self.kind, format!("{code}: {}", self.text())).with_code(code)
    }
}

const TABLES: [(Service, &[Row]); 8] = [
    (Service::Entra, entra::ROWS),
    (Service::ManagementActivity, activity::ROWS),
    (Service::Graph, graph::ROWS),
    (Service::Exchange, exchange::ROWS),
    (Service::ExchangeBasic, exchange::BASIC_ROWS),
    (Service::ManagedIdentity, azure::IDENTITY_ROWS),
    (Service::KeyVault, azure::VAULT_ROWS),
    (Service::Any, activity::STATUS_ROWS),
];

fn codes() -> impl Iterator<Item = (Service, &'static str, &'static Row)> {
    TABLES.into_iter().flat_map(|(service, rows)| {
        rows.iter()
            .flat_map(move |row| row.codes.iter().map(move |code| (service, *code, row)))
    })
}

/// What is known of a service's code, in any case.
pub(crate) fn find(service: Service, code: &str) -> Option<&'static Row> {
    codes()
        .find(|(of, known, _)| *of == service && known.eq_ignore_ascii_case(code))
        .map(|(_, _, row)| row)
}

/// What a code means, where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The code in Microsoft's spelling.
    pub code: &'static str,
    /// Whose it is.
    pub service: &'static str,
    /// What is wrong.
    pub meaning: &'static str,
    /// What to do about it, if anything.
    pub advice: Option<&'static str>,
    /// Whether events are lost while it lasts.
    pub loss: &'static str,
    /// Microsoft's own page about it, if there is one.
    pub page: Option<String>,
}

/// What Microsoft's services mean by `code`, as it stands in a log or on a screen: `AF20022`, `AADSTS7000215` or
/// `7000215`, `Forbidden`, `HTTP 403`, in any case and with or without the sentence that follows it. The same word may
/// have several meanings.
///
/// An error names the nearest code that is known.
pub fn explain(code: &str) -> Result<Vec<Explanation>, Error> {
    let asked = bare(code);
    let found: Vec<Explanation> = codes()
        .filter(|(_, known, _)| known.eq_ignore_ascii_case(&asked))
        .map(|(service, code, row)| explanation(service, code, row))
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let near = match nearest(&asked) {
        Some(near) => format!("; did you mean {near}?"),
        None => String::new(),
    };
    Err(Error::config(format!(
        "the code {asked:?} is not known here{near}"
    )))
}

fn explanation(service: Service, code: &'static str, row: &Row) -> Explanation {
    let number = code.strip_prefix(entra::PREFIX);
    Explanation {
        code,
        service: service.name(),
        meaning: row.meaning,
        advice: Some(row.advice).filter(|advice| !advice.is_empty()),
        loss: row.loss.text(),
        page: number.map(|number| format!("https://login.microsoftonline.com/error?code={number}")),
    }
}

/// The code alone, as the table spells it.
fn bare(text: &str) -> String {
    let text = text.trim();
    let code = text.split([':', ';', ',', '(']).next().unwrap_or(text);
    let code = code.trim().trim_end_matches('.');
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match code.len() {
        // An HTTP status, or a number of Entra's, which are longer.
        3 if is_number(code) => format!("HTTP {code}"),
        _ if is_number(code) => format!("{}{code}", entra::PREFIX),
        _ => {
            let upper = code.to_ascii_uppercase();
            match upper.strip_prefix("HTTP").map(str::trim) {
                Some(status) if is_number(status) => format!("HTTP {status}"),
                _ => code.to_owned(),
            }
        }
    }
}

fn nearest(asked: &str) -> Option<&'static str> {
    let asked = asked.to_ascii_lowercase();
    codes()
        .map(|(_, code, _)| {
            let distance = strsim::damerau_levenshtein(&asked, &code.to_ascii_lowercase());
            (distance, code)
        })
        .filter(|(distance, code)| *distance <= 1.max(code.len() / 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, code)| code)
}

#[cfg(test)]
mod tests;
