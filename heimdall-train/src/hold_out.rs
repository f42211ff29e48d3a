//! Each day, place or source held out in turn: how good a network is where it has never been.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use heimdall_data::{HeimdallDataset, Part, SplitBy, SplitConfig, SplitRatio, groups, split};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::evaluation::figures;
use crate::file::read_json;
use crate::{
    DataShift, EvaluateConfig, EvaluatedEvent, EvaluationSets, Recalibration, TrainConfig,
    TrainError, TrainEvent, evaluate, train,
};

/// Version of the result that is written, and the only one that is read.
pub const HOLD_OUT_FORMAT_VERSION: u32 = 1;

/// Name of the file that holds the result.
pub const HOLD_OUT_FILE: &str = "hold-out.json";

/// How groups of events are held out, each in turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldOutConfig {
    /// What makes a group.
    pub by: SplitBy,
    /// Side of a spatial block, in km, if blocks are held out.
    pub block_km: f64,
    /// Length of a period of time, in hours, if periods are: a day, by default.
    pub period_hours: f64,
    /// Most groups: each takes a training of its own.
    pub groups_max: usize,
    /// How the events of the other groups are divided into training, validation and calibration.
    pub others: SplitConfig,
    /// The network, and how it is trained.
    pub train: TrainConfig,
    /// How it is evaluated.
    pub evaluate: EvaluateConfig,
}

impl Default for HoldOutConfig {
    fn default() -> Self {
        let SplitConfig { block_km, period_hours, .. } = SplitConfig::default();
        let ratio = SplitRatio { train: 0.7, validation: 0.1, calibration: 0.2, test: 0.0 };
        Self {
            by: SplitBy::Time,
            block_km,
            period_hours,
            groups_max: 12,
            others: SplitConfig { ratio, ..SplitConfig::default() },
            train: TrainConfig::default(),
            evaluate: EvaluateConfig::default(),
        }
    }
}

impl HoldOutConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// The error of the part whose rule is broken.
    pub fn validate(&self) -> Result<(), TrainError> {
        self.grouping().validate()?;
        self.others.validate()?;
        self.train.validate()?;
        self.evaluate.validate()
    }

    /// What makes a group, as splits have it.
    fn grouping(&self) -> SplitConfig {
        let &Self { by, block_km, period_hours, .. } = self;
        SplitConfig { by, block_km, period_hours, ..SplitConfig::default() }
    }
}

/// How good networks are on the groups that they have never seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldOut {
    /// Version of the format, [`HOLD_OUT_FORMAT_VERSION`] when written by this release.
    pub format_version: u32,
    /// What makes a group.
    pub by: SplitBy,
    /// Each group, in the order of the names.
    pub groups: Vec<HeldOutGroup>,
    /// Figures of the events of all groups, each located by the network that has not seen its group.
    /// They have the names of those of an evaluation, of which those before recalibration are missing.
    pub all: BTreeMap<String, f64>,
}

/// A group that was held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutGroup {
    /// Name of the group: the start of a period, a block, a source.
    pub name: String,
    /// Events that its network learned from.
    pub training_events: usize,
    /// Figures of its events, as an [`Evaluation`](crate::Evaluation) has them.
    pub metrics: BTreeMap<String, f64>,
    /// Whether its events look like the training events.
    pub shift: Option<DataShift>,
}

impl HoldOut {
    /// Reads the result in a folder.
    ///
    /// # Errors
    ///
    /// - [`TrainError::Read`] if there is none.
    /// - [`TrainError::NewerFormat`] if a newer release wrote it.
    /// - [`TrainError::Malformed`] if it is not one.
    pub fn load(folder: &Path) -> Result<Self, TrainError> {
        read_json(&folder.join(HOLD_OUT_FILE), HOLD_OUT_FORMAT_VERSION)
    }
}

/// A training of a series, as its caller hears of it.
#[derive(Clone, Copy, Debug)]
pub struct HeldOutTraining<'a> {
    /// Name of the group that is held out.
    pub name: &'a str,
    /// Number of the group, from 0 on.
    pub group: usize,
    /// Groups in all.
    pub groups: usize,
    /// What happens.
    pub event: &'a TrainEvent,
}

/// Holds each group of events out in turn: trains on the others, recalibrates on a part of them, and
/// measures the network on the group. Events of unknown place are left out.
///
/// Each training has a folder of its own in `scratch`, from which a later call goes on.
///
/// # Errors
///
/// - [`TrainError::InvalidConfig`] or [`TrainError::Data`] if `config` breaks one of its rules, or if
///   the groups cannot be told.
/// - [`TrainError::HeldOutGroups`] if there are fewer than two groups, or more than are asked for.
/// - Those of [`train`] and [`evaluate`].
pub fn hold_out(
    config: &HoldOutConfig,
    dataset: &HeimdallDataset,
    device: &Device,
    scratch: &Path,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(HeldOutTraining<'_>),
) -> Result<HoldOut, TrainError> {
    config.validate()?;
    let names = groups(dataset.labels(), &config.grouping())?;
    let known: BTreeSet<&str> = names.iter().flatten().map(String::as_str).collect();
    if known.len() < 2 || known.len() > config.groups_max {
        let (actual, groups_max) = (known.len(), config.groups_max);
        return Err(TrainError::HeldOutGroups { by: config.by, actual, groups_max });
    }
    let (mut held_out, mut events) = (Vec::new(), Vec::new());
    for (group, name) in known.iter().enumerate() {
        let is_held = |index: &usize| names[*index].as_deref() == Some(*name);
        let (held, others): (Vec<usize>, Vec<usize>) =
            (0..dataset.len()).filter(|&index| names[index].is_some()).partition(is_held);
        let (test, others) = (dataset.subset(&held), dataset.subset(&others));
        let parts = split(others.labels(), &config.others)?;
        let [training, validation, calibration] =
            [Part::Train, Part::Validation, Part::Calibration]
                .map(|part| others.part(&parts, part));
        let scratch = scratch.join(format!("group-{group}"));
        let mut tell = |event: TrainEvent| {
            on_event(HeldOutTraining { name, group, groups: known.len(), event: &event });
        };
        let model =
            train(&config.train, &training, &validation, device, &scratch, cancel, &mut tell)?;
        let sets = EvaluationSets {
            training: Some(&training),
            calibration: &calibration,
            test: &test,
            new_world: None,
        };
        let (_, evaluation) = evaluate(&model, sets, &config.evaluate, cancel)?;
        info!(held_out = name, error_km_median = evaluation.metrics["error_km_median"], "measured");
        held_out.push(HeldOutGroup {
            name: (*name).to_owned(),
            training_events: training.len(),
            metrics: evaluation.metrics,
            shift: evaluation.shift,
        });
        events.extend(evaluation.events);
    }
    Ok(HoldOut {
        format_version: HOLD_OUT_FORMAT_VERSION,
        by: config.by,
        groups: held_out,
        all: of_all(&events),
    })
}

/// Figures of events whose networks were recalibrated each by its own factor.
fn of_all(events: &[EvaluatedEvent]) -> BTreeMap<String, f64> {
    let mut all = figures(&events.iter().collect::<Vec<_>>(), &Recalibration::none());
    all.retain(|name, _| !name.contains("_uncalibrated"));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetworkChoice;
    use crate::testing::synthetic;
    use heimdall_model::Backbone;

    /// Blocks of 60 km: the square of the synthetic set has two columns and two rows of them.
    fn config() -> HoldOutConfig {
        HoldOutConfig {
            by: SplitBy::Block,
            block_km: 60.0,
            train: TrainConfig {
                epochs: 1,
                model: NetworkChoice {
                    backbone: Backbone::Mlp,
                    head_width: 8,
                    ..NetworkChoice::default()
                },
                ..TrainConfig::default()
            },
            ..HoldOutConfig::default()
        }
    }

    fn run(
        config: &HoldOutConfig,
        events: usize,
        told: &mut Vec<(String, usize)>,
    ) -> Result<HoldOut, TrainError> {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(&folder.path().join("features"), events, 5);
        let mut note = |training: HeldOutTraining<'_>| {
            if matches!(training.event, TrainEvent::Finished { .. }) {
                told.push((training.name.to_owned(), training.groups));
            }
        };
        let cancel = AtomicBool::new(false);
        hold_out(config, &dataset, &Device::flex(), folder.path(), &cancel, &mut note)
    }

    #[test]
    fn every_event_is_tested_once_by_a_network_that_has_not_seen_its_group() {
        let mut told = Vec::new();

        let result = run(&config(), 120, &mut told).unwrap();

        let names: Vec<_> = result.groups.iter().map(|group| group.name.clone()).collect();
        assert_eq!(names, ["-1,-1", "-1,0", "0,-1", "0,0"]);
        assert_eq!(told, names.iter().map(|name| (name.clone(), 4)).collect::<Vec<_>>());
        let tested: f64 = result.groups.iter().map(|group| group.metrics["events"]).sum();
        assert!((tested - 120.0).abs() < 1e-9 && (result.all["events"] - 120.0).abs() < 1e-9);
        for group in &result.groups {
            let others = 120.0 - group.metrics["events"];
            assert!((group.training_events as f64 - 0.7 * others).abs() < 2.0, "{group:?}");
            assert!(group.metrics["training_km_median"] > 0.0);
        }
        let covered: f64 =
            result.groups.iter().map(|g| g.metrics["coverage_90"] * g.metrics["events"]).sum();
        assert!((result.all["coverage_90"] - covered / 120.0).abs() < 1e-9);
        assert!(result.all.keys().all(|name| !name.contains("uncalibrated")));
        let text = serde_json::to_string(&result).unwrap();
        assert_eq!(serde_json::from_str::<HoldOut>(&text).unwrap(), result);
    }

    #[test]
    fn one_group_and_too_many_are_refused() {
        for (events, told) in [(1, "1 groups by block"), (120, "4 groups by block")] {
            let config = HoldOutConfig { groups_max: 3, ..config() };

            let error = run(&config, events, &mut Vec::new()).unwrap_err().to_string();

            assert!(error.contains(told) && error.contains("`groups_max` is 3"), "{error}");
        }
    }
}
