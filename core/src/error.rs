//! The one error of the product. Its [`Kind`] is what the engine does next; the rest is for people.

use std::fmt;
use std::time::Duration;

/// What the engine does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The configuration is wrong: refuse to start; in a running component retry slowly, for somebody may be mending it.
    Config,
    /// Credentials or permissions are refused: retry slowly, report not ready.
    Auth,
    /// The peer asks to slow down: wait for `retry_after`, or back off.
    Throttled,
    /// An outage or a broken answer: back off and retry.
    Unavailable,
    /// This input will never be accepted: dead letter, go on.
    Rejected,
    /// The peer no longer has it: count it as lost, alarm, go on.
    Lost,
    /// An invariant of this program is broken: stop this sink, or let this source try again slowly; not the others.
    Bug,
}

impl Kind {
    /// The label value in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Auth => "auth",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
            Self::Lost => "lost",
            Self::Bug => "bug",
        }
    }
}

/// An error: what failed, in lower case and without a full stop; never a secret, never a body.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    code: Option<String>,
    retry_after: Option<Duration>,
    fatal: bool,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says what failed.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            retry_after: None,
            fatal: false,
            cause: None,
        }
    }

    /// See [`Kind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// See [`Kind::Auth`].
    pub fn auth(message: impl Into<String>) -> Self {
        Self::new(Kind::Auth, message)
    }

    /// See [`Kind::Throttled`].
    pub fn throttled(message: impl Into<String>) -> Self {
        Self::new(Kind::Throttled, message)
    }

    /// See [`Kind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// See [`Kind::Rejected`].
    pub fn rejected(message: impl Into<String>) -> Self {
        Self::new(Kind::Rejected, message)
    }

    /// See [`Kind::Lost`].
    pub fn lost(message: impl Into<String>) -> Self {
        Self::new(Kind::Lost, message)
    }

    /// See [`Kind::Bug`].
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// Adds the peer's own error code (`AF20055`, `AADSTS7000215`), which people search for.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Adds the wait that the peer asked for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Says that this process can never mend it, and ends.
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.fatal = true;
        self
    }

    /// Adds the underlying error.
    #[must_use]
    pub fn with_cause(
        mut self,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Says what was being done, before what failed: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What the engine does next.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The peer's own error code.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What has caused it, the nearest first.
    pub fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        let first = self
            .cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static));
        std::iter::successors(first, |cause| cause.source())
    }

    /// Whether this process ends because of it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// The wait that the peer asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Error {}

/// Classifies an I/O error: all of them may pass (a full disk, a busy file), so the work is retried.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::unavailable("input/output failed").with_cause(error)
    }
}

/// Adds context to a result's error, whatever its type.
pub trait ResultExt<T> {
    /// Says what was being done.
    fn context(self, context: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(context))
    }
}
