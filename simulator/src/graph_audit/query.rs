//! One audit query: what it asks for, and how far it is (reference, "auditLogQuery", "Lifecycle and paging").

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::record_types;

/// The `@odata.type` of a query.
const TYPE: &str = "#microsoft.graph.security.auditLogQuery";

/// What a client posts. Both spellings of the service filter are known; what it may not set is taken and forgotten.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)] // the fields that are only taken
pub(super) struct Wanted {
    #[serde(rename = "@odata.type")]
    odata_type: Option<String>,
    pub(super) display_name: Option<String>,
    filter_start_date_time: Option<DateTime<Utc>>,
    filter_end_date_time: Option<DateTime<Utc>>,
    record_type_filters: Vec<String>,
    keyword_filter: Option<String>,
    service_filter: Option<String>,
    service_filters: Vec<String>,
    operation_filters: Vec<String>,
    user_principal_name_filters: Vec<String>,
    ip_address_filters: Vec<String>,
    object_id_filters: Vec<String>,
    administrative_unit_id_filters: Vec<String>,
    status: Option<String>,
}

/// How a query ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    Cancelled,
}

/// A query that was created.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) id: Uuid,
    pub(super) tenant: Uuid,
    pub(super) app: String,
    pub(super) created: DateTime<Utc>,
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    pub(super) ends: DateTime<Utc>,
    pub(super) end: End,
    pub(super) wanted: Wanted,
    /// The numbers of its records, once it has succeeded, and whether there were more.
    pub(super) found: Option<(Vec<usize>, bool)>,
    /// How often it was read from its first page.
    pub(super) readings: u64,
}

impl Wanted {
    /// The time that it asks for; what is wrong with it, if anything.
    pub(super) fn check(&self) -> Result<(DateTime<Utc>, DateTime<Utc>), String> {
        let unknown = |name: &&String| record_types::number(name).is_none();
        if let Some(name) = self.record_type_filters.iter().find(unknown) {
            return Err(format!(
                "Cannot convert the literal '{name}' to the expected type 'microsoft.graph.security.auditLogRecordType'."
            ));
        }
        let (Some(from), Some(to)) = (self.filter_start_date_time, self.filter_end_date_time)
        else {
            return Err("filterStartDateTime and filterEndDateTime are required.".to_owned());
        };
        if to <= from {
            return Err("filterEndDateTime must be after filterStartDateTime.".to_owned());
        }
        Ok((from, to))
    }

    /// Operations and users, in lower case, for the index.
    pub(super) fn indexed(&self) -> (Vec<String>, Vec<String>) {
        let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect();
        (
            lower(&self.operation_filters),
            lower(&self.user_principal_name_filters),
        )
    }

    /// Whether it takes a record, by the filters that the index does not know.
    pub(super) fn takes(&self, record_type: i64, record: &[u8]) -> bool {
        let types = &self.record_type_filters;
        let is_wanted = |name: &String| record_types::number(name) == Some(record_type);
        if !types.is_empty() && !types.iter().any(is_wanted) {
            return false;
        }
        let text = String::from_utf8_lossy(record).to_lowercase();
        let field = |name: &str, wanted: &[String]| {
            let is_in = |value: &String| {
                let value = value.to_lowercase();
                text.contains(&format!("\"{}\":\"{value}\"", name.to_lowercase()))
            };
            wanted.is_empty() || wanted.iter().any(is_in)
        };
        let services: Vec<String> = self
            .service_filters
            .iter()
            .chain(&self.service_filter)
            .cloned()
            .collect();
        let has_keyword = |keyword: &String| text.contains(&keyword.to_lowercase());
        field("Workload", &services)
            && field("ClientIP", &self.ip_address_filters)
            && field("ObjectId", &self.object_id_filters)
            && self.keyword_filter.as_ref().is_none_or(has_keyword)
    }
}

impl Query {
    /// The status at `now`.
    pub(super) fn status(&self, now: DateTime<Utc>) -> &'static str {
        if now < self.ends {
            let third = (self.ends - self.created) / 3;
            return if now < self.created + third {
                "notStarted"
            } else {
                "running"
            };
        }
        match self.end {
            End::Succeeded => "succeeded",
            End::Failed => "failed",
            End::Cancelled => "cancelled",
        }
    }

    /// Whether it waits or runs at `now`.
    pub(super) fn is_under_way(&self, now: DateTime<Utc>) -> bool {
        now < self.ends
    }

    /// Whether it was created in the day before `now`.
    pub(super) fn is_of_today(&self, now: DateTime<Utc>) -> bool {
        self.created > now - TimeDelta::days(1)
    }

    /// The query as it is shown, without its context.
    pub(super) fn shown(&self, now: DateTime<Utc>, most_records: usize) -> Value {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let wanted = &self.wanted;
        let mut shown = json!({
            "@odata.type": TYPE,
            "id": self.id.to_string(),
            "displayName": wanted.display_name,
            "filterStartDateTime": time(self.from),
            "filterEndDateTime": time(self.to),
            "recordTypeFilters": wanted.record_type_filters,
            "keywordFilter": wanted.keyword_filter,
            "serviceFilters": wanted.service_filters,
            "operationFilters": wanted.operation_filters,
            "userPrincipalNameFilters": wanted.user_principal_name_filters,
            "ipAddressFilters": wanted.ip_address_filters,
            "objectIdFilters": wanted.object_id_filters,
            "administrativeUnitIdFilters": wanted.administrative_unit_id_filters,
            "status": self.status(now),
        });
        if let (Some((numbers, more)), Some(object)) = (&self.found, shown.as_object_mut()) {
            object.insert(
                "approximateReturnedRecordCount".to_owned(),
                json!(numbers.len()),
            );
            object.insert("isRecordCountLimitExceeded".to_owned(), json!(more));
            object.insert("recordCountLimit".to_owned(), json!(most_records));
        }
        shown
    }
}
