//! From what was gathered to the text of a mail, by templates that escape.
//!
//! Templates are Jinja (`minijinja`); the ones that are built in can be replaced by files. Whatever a record holds is a
//! value in them, never a part of them, and is escaped in HTML.

use std::path::Path;

use audit_exporter_core::config::Options;
use audit_exporter_core::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::tables::{Cell, Group, Part, Section};

const HTML: &str = "digest.html";
const TEXT: &str = "digest.txt";
const SUBJECT: &str = "subject";

/// What the templates are given. docs/sinks.md describes it to those who write their own.
#[derive(Clone, Debug, Serialize)]
pub(super) struct View {
    pub(super) title: String,
    /// The tenant's name; of several, all of them.
    pub(super) tenant: String,
    /// `Friday, 20 November 2026`
    pub(super) period: String,
    pub(super) time_zone: String,
    /// Rows of the period, without the late ones.
    pub(super) count: u64,
    pub(super) late: u64,
    /// What a reader must know before the tables: that collection was behind.
    pub(super) note: Option<String>,
    pub(super) sections: Vec<Section>,
    /// The name of the attached file.
    pub(super) attachment: Option<String>,
    /// Rows that neither the tables nor the attachment hold.
    pub(super) left_out: u64,
    pub(super) sink: String,
}

/// A mail's texts.
#[derive(Clone, Debug)]
pub(super) struct Rendered {
    pub(super) subject: String,
    pub(super) html: String,
    pub(super) text: String,
}

/// The templates of one tenant's mails.
#[derive(Debug)]
pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// The built-in ones, with what the options replace. A mistake in one is told at start.
    pub(super) fn new(
        options: &Options,
        subject: Option<&str>,
        html: Option<&Path>,
        text: Option<&Path>,
    ) -> Result<Self> {
        let mut templates = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        templates.set_syntax(
            syntax.map_err(|error| Error::bug("the templates' syntax").with_cause(error))?,
        );
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_auto_escape_callback(|name| {
            if name == HTML {
                AutoEscape::Html
            } else {
                AutoEscape::None
            }
        });
        templates.add_filter("thousands", super::tables::thousands);
        let built_in = include_str!("templates/subject.txt").trim_end();
        for (name, key, source) in [
            (SUBJECT, "subject", subject.unwrap_or(built_in).to_owned()),
            (
                HTML,
                "html_template",
                read(
                    options,
                    "html_template",
                    html,
                    include_str!("templates/digest.html"),
                )?,
            ),
            (
                TEXT,
                "text_template",
                read(
                    options,
                    "text_template",
                    text,
                    include_str!("templates/digest.txt"),
                )?,
            ),
        ] {
            let added = templates.add_template_owned(name, source);
            added.map_err(|error| options.problem(key, &error.to_string()))?;
        }
        let templates = Self(templates);
        for (name, key) in [
            (SUBJECT, "subject"),
            (HTML, "html_template"),
            (TEXT, "text_template"),
        ] {
            for view in [View::sample(true), View::sample(false)] {
                let tried = templates.one(name, &view);
                tried.map_err(|error| options.problem(key, &error.to_string()))?;
            }
        }
        Ok(templates)
    }

    /// Writes a mail's texts.
    pub(super) fn render(&self, view: &View) -> Result<Rendered> {
        let one = |name| {
            self.one(name, view).map_err(|error| {
                Error::config("the digest's template does not fit what it is to show")
                    .with_cause(error)
            })
        };
        Ok(Rendered {
            // One line, whatever a template or a name has in it: a header cannot begin another.
            subject: super::row::one_line(
                &one(SUBJECT)?.replace(['\r', '\n'], " "),
                MOST_SUBJECT_CHARS,
            ),
            html: one(HTML)?,
            text: one(TEXT)?,
        })
    }

    fn one(&self, name: &str, view: &View) -> std::result::Result<String, minijinja::Error> {
        self.0.get_template(name)?.render(Serde(view))
    }
}

/// What every mail program still shows in a list, and more.
const MOST_SUBJECT_CHARS: usize = 200;

fn read(options: &Options, key: &str, path: Option<&Path>, built_in: &str) -> Result<String> {
    let Some(path) = path else {
        return Ok(built_in.to_owned());
    };
    let path = options.resolve_path(path);
    std::fs::read_to_string(&path).map_err(|error| {
        let shown = path.display();
        options.problem(key, &format!("{shown} cannot be read: {error}"))
    })
}

impl View {
    /// Something to try templates with.
    fn sample(full: bool) -> Self {
        let cell = Cell {
            text: "text".to_owned(),
            link: full.then(|| "https://example.com/".to_owned()),
        };
        let section = |late| Section {
            tenant: full.then(|| "contoso".to_owned()),
            late,
            count: 1,
            summary: full.then(|| "1 user in 1 app".to_owned()),
            columns: vec!["Time"],
            groups: vec![Group {
                label: "Environment",
                name: "environment".to_owned(),
                count: 1,
                parts: vec![Part {
                    user: full.then(|| "user".to_owned()),
                    count: 1,
                    rows: vec![vec![cell.clone()]],
                }],
            }],
            more: u64::from(full),
        };
        Self {
            title: "Flows".to_owned(),
            tenant: "contoso".to_owned(),
            period: "Friday, 20 November 2026".to_owned(),
            time_zone: "UTC".to_owned(),
            count: u64::from(full),
            late: u64::from(full),
            note: full.then(|| "note".to_owned()),
            sections: if full {
                vec![section(false), section(true)]
            } else {
                Vec::new()
            },
            attachment: full.then(|| "digest.csv".to_owned()),
            left_out: u64::from(full),
            sink: "digest".to_owned(),
        }
    }
}
