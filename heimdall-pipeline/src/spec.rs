//! The definition of a pipeline: YAML in, typed stages and their wires out.

mod include;
mod limit;
mod matrix;
mod outline;
mod overrides;
mod reading;
mod schema;
mod shape;
mod source;
mod tracking;

use std::collections::BTreeMap;
use std::path::Path;

use crate::PipelineError;
use crate::graph::Graph;
use crate::stage::Stage;

pub use limit::{ByteCount, RunSpec, Span};
pub(crate) use matrix::{reference_parts, variant_parts};
pub(crate) use outline::{From, Word};
pub use schema::schema;
#[cfg(test)]
pub(crate) use shape::{Case, Field, Shape};
pub use source::{Diagnostic, Place};
pub(crate) use source::{Source, most_similar};
pub use tracking::TrackingSpec;

/// Names that `--set` takes for parts of the definition, and stages cannot have.
const RESERVED_NAMES: [&str; 5] = ["name", "profiles", "stages", "tracking", "vars"];

/// What a definition is read with, besides its text.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Assignments of the form `vars.NAME=VALUE`, `STAGE.FIELD=VALUE` or `tracking.FIELD=VALUE`;
    /// later ones win.
    pub set: Vec<String>,
    /// Names of profiles whose variables and settings are used; later ones win.
    pub profiles: Vec<String>,
    /// What `${NAME}` stands for where the definition has no such variable.
    pub environment: BTreeMap<String, String>,
}

/// One stage of a definition.
#[derive(Clone, Debug)]
pub struct StageSpec {
    /// Its name.
    pub name: String,
    /// Where it begins in the definition.
    pub place: Place,
    /// What it does, and with which configuration.
    pub stage: Stage,
    /// How it is run.
    pub run: RunSpec,
}

/// A definition that has been read and found to be sound.
#[derive(Clone, Debug)]
pub struct PipelineSpec {
    /// Name of the pipeline.
    pub name: String,
    /// Address of a cache that machines share.
    pub cache: Option<String>,
    /// Where runs and models are entered.
    pub tracking: TrackingSpec,
    /// The stages, in the order of the definition.
    pub stages: Vec<StageSpec>,
    graph: Graph,
}

impl PipelineSpec {
    /// Reads the definition in a file.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Definition`] if there is no such file or something is wrong in it.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self, PipelineError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let diagnostic = Source::new(&name, "")
                .diagnostic(None, format!("cannot read the definition of the pipeline: {error}"));
            PipelineError::from(reading::offering_siblings(diagnostic, path))
        })?;
        let stem =
            path.file_stem().map_or_else(|| "pipeline".into(), |stem| stem.to_string_lossy());
        Self::parse(&name, &stem, &text, options)
    }

    /// Reads a definition that goes by `origin` in messages, and by `default_name` if it does not
    /// name itself.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Definition`] if something is wrong in it.
    pub fn parse(
        origin: &str,
        default_name: &str,
        text: &str,
        options: &LoadOptions,
    ) -> Result<Self, PipelineError> {
        let mut read = reading::read(Source::new(origin, text), options)?;
        overrides::apply(&mut read, &options.set)?;
        matrix::expand(&mut read)?;

        let source = read.source;
        let name = read.name.take().unwrap_or_else(|| default_name.to_owned());
        for stage in &read.stages {
            stage.stage.validate().map_err(|error| {
                let message = format!("stage `{}`: {error}", stage.name);
                source.diagnostic(Some(stage.place), message)
            })?;
        }
        let graph = Graph::build(&source, &read.stages, &read.wiring)?;
        Ok(Self { name, cache: read.cache, tracking: read.tracking, stages: read.stages, graph })
    }

    /// Returns how the stages are connected.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the position of the stage of that name.
    ///
    /// # Errors
    ///
    /// [`PipelineError::UnknownStage`] if there is none.
    pub fn position(&self, name: &str) -> Result<usize, PipelineError> {
        self.stages.iter().position(|stage| stage.name == name).ok_or_else(|| {
            let mut names = self.stages.iter().map(|stage| stage.name.as_str());
            // Of a stage with a matrix there are only variants.
            let variant = names
                .clone()
                .find(|known| variant_parts(known).is_some_and(|(stage, _)| stage == name));
            PipelineError::UnknownStage {
                name: name.to_owned(),
                suggestion: variant.or_else(|| most_similar(name, &mut names)).map(str::to_owned),
            }
        })
    }
}

impl std::convert::From<Diagnostic> for PipelineError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Definition(Box::new(diagnostic))
    }
}

#[cfg(test)]
mod tests;
