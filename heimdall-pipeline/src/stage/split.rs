//! Stage `split`: feature shards in, four folders of feature shards out.

use std::collections::BTreeMap;

use heimdall_data::{HeimdallDataset, Part, ShardWriter, SplitConfig, split};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::{StageContext, StageOutput, spawn_blocking};

/// Parts the events such that no group is on two sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SplitStage {
    /// What stays together, and how much goes where.
    pub split: SplitConfig,
}

impl SplitStage {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the crate whose rule is broken.
    pub fn validate(&self) -> Result<(), PipelineError> {
        Ok(self.split.validate()?)
    }

    /// Writes the events of each part into the port of its name.
    ///
    /// If events arrive at the port `test`, those of known place are the test part, and the ones of
    /// the split that would be are unused; if none do, it is as if nothing was connected.
    ///
    /// # Errors
    ///
    /// Whatever keeps the features from being read, parted or written.
    pub(crate) async fn run(&self, context: &StageContext) -> Result<StageOutput, PipelineError> {
        let (config, context) = (self.split.clone(), context.clone());
        spawn_blocking(move || {
            let dataset = HeimdallDataset::open(context.input("features"))?;
            let other = context.optional_input("test").map(HeimdallDataset::open).transpose()?;
            let other = other.filter(|other| !other.is_empty()).map(|other| labelled(&other));
            let parts = split(dataset.labels(), &config)?;
            let (mut counts, mut sizes) = (BTreeMap::new(), Vec::new());
            for part in Part::DEALT {
                let members = match &other {
                    Some(other) if part == Part::Test => other.clone(),
                    _ => dataset.part(&parts, part),
                };
                copy(&members, part, &context)?;
                counts.insert(format!("{part}_events"), members.len() as f64);
                sizes.push(format!("{} {part}", members.len()));
            }
            Ok(StageOutput { metrics: counts, headline: Some(sizes.join(", ")) })
        })
        .await
        .expect("splitting does not panic")
    }
}

/// The events of known place.
fn labelled(dataset: &HeimdallDataset) -> HeimdallDataset {
    let labels = dataset.labels().iter().enumerate();
    let known = labels.filter(|(_, label)| label.position_km.is_some());
    dataset.subset(&known.map(|(index, _)| index).collect::<Vec<_>>())
}

fn copy(
    members: &HeimdallDataset,
    part: Part,
    context: &StageContext,
) -> Result<(), PipelineError> {
    let writer = ShardWriter::create(context.output(&part.to_string()), members.header())?;
    let mut writer = writer.with_precision(members.precision());
    for index in 0..members.len() {
        context.check_cancelled()?;
        let (label, features) = members.get(index)?;
        writer.push(label, &features)?;
    }
    Ok(writer.finish()?)
}
