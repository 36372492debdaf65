//! The five feeds of the Management Activity API (reference, "Working with the Office 365
//! Management Activity API": content types).

use serde::{Deserialize, Serialize};

/// One feed of audit content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContentType {
    /// Directory changes and sign-ins.
    #[serde(rename = "Audit.AzureActiveDirectory")]
    AzureActiveDirectory,
    /// Mailboxes and Exchange administration.
    #[serde(rename = "Audit.Exchange")]
    Exchange,
    /// `SharePoint` and `OneDrive`.
    #[serde(rename = "Audit.SharePoint")]
    SharePoint,
    /// Every other workload, Power Platform and Teams among them.
    #[serde(rename = "Audit.General")]
    General,
    /// Data loss prevention events of every workload.
    #[serde(rename = "DLP.All")]
    Dlp,
}

impl ContentType {
    /// All five, in the order of the reference.
    pub const ALL: [Self; 5] = [
        Self::AzureActiveDirectory,
        Self::Exchange,
        Self::SharePoint,
        Self::General,
        Self::Dlp,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            Self::Exchange => "Audit.Exchange",
            Self::SharePoint => "Audit.SharePoint",
            Self::General => "Audit.General",
            Self::Dlp => "DLP.All",
        }
    }

    /// Reads a name; the service does not mind its case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|it| it.name().eq_ignore_ascii_case(name))
    }

    /// The tail of a content id, such as `$audit_general$Audit_General$na0045`.
    pub(crate) fn tail(self) -> &'static str {
        match self {
            Self::AzureActiveDirectory => {
                "$audit_azureactivedirectory$Audit_AzureActiveDirectory$na0045"
            }
            Self::Exchange => "$audit_exchange$Audit_Exchange$na0045",
            Self::SharePoint => "$audit_sharepoint$Audit_SharePoint$na0045",
            Self::General => "$audit_general$Audit_General$na0045",
            Self::Dlp => "$dlp_all$DLP_All$na0045",
        }
    }

    /// The feed in which a record appears, by its record type and workload
    /// (audit schema, "Content type to workload mapping").
    #[must_use]
    pub fn of_record(record_type: Option<i64>, workload: &str) -> Self {
        match record_type {
            Some(8 | 9 | 15) => Self::AzureActiveDirectory,
            Some(1 | 2 | 3 | 19 | 50 | 101) => Self::Exchange,
            Some(4 | 6 | 7 | 14 | 36 | 37 | 54 | 55 | 56 | 102) => Self::SharePoint,
            Some(11 | 13 | 33 | 107) => Self::Dlp,
            Some(_) => Self::General,
            None => match workload {
                "AzureActiveDirectory" => Self::AzureActiveDirectory,
                "Exchange" => Self::Exchange,
                "SharePoint" | "OneDrive" => Self::SharePoint,
                _ => Self::General,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_nothing_else_is() {
        for it in ContentType::ALL {
            assert_eq!(ContentType::parse(it.name()), Some(it));
            assert_eq!(ContentType::parse(&it.name().to_lowercase()), Some(it));
        }
        assert_eq!(ContentType::parse("Audit.Everything"), None);
    }

    #[test]
    fn records_go_to_the_feed_of_their_record_type_else_of_their_workload() {
        assert_eq!(
            ContentType::of_record(Some(30), "MicrosoftFlow"),
            ContentType::General
        );
        assert_eq!(
            ContentType::of_record(Some(15), ""),
            ContentType::AzureActiveDirectory
        );
        assert_eq!(
            ContentType::of_record(Some(13), "Exchange"),
            ContentType::Dlp
        );
        assert_eq!(
            ContentType::of_record(None, "OneDrive"),
            ContentType::SharePoint
        );
        assert_eq!(ContentType::of_record(None, ""), ContentType::General);
    }
}
