//! `lineage`: says how an artifact came to be, back to its recordings.

use std::collections::HashSet;

use clap::Args;

use super::{CacheArgs, Surroundings};
use crate::cache::{Cache, Key, Manifest, Provenance};
use crate::{PipelineError, duration};

/// Arguments of `lineage`.
#[derive(Debug, Args)]
pub struct LineageArgs {
    /// Stage whose result to explain
    pub stage: String,

    /// Run to look into, as `show` takes it
    #[arg(long, value_name = "RUN", default_value = "last")]
    pub run: String,

    /// The cache
    #[command(flatten)]
    pub cache: CacheArgs,
}

impl LineageArgs {
    /// Prints the stage, and below it those that made its inputs.
    pub(crate) fn run(&self, surroundings: &Surroundings) -> Result<u8, PipelineError> {
        let cache = self.cache.open()?;
        let run = cache.find_run(&self.run)?;
        let key = run.stage(&self.stage).and_then(|stage| stage.key);
        let key = key.ok_or_else(|| PipelineError::NoResult {
            run: run.run.clone(),
            stage: self.stage.clone(),
            known: run.stages_with_results(),
        })?;
        let mut lineage = Lineage { cache: &cache, told: HashSet::new(), text: String::new() };
        lineage.tell(&key, &self.stage, 0);
        surroundings.print(&lineage.text)?;
        Ok(0)
    }
}

/// What has been told so far; each result is told once, however many others were made from it.
struct Lineage<'a> {
    cache: &'a Cache,
    told: HashSet<Key>,
    text: String,
}

impl Lineage<'_> {
    fn tell(&mut self, key: &Key, name: &str, depth: usize) {
        let indent = "  ".repeat(depth);
        let Some(manifest) = self.cache.read_manifest(key) else {
            self.line(&format!("{indent}{name} {}: not in the cache any more", key.short()));
            return;
        };
        if !self.told.insert(*key) {
            self.line(&format!("{indent}{name} {}  as above", key.short()));
            return;
        }
        let Manifest { kind, provenance, seconds, headline, .. } = &manifest;
        let Provenance { run, started, host, .. } = provenance;
        let time = duration(*seconds);
        let headline = headline.as_deref().unwrap_or_default();
        self.line(&format!(
            "{indent}{name} {}  {kind} · run {run}, {started}, in {time} on {host}  {headline}",
            key.short()
        ));
        if let Some(git) = &provenance.git {
            self.line(&format!("{indent}  at revision {git}"));
        }
        if let Some(before) = &provenance.resumed_from {
            self.line(&format!("{indent}  went on with the work of run {before}"));
        }
        for (part, value) in manifest.key_parts.iter() {
            if let Some(source) = part.strip_prefix("external ") {
                let digest = &value[..value.len().min(8)];
                self.line(&format!("{indent}  reads {source} {digest}"));
            }
        }
        for (port, origin) in &provenance.inputs {
            self.line(&format!("{indent}  {port}:"));
            self.tell(&origin.key, &origin.stage, depth + 2);
        }
    }

    fn line(&mut self, line: &str) {
        self.text += line.trim_end();
        self.text.push('\n');
    }
}
