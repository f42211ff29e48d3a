//! What the network sees of one event.

use serde::{Deserialize, Serialize};

/// Shape of the features of one event: written down here, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureShape {
    /// Receivers of the network, in its order.
    pub receivers: usize,
    /// Frequency bands, from the lowest up.
    pub bands: usize,
    /// Frames, from the first on.
    pub frames: usize,
}

impl FeatureShape {
    /// The shape of events that were measured without samples: there are no levels by band.
    pub fn without_levels(receivers: usize) -> Self {
        Self { receivers, bands: 0, frames: 0 }
    }

    /// Values of one event.
    pub fn len(&self) -> usize {
        self.receivers * self.bands * self.frames
    }

    /// Whether an event has no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Numbers about one recording that a spectrogram does not show directly.
///
/// The extractor knows all of them. What was measured without samples may lack some, which are NaN
/// then: a table of levels has no noise, and a simulation of levels no bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverScalars {
    /// Mean power in the channel, in dB relative to full scale: in the width that the config of the
    /// extractor says, around the center, whatever part of it the signal fills.
    pub power_db: f32,
    /// Power spectral density of the noise, in dB relative to full scale squared per Hz.
    pub noise_psd_db: f32,
    /// Power in the channel above the noise there, in dB.
    pub snr_db: f32,
    /// Width that holds 99 % of the power above the noise, in Hz: the occupied bandwidth, in the whole
    /// of the recording.
    pub bandwidth_hz: f32,
    /// Kurtosis of the samples, `E|x|⁴ / (E|x|²)²`: 2 for Gaussian noise, 1 for a carrier.
    pub kurtosis: f32,
    /// Whether the signal stands above the detection threshold.
    pub detected: bool,
}

impl ReceiverScalars {
    /// Numbers of a receiver.
    pub const COUNT: usize = 6;

    /// Index of `power_db` among them.
    pub const POWER: usize = 0;

    /// Index of `noise_psd_db` among them.
    pub const NOISE_PSD: usize = 1;

    /// Lays the numbers out in the order of the fields, with `detected` as 0 or 1.
    pub fn to_row(&self) -> [f32; Self::COUNT] {
        let Self { power_db, noise_psd_db, snr_db, bandwidth_hz, kurtosis, detected } = *self;
        [power_db, noise_psd_db, snr_db, bandwidth_hz, kurtosis, f32::from(u8::from(detected))]
    }

    /// Undoes [`to_row`](Self::to_row).
    pub fn from_row(row: [f32; Self::COUNT]) -> Self {
        let [power_db, noise_psd_db, snr_db, bandwidth_hz, kurtosis, detected] = row;
        Self { power_db, noise_psd_db, snr_db, bandwidth_hz, kurtosis, detected: detected > 0.5 }
    }
}

/// Where a classical method puts the transmitter, in the plane in which positions are learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassicalFix {
    /// East and north of the plane's origin, in km.
    pub position_km: [f32; 2],
    /// Variance to the east, covariance of east and north, variance to the north, in km².
    pub covariance_km2: [f32; 3],
    /// Whether another position explains the measurements about as well.
    pub ambiguous: bool,
}

impl ClassicalFix {
    /// Numbers of a fix.
    pub const COUNT: usize = 6;

    /// Lays a fix out: position, covariance, and a status of 1, or 2 where it is ambiguous. What
    /// has no fix is a row of zeros.
    pub fn to_row(fix: Option<Self>) -> [f32; Self::COUNT] {
        let Some(Self { position_km: [east, north], covariance_km2, ambiguous }) = fix else {
            return [0.0; Self::COUNT];
        };
        let [east_east, east_north, north_north] = covariance_km2;
        [east, north, east_east, east_north, north_north, if ambiguous { 2.0 } else { 1.0 }]
    }

    /// Undoes [`to_row`](Self::to_row).
    pub fn from_row(row: [f32; Self::COUNT]) -> Option<Self> {
        let [east, north, east_east, east_north, north_north, status] = row;
        (status > 0.5).then_some(Self {
            position_km: [east, north],
            covariance_km2: [east_east, east_north, north_north],
            ambiguous: status > 1.5,
        })
    }

    /// Whether every number is finite and the covariance is one of something that varies in both
    /// directions.
    pub fn is_valid(&self) -> bool {
        let [east, both, north] = self.covariance_km2.map(f64::from);
        let finite = self.position_km.iter().chain(&self.covariance_km2).all(|x| x.is_finite());
        finite && east > 0.0 && north > 0.0 && east * north > both * both
    }
}

/// When a signal arrived at a receiver, by its time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrivalTime {
    /// Time after an instant that all receivers of an event have in common, in s. When the signal
    /// was emitted is not known.
    pub time_s: f64,
    /// Standard deviation by noise and clock, in s; multipath comes on top.
    pub sigma_s: f64,
}

/// Features of what one receiver recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverFeatures {
    /// Level above the receiver's own noise floor (or as configured), `[bands, frames]`, in dB.
    pub levels_db: Vec<f32>,
    /// Numbers about the whole recording.
    pub scalars: ReceiverScalars,
    /// How far the signal lies from the center, with half of its power on each side, in Hz; `None`
    /// where nothing stands out of the noise. It tells which transmitter it is and not where, so it
    /// is for people, and not a feature.
    pub carrier_offset_hz: Option<f32>,
}

/// Features of one event: every receiver of the network, those that are absent too.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// Axes of `levels_db`.
    pub shape: FeatureShape,
    /// `[receivers, bands, frames]`, in dB; zero (the noise floor) where a receiver is absent.
    pub levels_db: Vec<f32>,
    /// `[receivers]`; `None` where a receiver recorded nothing.
    pub scalars: Vec<Option<ReceiverScalars>>,
    /// `[receivers]`; `None` where no time of arrival was measured.
    pub arrivals: Vec<Option<ArrivalTime>>,
    /// Where a classical method puts the transmitter; `None` where none was asked or none has an
    /// answer.
    pub fix: Option<ClassicalFix>,
}

impl FeatureMap {
    /// Puts together what receivers measured without samples: numbers, and no levels.
    ///
    /// # Shapes
    ///
    /// - `scalars`, `arrivals`: `[receivers]`
    ///
    /// # Panics
    ///
    /// Panics if there is not one arrival, or its absence, for each receiver.
    pub fn of_measurements(
        scalars: Vec<Option<ReceiverScalars>>,
        arrivals: Vec<Option<ArrivalTime>>,
    ) -> Self {
        assert_eq!(scalars.len(), arrivals.len(), "one arrival or none per receiver");
        let shape = FeatureShape::without_levels(scalars.len());
        Self { shape, levels_db: Vec::new(), scalars, arrivals, fix: None }
    }

    /// Puts the features of the receivers together, in the order of the network, without a fix.
    ///
    /// # Shapes
    ///
    /// - `receivers`: `[receivers]`, each with levels `[bands, frames]`; `None` where a receiver
    ///   recorded nothing
    ///
    /// # Panics
    ///
    /// Panics if a number of receivers or of levels is not that of `shape`.
    pub fn assemble(shape: FeatureShape, receivers: Vec<Option<ReceiverFeatures>>) -> Self {
        assert_eq!(receivers.len(), shape.receivers, "one entry per receiver of the network");
        let mut levels_db = Vec::with_capacity(shape.len());
        let mut scalars = Vec::with_capacity(shape.receivers);
        for (index, receiver) in receivers.into_iter().enumerate() {
            let Some(features) = receiver else {
                levels_db.resize(levels_db.len() + shape.bands * shape.frames, 0.0);
                scalars.push(None);
                continue;
            };
            assert_eq!(
                features.levels_db.len(),
                shape.bands * shape.frames,
                "receiver {index} has a level per band and frame"
            );
            levels_db.extend(features.levels_db);
            scalars.push(Some(features.scalars));
        }
        Self { shape, levels_db, scalars, arrivals: vec![None; shape.receivers], fix: None }
    }

    /// Takes a receiver away, as if it had recorded nothing. The classical fix stays as it is.
    ///
    /// # Panics
    ///
    /// Panics if there is no receiver of this number.
    pub fn remove_receiver(&mut self, receiver: usize) {
        let per_receiver = self.shape.bands * self.shape.frames;
        self.levels_db[receiver * per_receiver..][..per_receiver].fill(0.0);
        self.scalars[receiver] = None;
        self.arrivals[receiver] = None;
    }

    /// Counts the receivers that detect the signal.
    pub fn hearing_receivers(&self) -> usize {
        self.scalars.iter().flatten().filter(|scalars| scalars.detected).count()
    }

    /// Lays the numbers of all receivers out, `[receivers, 6]`; zeros where one recorded nothing, and
    /// where a number was not measured.
    pub fn scalar_rows(&self) -> impl Iterator<Item = f32> {
        self.scalars.iter().flat_map(|scalars| {
            let row =
                scalars.as_ref().map_or([0.0; ReceiverScalars::COUNT], ReceiverScalars::to_row);
            row.map(|number| if number.is_nan() { 0.0 } else { number })
        })
    }

    /// States which receivers recorded something, `[receivers]`: 1, else 0.
    pub fn mask(&self) -> impl Iterator<Item = f32> {
        self.scalars.iter().map(|scalars| f32::from(u8::from(scalars.is_some())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: FeatureShape = FeatureShape { receivers: 3, bands: 2, frames: 1 };

    fn features(levels_db: Vec<f32>) -> ReceiverFeatures {
        let scalars = ReceiverScalars {
            power_db: -20.0,
            noise_psd_db: -90.0,
            snr_db: levels_db[0],
            bandwidth_hz: 5e3,
            kurtosis: 1.5,
            detected: true,
        };
        ReceiverFeatures { levels_db, scalars, carrier_offset_hz: None }
    }

    #[test]
    fn absent_receivers_are_at_the_noise_floor() {
        let receivers = vec![Some(features(vec![1.0, 2.0])), None, Some(features(vec![3.0, 4.0]))];

        let map = FeatureMap::assemble(SHAPE, receivers);

        assert_eq!(map.levels_db, [1.0, 2.0, 0.0, 0.0, 3.0, 4.0]);
        let snr_db: Vec<_> = map.scalars.iter().map(|scalars| scalars.map(|s| s.snr_db)).collect();
        assert_eq!(snr_db, [Some(1.0), None, Some(3.0)]);
    }

    #[test]
    fn rows_are_read_as_they_were_laid_out() {
        let map = FeatureMap::assemble(SHAPE, vec![Some(features(vec![7.0, 2.0])), None, None]);
        let fix = ClassicalFix {
            position_km: [3.0, -4.0],
            covariance_km2: [4.0, 1.0, 9.0],
            ambiguous: true,
        };

        let rows: Vec<f32> = map.scalar_rows().collect();

        assert_eq!(rows.len(), 3 * ReceiverScalars::COUNT);
        let (rows, _) = rows.as_chunks();
        assert_eq!(Some(ReceiverScalars::from_row(rows[0])), map.scalars[0]);
        assert!(rows[1].iter().all(|value| value.abs() < f32::MIN_POSITIVE));
        assert_eq!(map.mask().collect::<Vec<_>>(), [1.0, 0.0, 0.0]);
        for fix in [None, Some(fix), Some(ClassicalFix { ambiguous: false, ..fix })] {
            assert_eq!(ClassicalFix::from_row(ClassicalFix::to_row(fix)), fix);
        }
    }

    #[test]
    fn removed_receiver_is_an_absent_one() {
        let receivers = vec![Some(features(vec![1.0, 2.0])), Some(features(vec![3.0, 4.0])), None];
        let mut map = FeatureMap::assemble(SHAPE, receivers);
        map.arrivals = vec![Some(ArrivalTime { time_s: 1.0, sigma_s: 1e-7 }); 3];

        map.remove_receiver(1);

        assert_eq!(map.levels_db, [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(map.mask().collect::<Vec<_>>(), [1.0, 0.0, 0.0]);
        assert!(map.arrivals[1].is_none() && map.arrivals[0].is_some());
    }

    #[test]
    fn fix_without_a_region_is_none() {
        let fix = ClassicalFix {
            position_km: [3.0, -4.0],
            covariance_km2: [4.0, 1.0, 9.0],
            ambiguous: false,
        };

        assert!(fix.is_valid());
        assert!(!ClassicalFix { covariance_km2: [4.0, 6.0, 9.0], ..fix }.is_valid());
        assert!(!ClassicalFix { covariance_km2: [-4.0, 0.0, -9.0], ..fix }.is_valid());
        assert!(!ClassicalFix { position_km: [f32::NAN, 0.0], ..fix }.is_valid());
    }

    #[test]
    #[should_panic(expected = "receiver 2 has a level per band and frame")]
    fn levels_of_another_shape_are_refused() {
        FeatureMap::assemble(SHAPE, vec![None, None, Some(features(vec![1.0]))]);
    }
}
