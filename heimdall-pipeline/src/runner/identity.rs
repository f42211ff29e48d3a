//! What decides the result of a stage, and what a stage may know about the pipeline around it.

use heimdall_tracking::Credentials;

use super::Run;
use crate::PipelineError;
use crate::cache::{KeyParts, canonical_json, spool_of};
use crate::external::content_token;
use crate::spec::StageSpec;
use crate::stage::{PipelineFacts, Stage};

/// An input that cannot be told yet: the stage that makes it has no result.
pub(super) const UNKNOWN: &str = "?";

impl Run<'_> {
    /// Returns everything that decides what a stage makes, with [`UNKNOWN`] for inputs that are not
    /// there yet. Reads what the stage takes from outside of the cache.
    pub(super) fn key_parts(&self, position: usize) -> Result<KeyParts, PipelineError> {
        let stage = &self.spec.stages[position].stage;
        let kind = stage.kind();
        let mut parts = KeyParts::default();
        parts.set("kind", format!("{kind} {}", kind.cache_version()));
        let parameters = canonical_json(&stage.key_parameters());
        parts.set("parameters", self.options.secrets.redact(&parameters));
        for wire in self.spec.graph().inputs(position) {
            let name = format!("input {}", wire.input.name);
            match self.result(wire.producer) {
                Some(manifest) => {
                    parts.set(name, manifest.outputs[&*wire.output.name].tree.to_string());
                }
                None => parts.set(name, UNKNOWN),
            }
        }
        for (field, path) in stage.external_inputs() {
            let token = content_token(&path, &self.cache)?;
            parts.set(format!("external {field}"), token.to_string());
        }
        for port in stage.output_ports().iter() {
            parts.set_output(port);
        }
        if let Stage::Export(_) = stage {
            // Other fixes may be the same for all events that there are, and not for those to come.
            let preparation = self.preparation(position).into_iter().map(Stage::key_parameters);
            parts.set("preparation", canonical_json(&preparation.collect()));
        }
        if let Stage::Register(_) = stage {
            // Entering a model into another store is another result, wherever the model is from.
            let address = self.spec.tracking.address()?;
            parts.set("tracking", format!("{address} {}", self.experiment()));
        }
        Ok(parts)
    }

    /// Returns the stages that made the features that an export comes from; none for other stages.
    fn preparation(&self, position: usize) -> Vec<&Stage> {
        let Stage::Export(_) = self.spec.stages[position].stage else { return Vec::new() };
        let ancestors = self.spec.graph().ancestors(position).into_iter();
        let made_features = |stage: &&Stage| {
            matches!(stage, Stage::Extract(_) | Stage::SimulateFeatures(_) | Stage::ImportTables(_))
        };
        ancestors.map(|at| &self.spec.stages[at].stage).filter(made_features).collect()
    }

    fn experiment(&self) -> &str {
        self.spec.tracking.experiment.as_deref().unwrap_or(&self.spec.name)
    }

    /// Returns what a stage may know about the pipeline.
    pub(super) fn facts(&self, position: usize) -> Result<PipelineFacts, PipelineError> {
        // Nobody else asks what came before, which is much to collect at the end of a long chain.
        let ancestors = match self.spec.stages[position].stage {
            Stage::Register(_) => self.spec.graph().ancestors(position),
            _ => Vec::new(),
        };
        let stage = |at: &usize| &self.spec.stages[*at];
        let parameters =
            |stage: &StageSpec| (stage.name.clone(), self.redacted(stage.stage.parameters()));
        let tracking = self.spec.tracking.address()?;
        Ok(PipelineFacts {
            pipeline: self.spec.name.clone(),
            run: self.id.clone(),
            tracking: tracking.absolute()?,
            spool: self.spec.tracking.training.then(|| spool_of(&self.options.cache)),
            credentials: Credentials::of_environment(&self.options.environment),
            experiment: self.experiment().to_owned(),
            stages: ancestors.iter().chain([&position]).map(|at| parameters(stage(at))).collect(),
            metrics: ancestors
                .iter()
                .filter_map(|at| Some((stage(at).name.clone(), self.result(*at)?.metrics.clone())))
                .collect(),
            preparation: self.preparation(position).into_iter().cloned().collect(),
        })
    }

    /// Returns a configuration with secrets masked.
    fn redacted(&self, parameters: serde_json::Value) -> serde_json::Value {
        let text = parameters.to_string();
        match self.options.secrets.redact(&text) {
            std::borrow::Cow::Borrowed(_) => parameters,
            std::borrow::Cow::Owned(text) => {
                serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))
            }
        }
    }
}
