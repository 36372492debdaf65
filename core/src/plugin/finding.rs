//! What a plugin's `check` finds.

/// One line of what `check` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether this stops or loses anything.
    pub severity: Severity,
    /// What was found, and for a problem what to do.
    pub message: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but somebody should know.
    Warning,
    /// Will not work, or would lose events.
    Problem,
}

impl Finding {
    /// As it should be.
    pub fn ok(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Ok,
            message: message.into(),
        }
    }

    /// Works, but somebody should know.
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            message: message.into(),
        }
    }

    /// Will not work, or would lose events.
    pub fn problem(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Problem,
            message: message.into(),
        }
    }
}
