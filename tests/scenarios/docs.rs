//! The documentation says what is so: its links lead somewhere, its metrics, options, commands, addresses and exit codes
//! exist, and all of them are documented; its code is the example's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use audit_exporter_core::metrics::Metrics;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    found.extend(docs.map(|entry| entry.unwrap().path()));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text without its code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The names by which headings can be linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(text)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(heading)
        .collect()
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let all = text(&document);
        let prose = prose(&all);
        for link in prose
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                document.clone()
            } else {
                document.parent().unwrap().join(file)
            };
            assert!(target.exists(), "{}: {link}", document.display());
            assert!(
                anchor.is_empty() || anchors(&text(&target)).contains(anchor),
                "{}: {link}",
                document.display()
            );
        }
    }
}

#[test]
fn each_guarantee_names_tests_that_exist() {
    let guarantees = text(&root().join("docs/guarantees.md"));
    let mut named = 0;
    for name in guarantees.split('`').skip(1).step_by(2) {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        if test.is_empty() && !file.starts_with("tests/") {
            continue;
        }
        named += 1;
        // A script may be named with its options.
        let path = root().join(file.split(' ').next().unwrap());
        assert!(path.exists(), "{name}");
        if !test.is_empty() {
            let code = text(&path);
            let (before, _) = code
                .split_once(&format!("fn {test}("))
                .unwrap_or_else(|| panic!("{name} is not there"));
            // The attribute, with what may stand between it and the name.
            let attribute = before.rfind("test").unwrap_or(0);
            assert!(before.len() - attribute < 100, "{name} is no test");
        }
    }
    assert!(named > 40, "{named}");
    for section in guarantees.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap();
        assert!(section.contains("hown by"), "{title} names no test");
    }
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let rows = text(&root().join("docs/operations.md"));
    let section = rows
        .split("\n## Metrics")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap()
        .to_owned();
    let first_cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let documented: BTreeSet<String> = first_cells
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    let declared: BTreeSet<String> = declared_metrics();
    assert_eq!(documented, declared);
    let alerts = text(&root().join("config/prometheus-alerts.yml"));
    let used = alerts.split("audit_exporter_").skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    for name in used {
        assert!(declared.contains(&name), "an alert uses {name}");
    }
}

/// The names in the code: a family without series is not rendered, so they are read where they are declared.
fn declared_metrics() -> BTreeSet<String> {
    let rendered = Metrics::new().unwrap().render().unwrap();
    assert!(rendered.contains("audit_exporter_build_info"));
    let code = text(&root().join("core/src/metrics.rs"));
    // `field: Type = counters("name", …);`, perhaps in two lines.
    let declarations = code.split("series! {").nth(1).unwrap();
    let declarations = declarations.split("\n}\n").next().unwrap().split(';');
    declarations
        .filter_map(|declaration| declaration.split("(\"").nth(1)?.split('"').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_code_in_writing_a_plugin_is_the_examples() {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let example = squeeze(&text(&root().join("examples/custom_sink.rs")));
    let document = text(&root().join("docs/writing-a-plugin.md"));
    let blocks: Vec<&str> = document.split("```rust\n").skip(1).collect();
    assert!(blocks.len() > 5);
    for block in blocks {
        let code = squeeze(block.split("```").next().unwrap());
        assert!(example.contains(&code), "{code}");
    }
}

#[test]
fn the_configuration_in_the_readme_is_one() {
    let readme = text(&root().join("README.md"));
    let block = readme
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    audit_exporter_core::config::Config::from_toml(block, root()).unwrap();
}

/// Whether this could be a key of the configuration.
fn is_key(word: &str) -> bool {
    word.bytes()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

/// The keys in the first column of a document's tables of keys.
fn documented_keys(text: &str) -> BTreeSet<String> {
    let mut is_table_of_keys = false;
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        is_table_of_keys = line.starts_with("| key") || is_table_of_keys && line.starts_with('|');
        let cell = line.trim_start_matches('|').split(" | ").next();
        if let Some(cell) = cell.filter(|_| is_table_of_keys) {
            let named = cell.split('`').skip(1).step_by(2);
            keys.extend(named.filter(|name| is_key(name)).map(str::to_owned));
        }
    }
    keys
}

/// The keys that a file's tables of options take: those refuse all others.
fn keys_in_code(code: &str) -> Vec<String> {
    let tables = code.split("deny_unknown_fields").skip(1);
    let tables = tables.filter_map(|rest| rest.split("\n}").next()?.split_once(" {\n"));
    let lines = tables
        .filter(|(head, _)| head.contains("struct "))
        .flat_map(|(_, fields)| fields.lines().map(str::trim));
    let field = |line: &str| {
        let line = match line.split_once(' ') {
            Some(("pub" | "pub(crate)" | "pub(super)", rest)) => rest,
            _ => line,
        };
        let (name, _) = line.split_once(": ")?;
        is_key(name).then(|| name.to_owned())
    };
    lines.filter_map(field).collect()
}

/// Every Rust file below a folder.
fn code_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(code_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_option_is_documented_and_no_other() {
    let documents = ["configuration", "sources", "filters", "sinks"];
    let documents = documents.map(|name| text(&root().join(format!("docs/{name}.md"))));
    let mut files = code_below(&root().join("plugins/src"));
    // What an operator asks of a sink is no option.
    files.retain(|file| !file.ends_with("command.rs"));
    files.push(root().join("core/src/config/keys.rs"));
    let known: BTreeSet<String> = files
        .iter()
        .flat_map(|file| keys_in_code(&text(file)))
        .collect();
    assert!(known.len() > 100, "{}", known.len());
    let all = documents.concat();
    for key in &known {
        assert!(all.contains(&format!("`{key}`")), "{key} is not documented");
    }
    // Those of every source, filter and sink.
    let common: String = code_below(&root().join("core/src/config"))
        .iter()
        .map(|file| text(file))
        .collect();
    for key in documents
        .iter()
        .flat_map(|document| documented_keys(document))
    {
        let exists = known.contains(&key) || common.contains(&format!("\"{key}\""));
        assert!(exists, "{key} is documented and does not exist");
    }
}

/// What documents say is typed after `audit-exporter`: examples, and what they quote.
fn typed() -> Vec<String> {
    let mut typed = Vec::new();
    for document in documents() {
        for line in text(&document).lines() {
            let quoted = line
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|_| !line.starts_with("```"));
            let example = line.strip_prefix("$ ").or(Some(line));
            let all = quoted.chain(example);
            typed.extend(
                all.filter_map(|text| text.strip_prefix("audit-exporter ").map(str::to_owned)),
            );
        }
    }
    typed
}

#[test]
fn every_command_and_flag_in_the_documents_exists() {
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let is_word =
        |word: &&str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c == b'-');
    let mut flags = 0;
    for line in typed() {
        let words: Vec<&str> = line.split(' ').collect();
        let depth = match words[0] {
            "sinks" | "journal" | "dead-letters" | "digest" => 2,
            _ => 1,
        };
        let command: Vec<String> = words
            .iter()
            .take(depth)
            .filter(|word| is_word(word))
            .map(|&word| word.to_owned())
            .collect();
        let help = helps.entry(command.clone()).or_insert_with(|| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_audit-exporter"));
            let shown = program.args(&command).arg("--help").output().unwrap();
            assert!(shown.status.success(), "audit-exporter {line}");
            String::from_utf8(shown.stdout).unwrap()
        });
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            flags += 1;
            assert!(help.contains(flag), "audit-exporter {line}: {flag}");
        }
    }
    assert!(helps.len() > 12 && flags > 20, "{} {flags}", helps.len());
}

#[test]
fn every_address_of_the_listener_is_documented_and_no_other() {
    let operations = text(&root().join("docs/operations.md"));
    let section = operations.split("\n## Endpoints").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> = rows
        .flat_map(|row| row.split(" | ").next().unwrap().split('`'))
        .map(|quoted| quoted.trim_start_matches("POST ").to_owned())
        .filter(|path| path.starts_with('/'))
        .collect();
    let code = text(&root().join("core/src/admin.rs"));
    let routes: BTreeSet<String> = code
        .split(".route(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().replace("{name}", "NAME"))
        .collect();
    assert!(!routes.is_empty());
    assert_eq!(documented, routes);
}

#[test]
fn every_exit_code_is_documented_and_no_other() {
    let operations = text(&root().join("docs/operations.md"));
    let section = operations
        .split("\n## Exit codes and signals")
        .nth(1)
        .unwrap();
    let rows = section
        .split("\n## ")
        .next()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let documented: BTreeSet<u8> = rows.filter_map(|cell| cell.parse().ok()).collect();
    let code = text(&root().join("src/lib.rs"));
    let declared = code
        .split("mod exit {")
        .nth(1)
        .unwrap()
        .split("\n}")
        .next()
        .unwrap();
    let declared: BTreeSet<u8> = declared
        .split("u8 = ")
        .skip(1)
        .map(|rest| rest.split(';').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(documented, declared);
}
