//! Means and deviations of the training split, taken in one pass over the disk.

use heimdall_data::{Augmentation, DataError, HeimdallDataset};
use heimdall_features::{LevelReference, Moments, ReceiverScalars};
use heimdall_model::{SideInputConfig, Standardization};

/// Measures how levels, positions and side inputs are scaled: only ever over the training split.
///
/// With `alike`, one mean and deviation serve all receivers, else each has its own. What receivers
/// measure with their gain in it spreads as wide as the gains do by which the augmentation changes it.
///
/// Receivers that are absent from an event do not count in it, nor do numbers that were not
/// measured. A receiver that is absent from all events, or a number that never changes, gets the
/// deviation 1; so does a coordinate that never changes, with 1 km.
///
/// # Errors
///
/// - [`DataError::Unlabelled`] if the position of an event is unknown.
/// - [`DataError::Read`] if the features cannot be read.
pub fn measure_standardization(
    dataset: &HeimdallDataset,
    alike: bool,
    augmentation: &Augmentation,
) -> Result<(Standardization, SideInputConfig), DataError> {
    let header = dataset.header();
    let shape = header.shape;
    let rows = if alike { 1 } else { shape.receivers };
    let mut levels = vec![Moments::default(); rows];
    let mut numbers = vec![[Moments::default(); ReceiverScalars::COUNT]; rows];
    let mut positions = [Moments::default(); 2];
    for index in 0..dataset.len() {
        let (label, features) = dataset.get(index)?;
        let Some(position) = label.position_km else {
            return Err(DataError::Unlabelled { event: label.event });
        };
        positions[0].add(&[position.east_km as f32]);
        positions[1].add(&[position.north_km as f32]);
        // Measurements without samples have no levels by band.
        let plane = shape.bands * shape.frames;
        for (receiver, scalars) in features.scalars.iter().enumerate() {
            let Some(scalars) = scalars else { continue };
            let row = if alike { 0 } else { receiver };
            levels[row].add(&features.levels_db[receiver * plane..(receiver + 1) * plane]);
            let measured = numbers[row].iter_mut().zip(scalars.to_row());
            for (moments, number) in measured.filter(|(_, number)| !number.is_nan()) {
                moments.add(&[number]);
            }
        }
    }
    // The network holds single precision.
    let mean = |moments: &Moments| moments.mean() as f32;
    let deviation = |moments: &Moments| moments.deviation() as f32;
    let with_gain = |deviation: f32| deviation.hypot(augmentation.gain_deviation_db as f32);
    let absolute = header.features.as_ref().is_some_and(|it| it.level == LevelReference::Absolute);
    let level_deviations = levels.iter().map(|levels| match absolute {
        true => with_gain(deviation(levels)),
        false => deviation(levels),
    });
    let standardization = Standardization {
        level_mean_db: levels.iter().map(mean).collect(),
        level_deviation_db: level_deviations.collect(),
        position_mean_km: positions.each_ref().map(mean),
        position_deviation_km: positions.each_ref().map(deviation),
    };
    let receivers_km = header.receivers.iter().map(|receiver| {
        let local = header.frame.to_local(&receiver.position);
        [local.east_km as f32, local.north_km as f32]
    });
    let scalar_deviations = |row: &[Moments; ReceiverScalars::COUNT]| {
        let mut deviations: Vec<f32> = row.iter().map(deviation).collect();
        // Gains change where noise was measured.
        if !row[ReceiverScalars::NOISE_PSD].is_empty() {
            for number in [ReceiverScalars::POWER, ReceiverScalars::NOISE_PSD] {
                deviations[number] = with_gain(deviations[number]);
            }
        }
        deviations
    };
    let side_inputs = SideInputConfig {
        receivers_km: receivers_km.collect(),
        scalar_mean: numbers.iter().map(|row| row.iter().map(mean).collect()).collect(),
        scalar_deviation: numbers.iter().map(scalar_deviations).collect(),
    };
    Ok((standardization, side_inputs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::synthetic;

    /// Against the textbook's two passes, over all events in memory.
    #[test]
    fn statistics_are_those_of_two_passes() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(folder.path(), 9, 3);

        let (measured, side_inputs) =
            measure_standardization(&dataset, false, &Augmentation::NONE).unwrap();

        let per_receiver = dataset.header().shape.bands * dataset.header().shape.frames;
        for receiver in 0..dataset.header().shape.receivers {
            let (mut values, mut snrs_db) = (Vec::new(), Vec::new());
            for index in 0..dataset.len() {
                let (_, features) = dataset.get(index).unwrap();
                if let Some(scalars) = features.scalars[receiver] {
                    snrs_db.push(scalars.snr_db);
                    let start = receiver * per_receiver;
                    values.extend_from_slice(&features.levels_db[start..start + per_receiver]);
                }
            }
            assert!(values.len() < dataset.len() * per_receiver, "one is absent somewhere");
            let (mean, deviation) = two_passes(&values);
            assert!((f64::from(measured.level_mean_db[receiver]) - mean).abs() < 1e-4);
            assert!((f64::from(measured.level_deviation_db[receiver]) - deviation).abs() < 1e-4);
            let (mean, deviation) = two_passes(&snrs_db);
            // The third number is the SNR; the first is the same in all events.
            let row = |table: &[Vec<f32>]| [table[receiver][2], table[receiver][0]].map(f64::from);
            let [snr_mean, power_mean] = row(&side_inputs.scalar_mean);
            let [snr_deviation, power_deviation] = row(&side_inputs.scalar_deviation);
            assert!((snr_mean - mean).abs() < 1e-4 && (power_mean + 60.0).abs() < 1e-4);
            assert!((snr_deviation - deviation).abs() < 1e-4);
            assert!((power_deviation - 1.0).abs() < 1e-9);
        }
        let east: Vec<f32> =
            dataset.labels().iter().map(|l| l.position_km.unwrap().east_km as f32).collect();
        let (mean, deviation) = two_passes(&east);
        assert!((f64::from(measured.position_mean_km[0]) - mean).abs() < 1e-4);
        assert!((f64::from(measured.position_deviation_km[0]) - deviation).abs() < 1e-4);
    }

    fn two_passes(values: &[f32]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let squares = values.iter().map(|&value| (f64::from(value) - mean).powi(2));
        (mean, (squares.sum::<f64>() / count).sqrt())
    }

    #[test]
    fn receivers_that_are_alike_share_their_statistics() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(folder.path(), 9, 3);

        let (measured, side_inputs) =
            measure_standardization(&dataset, true, &Augmentation::NONE).unwrap();

        let maps = (0..dataset.len()).map(|index| dataset.get(index).unwrap().1);
        let snrs_db: Vec<f32> =
            maps.flat_map(|features| features.scalars).flatten().map(|s| s.snr_db).collect();
        let (mean, deviation) = two_passes(&snrs_db);
        assert!((f64::from(side_inputs.scalar_mean[0][2]) - mean).abs() < 1e-4);
        assert!((f64::from(side_inputs.scalar_deviation[0][2]) - deviation).abs() < 1e-4);
        assert_eq!((side_inputs.scalar_mean.len(), measured.level_mean_db.len()), (1, 1));
        assert_eq!(side_inputs.receivers_km.len(), 2);
    }

    /// The power never changes there, the SNR does; the gain is on the first alone.
    #[test]
    fn gains_widen_what_has_them_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(folder.path(), 9, 3);
        let augmentation = Augmentation { gain_deviation_db: 3.0, ..Augmentation::NONE };

        let (levels, without) =
            measure_standardization(&dataset, false, &Augmentation::NONE).unwrap();
        let (levels_with, with) = measure_standardization(&dataset, false, &augmentation).unwrap();

        assert_eq!(levels, levels_with);
        for (with, without) in with.scalar_deviation.iter().zip(&without.scalar_deviation) {
            for number in 0..ReceiverScalars::COUNT {
                let expected = match number {
                    0 | 1 => without[number].hypot(3.0),
                    _ => without[number],
                };
                assert!((with[number] - expected).abs() < 1e-6, "{number}");
            }
        }
    }

    #[test]
    fn what_never_changes_has_the_deviation_one() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = synthetic(folder.path(), 9, 3).subset(&[4]);

        let (measured, _) = measure_standardization(&dataset, false, &Augmentation::NONE).unwrap();

        assert!((measured.position_deviation_km[0] - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            values in prop::collection::vec(-1e3_f32..1e3, 2..60),
            cut in 0_usize..60,
        ) {
            let cut = cut.min(values.len());
            let mut moments = Moments::default();

            moments.add(&values[..cut]);
            moments.add(&values[cut..]);

            let (mean, deviation) = two_passes(&values);
            prop_assert!((moments.mean() - mean).abs() < 1e-9);
            prop_assert!((moments.deviation() - deviation).abs() < 1e-3 || deviation < 1e-6);
        }
    }
}
