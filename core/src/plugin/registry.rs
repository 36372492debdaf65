//! Which plugins there are, by the names that a configuration gives as their `type`.

use std::collections::BTreeMap;

use super::{Context, Filter, Sink, Source};
use crate::config::Options;
use crate::error::Result;

type SourceBuilder = fn(Context) -> Result<Box<dyn Source>>;
type FilterBuilder = fn(Context) -> Result<Box<dyn Filter>>;
type SinkBuilder = fn(Context) -> Result<Box<dyn Sink>>;

/// The plugins that a program knows. Ours and yours stand side by side.
#[derive(Clone, Default)]
pub struct Registry {
    sources: BTreeMap<&'static str, SourceBuilder>,
    filters: BTreeMap<&'static str, FilterBuilder>,
    sinks: BTreeMap<&'static str, SinkBuilder>,
}

impl Registry {
    /// Adds a source type; a later one of the same name replaces it.
    #[must_use]
    pub fn source(mut self, kind: &'static str, build: SourceBuilder) -> Self {
        self.sources.insert(kind, build);
        self
    }

    /// Adds a filter type.
    #[must_use]
    pub fn filter(mut self, kind: &'static str, build: FilterBuilder) -> Self {
        self.filters.insert(kind, build);
        self
    }

    /// Adds a sink type.
    #[must_use]
    pub fn sink(mut self, kind: &'static str, build: SinkBuilder) -> Self {
        self.sinks.insert(kind, build);
        self
    }

    /// Builds a source of type `kind`.
    pub fn build_source(&self, kind: &str, context: Context) -> Result<Box<dyn Source>> {
        find(&self.sources, "source", kind, &context.options)?(context)
    }

    /// Builds a filter of type `kind`.
    pub fn build_filter(&self, kind: &str, context: Context) -> Result<Box<dyn Filter>> {
        find(&self.filters, "filter", kind, &context.options)?(context)
    }

    /// Builds a sink of type `kind`.
    pub fn build_sink(&self, kind: &str, context: Context) -> Result<Box<dyn Sink>> {
        find(&self.sinks, "sink", kind, &context.options)?(context)
    }
}

fn find<'a, B>(
    builders: &'a BTreeMap<&'static str, B>,
    what: &str,
    kind: &str,
    options: &Options,
) -> Result<&'a B> {
    builders.get(kind).ok_or_else(|| {
        options.unknown_value(
            "type",
            &format!("a {what} type"),
            kind,
            builders.keys().copied(),
        )
    })
}
