//! Tenants with a file each.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::Result;

const REST: &str = "[sources.activity]\ntype = \"x\"\n[sinks.archive]\ntype = \"x\"\n";
const CONTOSO: &str =
    "id = \"8f1c7f4e-6f3a-4c39-9d3b-2c1f0e9a7b55\"\ntags = [\"emea\"]\nkey = \"own\"\n";
const FABRIKAM: &str = "id = \"00000000-6f3a-4c39-9d3b-2c1f0e9a7b55\"\n";

/// The configuration in a folder with these files.
fn load(
    main: &str,
    files: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> (PathBuf, Result<Config>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join("tenants.d").join(name), text).unwrap();
    }
    let path = folder.path().join("config.toml");
    std::fs::write(&path, format!("{main}\n{REST}")).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = Config::load_with(&path, variables);
    (folder.path().join("tenants.d"), config)
}

const FOLDER: &str = "[tenant_files]\nfolder = \"tenants.d\"";

#[test]
fn each_file_is_a_tenant_of_its_name() {
    let files = [
        ("contoso.toml", CONTOSO),
        ("fabrikam.toml", FABRIKAM),
        (".contoso.toml.swp", "not for us"),
        (".hidden.toml", "nor this"),
        ("README", "nor this"),
    ];
    let (_, config) = load(FOLDER, &files, &[]);
    let config = config.unwrap();
    let names: Vec<_> = config.tenants.iter().map(|tenant| &*tenant.name).collect();
    assert_eq!(names, ["contoso", "fabrikam"]);
    assert_eq!(config.tenants[0].tags, ["emea"]);
    assert_eq!(config.sinks[0].tenants.len(), 2);
}

#[test]
fn the_environment_goes_over_a_tenants_file() {
    let variables = [
        ("AUDIT_EXPORTER_TENANTS__CONTOSO__KEY", "other"),
        ("AUDIT_EXPORTER_TENANT_FILES__FOLDER", "tenants.d"),
    ];
    let (_, config) = load("", &[("contoso.toml", CONTOSO)], &variables);
    let options: std::collections::BTreeMap<String, String> =
        config.unwrap().tenants[0].options.parse().unwrap();
    assert_eq!(options["key"], "other");
}

#[test]
fn what_is_wrong_in_a_tenants_file_is_told_with_its_name() {
    let files = [
        ("contoso.toml", "id = \"no guid\""),
        ("fabrikam.toml", "id = "),
        ("tail spin.toml", FABRIKAM),
    ];
    let (folder, config) = load(FOLDER, &files, &[]);
    let told = config.unwrap_err().to_string();
    let place = |name: &str| folder.join(name).display().to_string();
    let contoso = place("contoso.toml");
    assert!(
        told.contains(&format!(
            "{contoso}: tenants.contoso.id: expected the tenant's id"
        )),
        "{told}"
    );
    assert!(
        told.contains(&format!(
            "{}: line 1, column 6: no valid TOML",
            place("fabrikam.toml")
        )),
        "{told}"
    );
    let spaced = place("tail spin.toml");
    assert!(
        told.contains(&format!("{spaced}: tenants.\"tail spin\": expected a name")),
        "{told}"
    );
}

#[test]
fn a_tenant_has_one_place_and_a_folder_must_be_there() {
    let main = format!("{FOLDER}\n[tenants.contoso]\n{CONTOSO}");
    let (folder, config) = load(&main, &[("contoso.toml", CONTOSO)], &[]);
    let told = config.unwrap_err().to_string();
    let file = folder.join("contoso.toml");
    assert!(told.contains(&format!("{}: ", file.display())), "{told}");
    assert!(
        told.contains("config.toml has [tenants.contoso] too; one of the two has to go"),
        "{told}"
    );

    let text = format!("[tenant_files]\nfolder = \"nowhere\"\n[tenants.contoso]\n{CONTOSO}{REST}");
    let told = Config::from_toml(&text, Path::new("/etc/x"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        told,
        "config.toml: tenant_files.folder: the folder /etc/x/nowhere cannot be read: No such file or directory (os error 2)"
    );
}
