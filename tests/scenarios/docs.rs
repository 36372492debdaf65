//! The documentation says what is so: its links lead somewhere, its metrics exist, its code is the example's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
        let path = root().join(file);
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
    let build = code
        .split("fn build()")
        .nth(1)
        .unwrap()
        .split("\n    }\n")
        .next()
        .unwrap()
        .to_owned();
    let is_name = |word: &&str| word.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    let quoted: Vec<&str> = build.split('"').skip(1).step_by(2).collect();
    // A help text, which has spaces, follows each name; labels stand after it.
    let names = quoted
        .windows(2)
        .filter(|pair| is_name(&pair[0]) && pair[1].contains(' '));
    names.map(|pair| pair[0].to_owned()).collect()
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
