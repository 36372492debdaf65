//! Selections: `["contoso", "tag:emea"]` to names. Resolved once, at load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::build::Problems;
use super::options::Options;

/// What a tag starts with in a selection. No name contains a colon.
const TAG: &str = "tag:";

/// What can be selected of one kind.
pub(super) struct Names {
    pub(super) declared: BTreeSet<Arc<str>>,
    tags: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// All of them could be read. Otherwise an unknown tag may belong to one that could not.
    pub(super) complete: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            declared: BTreeSet::new(),
            tags: BTreeMap::new(),
            complete: true,
        }
    }
}

impl Names {
    pub(super) fn tag(&mut self, tag: &str, name: &Arc<str>) {
        let names = self.tags.entry(format!("{TAG}{tag}")).or_default();
        names.insert(Arc::clone(name));
    }

    /// The names that the list selects, in their own order; without a list all. `None` after a problem, so that
    /// nothing is concluded from it.
    pub(super) fn select(
        &self,
        key: &str,
        list: Option<&[String]>,
        options: &Options,
        problems: &mut Problems,
    ) -> Option<Vec<Arc<str>>> {
        let Some(list) = list else {
            return Some(self.declared.iter().cloned().collect());
        };
        let mut clean = !list.is_empty();
        if list.is_empty() {
            let expected = format!("at least one {} (leave the key out for all)", one(key));
            problems.add(&options.invalid(key, &expected, "an empty list"));
        }
        let mut selected = BTreeSet::new();
        for (index, entry) in list.iter().enumerate() {
            match (self.declared.get(&**entry), self.tags.get(entry)) {
                (Some(name), _) => {
                    selected.insert(Arc::clone(name));
                }
                (None, Some(names)) => selected.extend(names.iter().cloned()),
                (None, None) if entry.starts_with(TAG) && !self.complete => clean = false,
                (None, None) => {
                    clean = false;
                    problems.add(&self.unknown(key, index, entry, options));
                }
            }
        }
        clean.then(|| selected.into_iter().collect())
    }

    /// The names that the list gives, in the list's order.
    pub(super) fn in_order(
        &self,
        key: &str,
        list: &[String],
        options: &Options,
        problems: &mut Problems,
    ) -> Vec<Arc<str>> {
        let mut selected = Vec::new();
        for (index, entry) in list.iter().enumerate() {
            match self.declared.get(&**entry) {
                Some(name) => selected.push(Arc::clone(name)),
                None => {
                    problems.add(&self.unknown(key, index, entry, options));
                }
            }
        }
        selected
    }

    fn unknown(&self, key: &str, index: usize, entry: &str, options: &Options) -> crate::Error {
        let names = self.declared.iter().map(AsRef::as_ref);
        let tags = self.tags.keys().map(String::as_str);
        let or_tag = if self.tags.is_empty() { "" } else { " or tag" };
        let expected = format!("the name of a {}{or_tag}", one(key));
        options.unknown_value(
            &format!("{key}[{index}]"),
            &expected,
            entry,
            names.chain(tags),
        )
    }
}

/// What a list called `key` has in it.
fn one(key: &str) -> &str {
    key.trim_end_matches('s')
}
