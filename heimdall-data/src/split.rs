//! Which events train, which ones test, and no group on both sides.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DataError, EventLabel};

/// What a split never cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Events of one source stay together: the honest choice for new transmitters.
    #[default]
    Source,
    /// Events of one session stay together.
    Session,
    /// Nothing stays together: the same source is in training and test, which flatters.
    Event,
}

impl SplitBy {
    /// Name of the group that an event belongs to.
    fn group(self, label: &EventLabel) -> &str {
        match self {
            Self::Source => &label.source,
            Self::Session => &label.session,
            Self::Event => &label.event,
        }
    }
}

impl fmt::Display for SplitBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Source => "source",
            Self::Session => "session",
            Self::Event => "event",
        })
    }
}

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The network learns from it.
    Train,
    /// It decides when to stop, and which epoch was best.
    Validation,
    /// It corrects the stated uncertainty.
    Calibration,
    /// It is looked at once, at the end.
    Test,
    /// Nothing: its position is unknown, or the ratios leave it over.
    Unused,
}

impl Part {
    /// The parts that have a ratio, in the order in which groups are dealt out.
    pub const DEALT: [Self; 4] = [Self::Train, Self::Validation, Self::Calibration, Self::Test];
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Calibration => "calibration",
            Self::Test => "test",
            Self::Unused => "unused",
        })
    }
}

/// Share of the groups that each part gets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitRatio {
    /// Share of [`Part::Train`].
    pub train: f64,
    /// Share of [`Part::Validation`].
    pub validation: f64,
    /// Share of [`Part::Calibration`].
    pub calibration: f64,
    /// Share of [`Part::Test`].
    pub test: f64,
}

impl Default for SplitRatio {
    fn default() -> Self {
        Self { train: 0.7, validation: 0.1, calibration: 0.1, test: 0.1 }
    }
}

impl SplitRatio {
    /// Share of a part; zero for [`Part::Unused`].
    fn of(&self, part: Part) -> f64 {
        match part {
            Part::Train => self.train,
            Part::Validation => self.validation,
            Part::Calibration => self.calibration,
            Part::Test => self.test,
            Part::Unused => 0.0,
        }
    }
}

/// How events are divided into parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    /// What is never cut.
    pub by: SplitBy,
    /// Share of the groups that each part gets; the rest is unused.
    pub ratio: SplitRatio,
    /// Seed of the order in which groups are dealt out.
    pub seed: u64,
}

impl SplitConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidSplit`] for the first ratio that breaks a rule.
    pub fn validate(&self) -> Result<(), DataError> {
        let SplitRatio { train, validation, calibration, test } = self.ratio;
        let ratios = [
            ("ratio.train", train),
            ("ratio.validation", validation),
            ("ratio.calibration", calibration),
            ("ratio.test", test),
        ];
        for (field, actual) in ratios {
            if !(0.0..=1.0).contains(&actual) {
                return Err(DataError::InvalidSplit { field, expected: "between 0 and 1", actual });
            }
        }
        let sum = train + validation + calibration + test;
        // Four decimal numbers that add up to one may add up to a little more in binary.
        if sum > 1.0 + 1e-9 {
            return Err(DataError::InvalidSplit {
                field: "the sum of `ratio`",
                expected: "at most 1",
                actual: sum,
            });
        }
        Ok(())
    }
}

/// Divides events into parts, cutting no group.
///
/// Groups are put into an order that depends on the seed and on their names alone, and dealt out by
/// the ratios. So the order of the events does not matter, and neither do events without a
/// position: these are [`Part::Unused`], whatever group they are of.
///
/// # Shapes
///
/// - `labels`: `[events]`
/// - returns: `[events]`
///
/// # Errors
///
/// - [`DataError::InvalidSplit`] if `config` breaks one of its rules.
/// - [`DataError::EmptyPart`] if a part has a ratio above zero, but there are too few groups for it
///   to get one.
pub fn split(labels: &[EventLabel], config: &SplitConfig) -> Result<Vec<Part>, DataError> {
    config.validate()?;
    let names: BTreeSet<&str> = labels
        .iter()
        .filter(|label| label.position_km.is_some())
        .map(|label| config.by.group(label))
        .collect();
    let mut groups: Vec<([u8; 32], &str)> =
        names.into_iter().map(|name| (rank(config.seed, name), name)).collect();
    groups.sort_unstable();

    let mut parts = HashMap::with_capacity(groups.len());
    let (mut share, mut first) = (0.0, 0);
    for part in Part::DEALT {
        share += config.ratio.of(part);
        // The count is an integer of at most `groups.len()`, up to rounding of the shares.
        let end = ((share * groups.len() as f64).round() as usize).min(groups.len());
        if config.ratio.of(part) > 0.0 && end == first {
            return Err(DataError::EmptyPart {
                part,
                ratio: config.ratio.of(part),
                by: config.by,
                groups: groups.len(),
            });
        }
        parts.extend(groups[first..end].iter().map(|&(_, name)| (name, part)));
        first = end;
    }
    let part_of = |label: &EventLabel| match label.position_km {
        Some(_) => parts.get(config.by.group(label)).copied().unwrap_or(Part::Unused),
        None => Part::Unused,
    };
    Ok(labels.iter().map(part_of).collect())
}

/// Place of a group in the shuffled order.
fn rank(seed: u64, name: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("heimdall split of groups");
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::label;

    fn ratio(train: f64, validation: f64, calibration: f64, test: f64) -> SplitRatio {
        SplitRatio { train, validation, calibration, test }
    }

    /// Labels of events whose sources have these numbers of events.
    fn labels_of(events_per_source: &[usize]) -> Vec<EventLabel> {
        let mut labels = Vec::new();
        for (source, &events) in events_per_source.iter().enumerate() {
            for _ in 0..events {
                let mut label = label(labels.len());
                label.source = format!("source {source}");
                labels.push(label);
            }
        }
        labels
    }

    #[test]
    fn ratios_are_shares_of_groups() {
        let labels = labels_of(&[3; 40]);
        let config = SplitConfig { ratio: ratio(0.5, 0.25, 0.125, 0.05), ..SplitConfig::default() };

        let parts = split(&labels, &config).unwrap();

        let count = |part| parts.iter().filter(|&&actual| actual == part).count();
        assert_eq!(Part::DEALT.map(count), [60, 30, 15, 6]);
        assert_eq!(count(Part::Unused), 9);
    }

    #[test]
    fn other_seed_is_another_split() {
        let labels = labels_of(&[1; 40]);
        let with = |seed| split(&labels, &SplitConfig { seed, ..SplitConfig::default() }).unwrap();

        assert_ne!(with(1), with(2));
    }

    #[test]
    fn event_without_position_is_unused() {
        let mut labels = labels_of(&[2; 20]);
        labels[5].position_km = None;

        let parts = split(&labels, &SplitConfig::default()).unwrap();

        assert_eq!(parts[5], Part::Unused);
        assert_eq!(parts.iter().filter(|&&part| part == Part::Unused).count(), 1);
    }

    #[test]
    fn part_without_a_group_is_refused_by_name() {
        let error = split(&labels_of(&[50; 4]), &SplitConfig::default()).unwrap_err();

        let expected = "the part `validation` is empty: 4 groups by source are too few for a \
                        ratio of 0.1";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn part_of_ratio_zero_may_be_empty() {
        let config = SplitConfig { ratio: ratio(0.8, 0.2, 0.0, 0.0), ..SplitConfig::default() };

        let parts = split(&labels_of(&[2; 5]), &config).unwrap();

        assert!(parts.iter().all(|part| matches!(part, Part::Train | Part::Validation)));
    }

    #[test]
    fn ratios_beyond_their_rules_are_refused() {
        let cases = [
            (ratio(0.8, 0.2, 0.1, 0.0), "sum"),
            (ratio(-0.1, 0.2, 0.1, 0.0), "train"),
            (ratio(0.5, f64::NAN, 0.1, 0.0), "validation"),
        ];
        for (ratio, field) in cases {
            let config = SplitConfig { ratio, ..SplitConfig::default() };

            let error = split(&labels_of(&[2; 20]), &config).unwrap_err();

            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn misspelt_group_is_refused() {
        let error = serde_json::from_str::<SplitConfig>(r#"{"by": "sources"}"#).unwrap_err();

        assert!(error.to_string().contains("sources"), "{error}");
    }

    proptest! {
        /// No group is cut, every event gets a part, and only names and seed matter.
        #[test]
        fn groups_stay_whole_in_any_order(
            events_per_source in prop::collection::vec(1_usize..5, 12..40),
            seed in any::<u64>(),
            by in prop_oneof![Just(SplitBy::Source), Just(SplitBy::Session), Just(SplitBy::Event)],
            rotation in 0_usize..100,
        ) {
            let mut labels = labels_of(&events_per_source);
            let config = SplitConfig { by, seed, ..SplitConfig::default() };

            let parts = split(&labels, &config).unwrap();

            let mut part_of_group = HashMap::new();
            for (label, &part) in labels.iter().zip(&parts) {
                let group = by.group(label).to_owned();
                prop_assert_eq!(*part_of_group.entry(group).or_insert(part), part);
            }
            for part in Part::DEALT {
                prop_assert!(parts.contains(&part));
            }
            let rotation = rotation % labels.len();
            labels.rotate_left(rotation);
            let mut rotated = split(&labels, &config).unwrap();
            rotated.rotate_right(rotation);
            prop_assert_eq!(rotated, parts);
        }
    }
}
