//! Which events train, which ones test, and no group on both sides.

mod group;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DataError, EventLabel};

pub use group::SplitBy;

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// Groups that belong to a part, whatever the ratio.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitLists {
    /// Groups of [`Part::Train`].
    pub train: Vec<String>,
    /// Groups of [`Part::Validation`].
    pub validation: Vec<String>,
    /// Groups of [`Part::Calibration`].
    pub calibration: Vec<String>,
    /// Groups of [`Part::Test`].
    pub test: Vec<String>,
}

impl SplitLists {
    /// All listed groups with their parts.
    fn entries(&self) -> impl Iterator<Item = (&str, Part)> {
        let Self { train, validation, calibration, test } = self;
        [train, validation, calibration, test]
            .into_iter()
            .zip(Part::DEALT)
            .flat_map(|(names, part)| names.iter().map(move |name| (name.as_str(), part)))
    }
}

/// How events are divided into parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    /// What is never cut.
    pub by: SplitBy,
    /// Side of a spatial block, in km. A block is named by its place, as in `-3,12`: so many sides
    /// to the east of the origin and to the north.
    pub block_km: f64,
    /// Length of a period of time, in hours: a day, by default. A period is named by its start, as
    /// in `2022-07-05T00:00:00Z`.
    pub period_hours: f64,
    /// Share of the groups that each part gets; the rest is unused.
    pub ratio: SplitRatio,
    /// Groups that belong to a part, whatever the ratio: the names of sources, sessions or events,
    /// of blocks or of periods. The others are dealt out.
    pub lists: SplitLists,
    /// Seed of the order in which groups are dealt out.
    pub seed: u64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            by: SplitBy::default(),
            block_km: 10.0,
            period_hours: 24.0,
            ratio: SplitRatio::default(),
            lists: SplitLists::default(),
            seed: 0,
        }
    }
}

impl SplitConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidField`] for the first ratio that breaks a rule.
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
                let (expected, actual) = ("between 0 and 1", actual.to_string());
                return Err(DataError::InvalidField { field, expected, actual });
            }
        }
        for (field, actual) in [("block_km", self.block_km), ("period_hours", self.period_hours)] {
            if !(actual > 0.0 && actual.is_finite()) {
                let (expected, actual) = ("finite and above 0", actual.to_string());
                return Err(DataError::InvalidField { field, expected, actual });
            }
        }
        let mut listed = BTreeSet::new();
        for (name, _) in self.lists.entries() {
            if !listed.insert(name) {
                return Err(DataError::Duplicate {
                    kind: "group in `lists`",
                    name: name.to_owned(),
                });
            }
        }
        let sum = train + validation + calibration + test;
        // Four decimal numbers that add up to one may add up to a little more in binary.
        if sum > 1.0 + 1e-9 {
            return Err(DataError::InvalidField {
                field: "the sum of `ratio`",
                expected: "at most 1",
                actual: sum.to_string(),
            });
        }
        Ok(())
    }
}

/// Names the group of each event that a split never cuts; `None` where its position is unknown.
///
/// # Errors
///
/// - [`DataError::InvalidField`] or [`DataError::Duplicate`] if `config` breaks one of its rules.
/// - [`DataError::NoTime`] if periods of time are to be kept, and an event has no time.
pub fn groups(
    labels: &[EventLabel],
    config: &SplitConfig,
) -> Result<Vec<Option<String>>, DataError> {
    config.validate()?;
    labels.iter().map(|label| config.group(label)).collect()
}

/// Divides events into parts, cutting no group.
///
/// Groups are put into an order that depends on the seed and on their names alone, and dealt out by
/// the ratios; periods of time keep their own order, so that what is tested is later than what was
/// learned. So the order of the events does not matter, and neither do events without a position:
/// these are [`Part::Unused`], whatever group they are of.
///
/// # Shapes
///
/// - `labels`: `[events]`
/// - returns: `[events]`
///
/// # Errors
///
/// - [`DataError::InvalidField`] or [`DataError::Duplicate`] if `config` breaks one of its rules.
/// - [`DataError::NoTime`] if periods of time are to be kept, and an event has no time.
/// - [`DataError::UnknownGroup`] if a list names a group that no event is of.
/// - [`DataError::EmptyPart`] if a part has a ratio above zero, but there are too few groups for it
///   to get one.
pub fn split(labels: &[EventLabel], config: &SplitConfig) -> Result<Vec<Part>, DataError> {
    let groups = groups(labels, config)?;
    let names: BTreeSet<&str> = groups.iter().flatten().map(String::as_str).collect();

    let mut parts: HashMap<&str, Part> = config.lists.entries().collect();
    if let Some(name) = parts.keys().find(|name| !names.contains(*name)) {
        return Err(DataError::UnknownGroup { name: (*name).to_owned(), by: config.by });
    }
    let listed: BTreeSet<Part> = parts.values().copied().collect();
    let left: Vec<&str> = names.into_iter().filter(|name| !parts.contains_key(name)).collect();
    parts.extend(deal(left, config, &listed)?);
    Ok(groups
        .iter()
        .map(|group| match group {
            Some(group) => parts.get(group.as_str()).copied().unwrap_or(Part::Unused),
            None => Part::Unused,
        })
        .collect())
}

/// Deals groups out by the ratios; a part in `listed` has some already, and may get none.
fn deal<'a>(
    mut names: Vec<&'a str>,
    config: &SplitConfig,
    listed: &BTreeSet<Part>,
) -> Result<BTreeMap<&'a str, Part>, DataError> {
    // The names of periods are in the order of time.
    if config.by != SplitBy::Time {
        names.sort_by_cached_key(|name| (rank(config.seed, name), *name));
    }
    let mut parts = BTreeMap::new();
    let (mut share, mut first) = (0.0, 0);
    for part in Part::DEALT {
        share += config.ratio.of(part);
        // The count is an integer of at most `names.len()`, up to rounding of the shares.
        let end = ((share * names.len() as f64).round() as usize).min(names.len());
        if config.ratio.of(part) > 0.0 && end == first && !listed.contains(&part) {
            return Err(DataError::EmptyPart {
                part,
                ratio: config.ratio.of(part),
                by: config.by,
                groups: names.len(),
            });
        }
        parts.extend(names[first..end].iter().map(|&name| (name, part)));
        first = end;
    }
    Ok(parts)
}

/// Place of a group in the shuffled order.
fn rank(seed: u64, name: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("heimdall split of groups");
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests;
