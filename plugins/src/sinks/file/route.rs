//! Which events of a batch go to which file.

use std::collections::HashMap;
use std::sync::Arc;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::event::{AuditEvent, Origin};
use chrono::{DateTime, Utc};

use super::config::Settings;
use crate::sinks::template::TimeKey;

/// The events of one path, in the batch's order.
#[derive(Debug)]
pub(super) struct Group {
    /// The path without number and extension.
    pub(super) stem: String,
    pub(super) settings: Arc<Settings>,
    /// Indexes into the batch.
    pub(super) events: Vec<usize>,
}

/// Finds the path of each event.
#[derive(Debug)]
pub(super) struct Router {
    options: Options,
    settings: HashMap<Arc<str>, Arc<Settings>>,
    /// What holds without any tenant.
    shared: Option<Settings>,
    /// What names of files have before their extension, beside what the path says.
    suffix: String,
}

/// What the previous event's path depended on.
struct Previous<'a> {
    origin: &'a Arc<Origin>,
    settings: Arc<Settings>,
    time: TimeKey,
    group: usize,
}

impl Router {
    /// Reads every tenant's settings, so that an error shows at start.
    pub(super) fn new(options: Options, tenants: &[Tenant], replay: Option<&str>) -> Result<Self> {
        let shared = if tenants.is_empty() {
            Some(Settings::read(&options, None)?)
        } else {
            None
        };
        let settings = tenants
            .iter()
            .map(|tenant| {
                let settings = Settings::read(&options, Some(&tenant.name))?;
                Ok((Arc::clone(&tenant.name), Arc::new(settings)))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            options,
            settings,
            shared,
            suffix: replay.map_or_else(String::new, |word| format!(".replay-{word}")),
        })
    }

    /// The settings of all tenants.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Settings> {
        let own = self.settings.values().map(AsRef::as_ref);
        own.chain(&self.shared)
    }

    /// Sorts `events` by path. `now` stands in for events without a time.
    ///
    /// Allocates for a path, not for an event.
    pub(super) fn group(
        &mut self,
        events: &[AuditEvent],
        now: DateTime<Utc>,
    ) -> Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut path = String::new();
        let mut previous: Option<Previous<'_>> = None;
        for (index, event) in events.iter().enumerate() {
            let origin = event.origin();
            let time = event.created().unwrap_or(now);
            if let Some(previous) = &previous
                && Arc::ptr_eq(previous.origin, origin)
            {
                let template = &previous.settings.template;
                if !template.reads_record() && template.time_key(time) == previous.time {
                    groups[previous.group].events.push(index);
                    continue;
                }
            }
            let settings = self.tenant(&origin.tenant_name)?;
            settings.template.render(event, time, &mut path);
            path.push_str(&self.suffix);
            let stem = path.len();
            path.push_str(settings.template.extension());
            let group = if let Some(group) = known.get(&path) {
                *group
            } else {
                known.insert(path.clone(), groups.len());
                groups.push(Group {
                    stem: path[..stem].to_owned(),
                    settings: Arc::clone(&settings),
                    events: Vec::new(),
                });
                groups.len() - 1
            };
            groups[group].events.push(index);
            previous = Some(Previous {
                origin,
                time: settings.template.time_key(time),
                settings,
                group,
            });
        }
        Ok(groups)
    }

    /// A tenant's settings. One that left the configuration may still have events in the journal.
    fn tenant(&mut self, name: &Arc<str>) -> Result<Arc<Settings>> {
        if let Some(settings) = self.settings.get(name) {
            return Ok(Arc::clone(settings));
        }
        let settings = Arc::new(Settings::read(&self.options, Some(name))?);
        self.settings
            .insert(Arc::clone(name), Arc::clone(&settings));
        Ok(settings)
    }
}
