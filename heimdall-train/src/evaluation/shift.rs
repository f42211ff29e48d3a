//! Whether test events look like those that the network learned from: a stated test with its threshold.

use std::collections::BTreeSet;

use heimdall_features::FeatureMap;
use heimdall_geo::{LevelModel, LocalPosition, Receiver};
use heimdall_loss::percentile;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::baseline::{has_level, level_db};

/// Most training events that are compared with all others.
const REFERENCE_EVENTS_MAX: usize = 1000;
/// A receiver that hears at least this share of the training events and none of the test events is
/// named.
const LOST_SHARE_MIN: f64 = 0.05;

/// When test events are called different from the training events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShiftConfig {
    /// Probability with which one of the comparisons finds a difference where there is none.
    pub significance: f64,
    /// Smaller distances of two distributions are of no consequence, however certain they are.
    pub distance_min: f64,
    /// Events in one square of the map with sides of this length count as one, as those of a session
    /// do, in km; left out, places are independent of each other.
    pub block_km: Option<f64>,
}

impl Default for ShiftConfig {
    fn default() -> Self {
        Self { significance: 1e-3, distance_min: 0.2, block_km: None }
    }
}

impl ShiftConfig {
    /// Checks the rules that the types of the fields cannot express.
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        let invalid =
            |field, expected, actual| Err(TrainError::InvalidConfig { field, expected, actual });
        if !(self.significance > 0.0 && self.significance < 1.0) {
            return invalid("shift.significance", "between 0 and 1", self.significance);
        }
        if !(0.0..1.0).contains(&self.distance_min) {
            return invalid("shift.distance_min", "at least 0 and below 1", self.distance_min);
        }
        match self.block_km {
            Some(km) if !(km > 0.0 && km.is_finite()) => {
                invalid("shift.block_km", "finite and above 0, or left out", km)
            }
            _ => Ok(()),
        }
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShiftQuantity {
    /// Root mean square difference of an event's levels to those of the most similar training event of
    /// another group, in dB.
    NearestDifferenceDb,
    /// Number of receivers that hear an event.
    HearingReceivers,
    /// What a receiver hears beyond the path loss that fits the training events, in dB.
    LevelResidualDb,
    /// Noise that a receiver measures, in dB: with the gain, it moves from world to world.
    NoiseDb,
}

/// The distributions of one quantity in training and test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftComparison {
    /// What is compared.
    pub quantity: ShiftQuantity,
    /// Of which receiver, where it is of one.
    pub receiver: Option<String>,
    /// Median of the training events.
    pub training_median: f64,
    /// Median of the test events.
    pub test_median: f64,
    /// Groups of training events that are independent of each other.
    pub training_groups: usize,
    /// The same of the test events.
    pub test_groups: usize,
    /// Greatest vertical distance of the two distribution functions.
    pub distance: f64,
    /// Distance from which on they are called different.
    pub distance_max: f64,
    /// Whether they are.
    pub differs: bool,
}

/// Whether test events look like the training events.
///
/// Each comparison is a Kolmogorov–Smirnov test of two samples. It counts as many values as there are
/// groups of events, not events: those of a session or of a place are alike. The probability of a
/// false alarm is divided by the number of comparisons.
///
/// # References
///
/// - N. Smirnov, "Table for estimating the goodness of fit of empirical distributions", *Annals of
///   Mathematical Statistics* 19(2), 1948,
///   [doi:10.1214/aoms/1177730256](https://doi.org/10.1214/aoms/1177730256).
/// - C. E. Bonferroni, *Teoria statistica delle classi e calcolo delle probabilità*, 1936.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataShift {
    /// Probability with which one of the comparisons finds a difference where there is none.
    pub significance: f64,
    /// All comparisons that could be made.
    pub comparisons: Vec<ShiftComparison>,
    /// Receivers that hear training events, and no test event.
    pub lost_receivers: Vec<String>,
    /// Whether the test events do not look like the training events.
    pub differs: bool,
}

/// Events with what makes some of them alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShiftSet<'a> {
    /// What was measured.
    pub(crate) events: &'a [FeatureMap],
    /// Where they were.
    pub(crate) positions: &'a [LocalPosition],
    /// Names of their sessions.
    pub(crate) sessions: &'a [&'a str],
}

/// Values of a quantity, each with the session and the block of its event.
struct Sample<'a> {
    values: Vec<f64>,
    groups: Vec<Group<'a>>,
}

/// What an event has in common with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group<'a> {
    session: &'a str,
    block: Option<(i64, i64)>,
}

impl Group<'_> {
    /// Whether two events are alike by when or where they were.
    fn is_near(&self, other: &Self) -> bool {
        self.session == other.session || (self.block.is_some() && self.block == other.block)
    }
}

impl<'a> Sample<'a> {
    fn of(set: &ShiftSet<'a>, groups: &[Group<'a>], value: impl Fn(usize) -> Option<f64>) -> Self {
        let values = (0..set.events.len()).filter_map(|event| Some((value(event)?, groups[event])));
        let (values, groups) = values.unzip();
        Self { values, groups }
    }

    /// How many of the values are independent: there are no more than sessions, nor than blocks.
    fn independent(&self) -> usize {
        let sessions: BTreeSet<&str> = self.groups.iter().map(|group| group.session).collect();
        let blocks: BTreeSet<_> = self.groups.iter().filter_map(|group| group.block).collect();
        if blocks.is_empty() { sessions.len() } else { sessions.len().min(blocks.len()) }
    }
}

impl DataShift {
    /// Compares test events with training events; `None` if nobody hears the ones or the others.
    pub(crate) fn measure(
        training: &ShiftSet<'_>,
        test: &ShiftSet<'_>,
        model: &LevelModel,
        receivers: &[Receiver],
        config: &ShiftConfig,
    ) -> Option<Self> {
        if ![training, test].iter().all(|set| set.events.iter().any(has_level)) {
            return None;
        }
        let groups = [training, test].map(|set| groups(set, config.block_km));
        let mut pairs = of_events(training, test, &groups);
        let mut lost_receivers = Vec::new();
        for (receiver, Receiver { name, .. }) in receivers.iter().enumerate() {
            let of_receiver = of_receiver(training, test, &groups, model, (receiver, name));
            let [(_, of_training, of_test), _] = &of_receiver;
            let share = of_training.values.len() as f64 / training.events.len() as f64;
            if of_test.values.is_empty() && share >= LOST_SHARE_MIN {
                lost_receivers.push(name.clone());
            }
            pairs.extend(of_receiver);
        }
        pairs.retain(|(_, of_training, of_test)| {
            !of_training.values.is_empty() && !of_test.values.is_empty()
        });
        let significance = config.significance / pairs.len() as f64;
        let comparisons: Vec<ShiftComparison> = pairs
            .into_iter()
            .map(|(what, of_training, of_test)| {
                compare(what, &of_training, &of_test, significance, config.distance_min)
            })
            .collect();
        Some(Self {
            significance: config.significance,
            differs: comparisons.iter().any(|comparison| comparison.differs),
            comparisons,
            lost_receivers,
        })
    }
}

/// A quantity, of which receiver it is, and its values in training and test.
type Pair<'a> = ((ShiftQuantity, Option<String>), Sample<'a>, Sample<'a>);

/// What is compared of whole events.
fn of_events<'a>(
    training: &ShiftSet<'a>,
    test: &ShiftSet<'a>,
    groups: &[Vec<Group<'a>>; 2],
) -> Vec<Pair<'a>> {
    let levels = TrainingLevels::new(training.events);
    let step = training.events.len().div_ceil(REFERENCE_EVENTS_MAX);
    let nearest = |set: &ShiftSet<'_>, own: &[Group<'_>], event: usize| {
        let is_other = |known: usize| !groups[0][known].is_near(&own[event]);
        levels.nearest_db(&set.events[event], is_other)
    };
    let hearing = |set: &ShiftSet<'_>, event: usize| Some(heard(&set.events[event]).count() as f64);
    vec![
        (
            (ShiftQuantity::NearestDifferenceDb, None),
            Sample::of(training, &groups[0], |event| {
                event.is_multiple_of(step).then(|| nearest(training, &groups[0], event))?
            }),
            Sample::of(test, &groups[1], |event| nearest(test, &groups[1], event)),
        ),
        (
            (ShiftQuantity::HearingReceivers, None),
            Sample::of(training, &groups[0], |event| hearing(training, event)),
            Sample::of(test, &groups[1], |event| hearing(test, event)),
        ),
    ]
}

/// What is compared of a receiver: its levels beyond path loss, and its noise.
fn of_receiver<'a>(
    training: &ShiftSet<'a>,
    test: &ShiftSet<'a>,
    groups: &[Vec<Group<'a>>; 2],
    model: &LevelModel,
    (receiver, name): (usize, &str),
) -> [Pair<'a>; 2] {
    let residual = |set: &ShiftSet<'_>, event: usize| {
        let level_db = heard(&set.events[event]).find(|heard| heard.0 == receiver)?.1;
        Some(level_db - model.level_db(receiver, set.positions[event]))
    };
    let noise = |set: &ShiftSet<'_>, event: usize| {
        let noise_db = f64::from(set.events[event].scalars[receiver]?.noise_psd_db);
        (!noise_db.is_nan()).then_some(noise_db)
    };
    let pair = |quantity, value: &dyn Fn(&ShiftSet<'_>, usize) -> Option<f64>| {
        (
            (quantity, Some(name.to_owned())),
            Sample::of(training, &groups[0], |event| value(training, event)),
            Sample::of(test, &groups[1], |event| value(test, event)),
        )
    };
    [pair(ShiftQuantity::LevelResidualDb, &residual), pair(ShiftQuantity::NoiseDb, &noise)]
}

/// Compares two samples that have values.
fn compare(
    (quantity, receiver): (ShiftQuantity, Option<String>),
    training: &Sample<'_>,
    test: &Sample<'_>,
    significance: f64,
    distance_min: f64,
) -> ShiftComparison {
    let median = |sample: &Sample<'_>| percentile(&sample.values, 50.0).expect("there are values");
    let (training_median, test_median) = (median(training), median(test));
    let (training_groups, test_groups) = (training.independent(), test.independent());
    let distance = distance_of_samples(&training.values, &test.values);
    let independent = 1.0 / training_groups as f64 + 1.0 / test_groups as f64;
    let distance_max = (critical(significance) * independent.sqrt()).max(distance_min);
    // Events that are more like the training events than these among themselves are welcome.
    let matters = quantity != ShiftQuantity::NearestDifferenceDb || test_median > training_median;
    ShiftComparison {
        quantity,
        receiver,
        training_median,
        test_median,
        training_groups,
        test_groups,
        distance,
        distance_max,
        differs: matters && distance > distance_max,
    }
}

/// The statistic of the test that samples of one distribution exceed with this probability, by the
/// first term of its limit.
fn critical(significance: f64) -> f64 {
    (-(significance / 2.0).ln() / 2.0).sqrt()
}

fn groups<'a>(set: &ShiftSet<'a>, block_km: Option<f64>) -> Vec<Group<'a>> {
    let block = |place: &LocalPosition| {
        // Whole numbers, as small as the region over a block.
        block_km
            .map(|km| ((place.east_km / km).floor() as i64, (place.north_km / km).floor() as i64))
    };
    let events = set.sessions.iter().zip(set.positions);
    events.map(|(session, place)| Group { session, block: block(place) }).collect()
}

/// Levels of the training events.
#[derive(Clone, Debug)]
struct TrainingLevels {
    /// `[events][receivers]`, in dB; NaN where a receiver did not hear.
    levels_db: Vec<Vec<f64>>,
    /// `[receivers]`: what counts as the level where nothing is heard.
    floors_db: Vec<f64>,
}

impl TrainingLevels {
    /// Takes the levels of events of the same receivers.
    fn new(events: &[FeatureMap]) -> Self {
        let levels_db: Vec<Vec<f64>> = events.iter().map(levels_db).collect();
        let receivers = levels_db.first().map_or(0, Vec::len);
        let lowest = |receiver: usize| {
            levels_db.iter().map(|levels| levels[receiver]).fold(f64::INFINITY, f64::min)
        };
        Self { floors_db: (0..receivers).map(lowest).collect(), levels_db }
    }

    /// Root mean square difference to the most similar of some events, in dB, over the receivers that
    /// hear one of the two; `None` where that is nobody.
    fn nearest_db(&self, event: &FeatureMap, is_candidate: impl Fn(usize) -> bool) -> Option<f64> {
        let levels = levels_db(event);
        let candidates =
            self.levels_db.iter().enumerate().filter(|(known, _)| is_candidate(*known));
        let differences = candidates.filter_map(|(_, other)| self.difference_db(&levels, other));
        differences.min_by(f64::total_cmp)
    }

    fn difference_db(&self, one: &[f64], other: &[f64]) -> Option<f64> {
        let (mut squares, mut count) = (0.0, 0_usize);
        for ((one, other), &floor_db) in one.iter().zip(other).zip(&self.floors_db) {
            if one.is_nan() && other.is_nan() {
                continue;
            }
            let or_floor = |level_db: f64| if level_db.is_nan() { floor_db } else { level_db };
            // A receiver that hears nothing in training has no floor, and says nothing.
            let difference_db = or_floor(*one) - or_floor(*other);
            if difference_db.is_finite() {
                squares += difference_db * difference_db;
                count += 1;
            }
        }
        (count > 0).then(|| (squares / count as f64).sqrt())
    }
}

/// The receivers that hear an event, and the levels in dB.
fn heard(event: &FeatureMap) -> impl Iterator<Item = (usize, f64)> {
    let levels = event.scalars.iter().enumerate().filter_map(|(receiver, scalars)| {
        let scalars = scalars.as_ref().filter(|scalars| scalars.detected)?;
        Some((receiver, level_db(scalars)))
    });
    levels.filter(|(_, level_db)| !level_db.is_nan())
}

fn levels_db(event: &FeatureMap) -> Vec<f64> {
    let mut levels_db = vec![f64::NAN; event.scalars.len()];
    for (receiver, level_db) in heard(event) {
        levels_db[receiver] = level_db;
    }
    levels_db
}

/// Greatest vertical distance of the distribution functions of two samples.
fn distance_of_samples(one: &[f64], other: &[f64]) -> f64 {
    let sorted = |sample: &[f64]| {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let (one, other) = (sorted(one), sorted(other));
    let share = |sample: &[f64], at: f64| {
        sample.partition_point(|value| *value <= at) as f64 / sample.len() as f64
    };
    let values = one.iter().chain(&other);
    values.map(|&at| (share(&one, at) - share(&other, at)).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests;
