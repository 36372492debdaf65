//! Tenants with a file each, for those who have hundreds: one is added or taken away without touching the others.

use std::path::{Path, PathBuf};

use super::Options;
use super::build::Problems;
use super::keys::TenantFiles;
use super::layers::Layer;
use crate::error::{Error, Result};

/// The layers of the files in `tenant_files.folder`, in the order of their names.
pub(super) fn read(root: &Options, file: &Layer, problems: &mut Problems) -> Vec<Layer> {
    let files = match files(root) {
        Ok(files) => files,
        Err(error) => {
            problems.add(&error);
            return Vec::new();
        }
    };
    let mut layers = Vec::new();
    for path in files {
        match layer(&path, file) {
            Ok(layer) => layers.push(layer),
            Err(error) => problems.add(&error),
        }
    }
    layers
}

/// Every `*.toml` of the folder, but for hidden files, which editors leave.
fn files(root: &Options) -> Result<Vec<PathBuf>> {
    let options = root.child("tenant_files", &[])?;
    let Some(folder) = options.parse::<TenantFiles>()?.folder else {
        return Ok(Vec::new());
    };
    let folder = options.resolve_path(&folder);
    let unreadable = |error| {
        options
            .problem(
                "folder",
                &format!("the folder {} cannot be read", folder.display()),
            )
            .with_cause(error)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn layer(path: &Path, file: &Layer) -> Result<Layer> {
    let label = path.display().to_string();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    if file.gives(&["tenants", &name]) {
        return Err(Error::config(format!(
            "{label}: {} has [tenants.{name}] too; one of the two has to go",
            file.label
        )));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::config(format!("{label}: cannot be read")).with_cause(error))?;
    Layer::tenant(&label, &name, &text, file)
}
