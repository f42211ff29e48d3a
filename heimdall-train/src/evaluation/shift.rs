//! Whether test events look like those that the network learned from.

use heimdall_features::FeatureMap;
use heimdall_loss::percentile;
use serde::{Deserialize, Serialize};

use crate::baseline::level_db;

/// Two sets of different distributions are told apart with this statistic of the Kolmogorov–Smirnov
/// test: of equal ones, it is exceeded once in a thousand times.
const SIGNIFICANCE: f64 = 1.95;
/// Smaller differences of the distributions are of no consequence, however certain they are.
const DIFFERENCE_MIN: f64 = 0.2;

/// How strange events are to a network, by the differences of their levels from those of the nearest
/// training event.
///
/// Calibration and test events are equally strange to it where both come from the world of the
/// training events. If test events are stranger, what was learned and what was calibrated may not
/// hold for them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataShift {
    /// Median root mean square difference of a calibration event to the most similar training
    /// event, in dB.
    pub calibration_difference_db_median: f64,
    /// The same of the test events.
    pub test_difference_db_median: f64,
    /// Greatest vertical distance of the two distributions.
    pub distance: f64,
    /// Distance from which on they are called different.
    pub distance_max: f64,
    /// Whether the test events do not look like the training events.
    pub differs: bool,
}

impl DataShift {
    /// Compares events, of which each set has so many groups that are independent of each other;
    /// `None` if a set is empty.
    pub(crate) fn measure(
        training: &TrainingLevels,
        calibration: (&[FeatureMap], usize),
        test: (&[FeatureMap], usize),
    ) -> Option<Self> {
        let differences = |events: &[FeatureMap]| -> Vec<f64> {
            events.iter().filter_map(|event| training.nearest_db(event)).collect()
        };
        let (of_calibration, of_test) = (differences(calibration.0), differences(test.0));
        let calibration_difference_db_median = percentile(&of_calibration, 50.0)?;
        let test_difference_db_median = percentile(&of_test, 50.0)?;
        let distance = distance_of_samples(&of_calibration, &of_test);
        let independent = 1.0 / calibration.1 as f64 + 1.0 / test.1 as f64;
        let distance_max = (SIGNIFICANCE * independent.sqrt()).max(DIFFERENCE_MIN);
        Some(Self {
            calibration_difference_db_median,
            test_difference_db_median,
            distance,
            distance_max,
            differs: distance > distance_max
                && test_difference_db_median > calibration_difference_db_median,
        })
    }
}

/// Levels of the training events.
#[derive(Clone, Debug)]
pub(crate) struct TrainingLevels {
    /// `[events][receivers]`; `None` where a receiver did not hear.
    levels_db: Vec<Vec<Option<f64>>>,
    /// `[receivers]`: what counts as the level where nothing is heard.
    floors_db: Vec<f64>,
}

impl TrainingLevels {
    /// Takes the levels of events of the same receivers.
    pub(crate) fn new(events: &[FeatureMap]) -> Self {
        let levels_db: Vec<Vec<Option<f64>>> = events.iter().map(heard_levels_db).collect();
        let receivers = levels_db.first().map_or(0, Vec::len);
        let lowest = |receiver: usize| {
            let heard = levels_db.iter().filter_map(|levels| levels[receiver]);
            heard.fold(f64::INFINITY, f64::min)
        };
        Self { floors_db: (0..receivers).map(lowest).collect(), levels_db }
    }

    /// Root mean square difference to the most similar event, in dB, over the receivers that hear
    /// one of the two; `None` where that is nobody.
    fn nearest_db(&self, event: &FeatureMap) -> Option<f64> {
        let levels = heard_levels_db(event);
        let differences =
            self.levels_db.iter().filter_map(|other| self.difference_db(&levels, other));
        differences.min_by(f64::total_cmp)
    }

    fn difference_db(&self, one: &[Option<f64>], other: &[Option<f64>]) -> Option<f64> {
        let (mut squares, mut count) = (0.0, 0_usize);
        for ((one, other), &floor_db) in one.iter().zip(other).zip(&self.floors_db) {
            if one.is_none() && other.is_none() {
                continue;
            }
            // A receiver that hears nothing in training has no floor, and says nothing.
            let difference_db = one.unwrap_or(floor_db) - other.unwrap_or(floor_db);
            if difference_db.is_finite() {
                squares += difference_db * difference_db;
                count += 1;
            }
        }
        (count > 0).then(|| (squares / count as f64).sqrt())
    }
}

fn heard_levels_db(event: &FeatureMap) -> Vec<Option<f64>> {
    let heard =
        |scalars: &heimdall_features::ReceiverScalars| scalars.detected.then(|| level_db(scalars));
    event.scalars.iter().map(|scalars| scalars.as_ref().and_then(heard)).collect()
}

/// Greatest vertical distance of the distribution functions of two samples.
fn distance_of_samples(one: &[f64], other: &[f64]) -> f64 {
    let share = |sample: &[f64], at: f64| {
        sample.iter().filter(|value| **value <= at).count() as f64 / sample.len() as f64
    };
    one.iter().chain(other).map(|&at| (share(one, at) - share(other, at)).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use heimdall_features::ReceiverScalars;

    use super::*;

    /// An event that receivers hear at these levels.
    fn event(levels_db: &[Option<f32>]) -> FeatureMap {
        let scalars = levels_db.iter().map(|level_db| {
            Some(ReceiverScalars {
                power_db: -50.0,
                noise_psd_db: -90.0,
                snr_db: level_db.unwrap_or(-10.0),
                bandwidth_hz: 8000.0,
                kurtosis: 1.5,
                detected: level_db.is_some(),
            })
        });
        FeatureMap::of_measurements(scalars.collect(), vec![None; levels_db.len()])
    }

    /// By hand: the floor of the second receiver is 4 dB. From the first event it is
    /// √((2² + 4²) / 2) = √10 dB away, from the second √((8² + 0²) / 2) = √32.
    #[test]
    fn difference_is_over_the_receivers_that_hear() {
        let training =
            [event(&[Some(10.0), Some(8.0), None]), event(&[Some(20.0), Some(4.0), None])];
        let fingerprints = TrainingLevels::new(&training);

        let nearest_db = fingerprints.nearest_db(&event(&[Some(12.0), None, None])).unwrap();

        assert!((nearest_db - 10_f64.sqrt()).abs() < 1e-9, "{nearest_db}");
        assert_eq!(TrainingLevels::new(&[]).nearest_db(&event(&[None])), None);
    }

    /// Half of {1, 2} lies at or below 1, and nothing of {1.5, 3}; at 2 it is all and half.
    #[test]
    fn distance_is_the_one_worked_out_by_hand() {
        assert!((distance_of_samples(&[1.0, 2.0], &[1.5, 3.0]) - 0.5).abs() < 1e-12);
        assert!((distance_of_samples(&[1.0, 2.0], &[5.0]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn receiver_with_another_gain_is_noticed() {
        // Levels on a lattice of 1 dB, between whose points the others lie.
        let lattice = |offset: f32| -> Vec<FeatureMap> {
            let places = (0..20).flat_map(|a| (0..20).map(move |b| (a as f32, b as f32)));
            places.map(|(a, b)| event(&[Some(10.0 + a), Some(30.0 - a + b + offset)])).collect()
        };
        let training = TrainingLevels::new(&lattice(0.0));

        let same = DataShift::measure(&training, (&lattice(0.3), 400), (&lattice(0.4), 400));
        let gained = DataShift::measure(&training, (&lattice(0.3), 400), (&lattice(60.0), 400));

        // All events of a lattice differ alike, so that the distributions are steps.
        assert!(same.unwrap().test_difference_db_median < 0.3);
        assert!(gained.unwrap().differs);
        assert_eq!(DataShift::measure(&training, (&[], 0), (&lattice(0.0), 3)), None);
    }
}
