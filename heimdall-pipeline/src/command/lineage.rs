//! `lineage`: says how an artifact came to be, back to its recordings.

use clap::Args;

use super::{CacheArgs, Surroundings};
use crate::cache::{Cache, Key};
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
        let key = key.ok_or_else(|| PipelineError::UnknownRun {
            name: self.run.clone(),
            reason: format!("it left no result of stage `{}`", self.stage),
        })?;
        let mut text = String::new();
        tell(&cache, &key, &self.stage, 0, &mut text);
        surroundings.print(&text)?;
        Ok(0)
    }
}

fn tell(cache: &Cache, key: &Key, name: &str, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let Some(manifest) = cache.read_manifest(key) else {
        *text += &format!("{indent}{name} {}: not in the cache any more\n", key.short());
        return;
    };
    let headline = manifest.headline.as_deref().unwrap_or_default();
    *text += &format!(
        "{indent}{name} {}  {} · run {}, {}, in {}  {headline}",
        key.short(),
        manifest.kind,
        manifest.provenance.run,
        manifest.provenance.started,
        duration(manifest.seconds)
    );
    while text.ends_with(' ') {
        text.pop();
    }
    text.push('\n');
    for (part, value) in manifest.key_parts.iter() {
        if let Some(source) = part.strip_prefix("external ") {
            *text += &format!("{indent}  reads {source} {}\n", &value[..value.len().min(8)]);
        }
    }
    for (port, origin) in &manifest.provenance.inputs {
        *text += &format!("{indent}  {port}:\n");
        tell(cache, &origin.key, &origin.stage, depth + 2, text);
    }
}
