//! What `check` says about a `file` sink's folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use audit_exporter_core::plugin::Finding;

use super::config::Settings;
use super::disk;

/// Tries every folder that the sink writes below, once.
pub(super) fn folders<'a>(settings: impl Iterator<Item = &'a Settings>) -> Vec<Finding> {
    let mut roots: BTreeMap<&str, u64> = BTreeMap::new();
    for settings in settings {
        let size = roots.entry(settings.template.root()).or_default();
        *size = settings.rotate_size.max(*size);
    }
    roots
        .into_iter()
        .map(|(root, file_bytes)| folder(Path::new(root), file_bytes))
        .collect()
}

/// Warns where several tenants' events end in one file.
pub(super) fn mixed_tenants(settings: &[&Settings]) -> Option<Finding> {
    let shared = settings
        .iter()
        .filter(|settings| !settings.template.names_tenant())
        .count();
    (shared > 1).then(|| {
        Finding::warning(format!(
            "the path of {shared} tenants has neither {{tenant}} nor {{tenant_id}}: unless their paths differ \
             otherwise, their events stand in the same files"
        ))
    })
}

fn folder(root: &Path, file_bytes: u64) -> Finding {
    if let Err(error) = disk::create_folder(root, &mut BTreeSet::new()) {
        return Finding::problem(format!(
            "{error}; create it, or make it writable for this user"
        ));
    }
    if let Err(error) = probe(root) {
        return Finding::problem(format!(
            "cannot write in {}: {error}; make the folder writable for this user",
            root.display()
        ));
    }
    match rustix::fs::statvfs(root) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let message = format!("{} is writable, {} free", root.display(), size(free));
            if free < file_bytes {
                Finding::warning(format!("{message}: less than one file (rotate_size)"))
            } else {
                Finding::ok(message)
            }
        }
        Err(error) => Finding::warning(format!(
            "{} is writable, but its free space is unknown: {error}",
            root.display()
        )),
    }
}

/// Writes a file and removes it.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".audit-exporter-check-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let written = file.write_all(b"check\n").and_then(|()| file.sync_all());
    fs::remove_file(&path)?;
    written
}

fn size(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib >= 1.0 {
        format!("{gib:.1} GiB")
    } else {
        format!("{:.1} MiB", gib * 1024.0)
    }
}
