//! From the samples of one receiver to its features, planned once for many recordings.

use num_complex::Complex32;

use crate::averager::Averager;
use crate::decibel::decibels;
use crate::feature_config::{FeatureConfig, LevelReference};
use crate::filter_bank::FilterBank;
use crate::frames::FramePlan;
use crate::moments::SampleMoments;
use crate::scalars::{Channel, PSD_MIN, independent_averages, receiver_scalars};
use crate::stft::check_sample_rate;
use crate::transform::Transform;
use crate::{FeatureError, ReceiverFeatures, ScalarAccuracy};

/// Turns recordings of one sample rate into features.
///
/// Transform and filters are planned once; an extractor can be shared by any number of threads, and
/// extracting allocates per recording, never per frame.
///
/// # Examples
///
/// ```
/// use heimdall_features::{FeatureConfig, FeatureExtractor};
/// use num_complex::Complex32;
///
/// let extractor = FeatureExtractor::new(&FeatureConfig::default(), 24_000.0)?;
/// let carrier: Vec<Complex32> = (0..2400).map(|n| Complex32::cis(0.1 * n as f32)).collect();
///
/// let features = extractor.extract(&carrier)?;
///
/// assert_eq!(features.levels_db.len(), 128 * 32);
/// assert!(features.scalars.detected);
/// # Ok::<(), heimdall_features::FeatureError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FeatureExtractor {
    config: FeatureConfig,
    transform: Transform<f32>,
    bank: FilterBank,
    channel: Channel,
}

impl FeatureExtractor {
    /// Plans the extraction.
    ///
    /// # Errors
    ///
    /// - [`FeatureError::InvalidConfig`] if `config` breaks one of its rules, or has a band or a
    ///   channel that is too wide for `sample_rate_hz`.
    /// - [`FeatureError::EmptyFilter`] if `fft_length` is too short for the bands.
    pub fn new(config: &FeatureConfig, sample_rate_hz: f64) -> Result<Self, FeatureError> {
        config.validate()?;
        check_sample_rate(sample_rate_hz)?;
        let transform = Transform::density(config.fft_length, sample_rate_hz);
        let bank = FilterBank::new(&config.filter_bank(), config.fft_length, sample_rate_hz)?;

        let width_hz = config.channel_bandwidth_hz.unwrap_or(sample_rate_hz / 2.0);
        let channel = Channel::new(width_hz, config.fft_length, sample_rate_hz);
        if width_hz > channel.width_hz_max() {
            return Err(FeatureError::InvalidConfig {
                field: "channel_bandwidth_hz",
                expected: format!("at most {} Hz to leave noise beside it", channel.width_hz_max()),
                actual: width_hz,
            });
        }
        if !channel.is_usable() {
            return Err(FeatureError::InvalidConfig {
                field: "fft_length",
                expected: "long enough to resolve the channel and the noise beside it".to_owned(),
                actual: config.fft_length as f64,
            });
        }
        Ok(Self { config: config.clone(), transform, bank, channel })
    }

    /// Computes how well the scalars of recordings of this length are known.
    ///
    /// # Errors
    ///
    /// [`FeatureError::Empty`] and [`FeatureError::TooShort`] if `sample_count` is below
    /// `fft_length`.
    pub fn accuracy(&self, sample_count: usize) -> Result<ScalarAccuracy, FeatureError> {
        let FeatureConfig { fft_length, frames, .. } = self.config;
        let plan = FramePlan::new(sample_count, fft_length, frames)?;
        let averages = independent_averages(fft_length, plan.hop_length(), plan.transforms());
        Ok(ScalarAccuracy::of(&self.channel, averages))
    }

    /// The configuration that the extractor was made with.
    pub fn config(&self) -> &FeatureConfig {
        &self.config
    }

    /// Computes the features of one recording.
    ///
    /// # Shapes
    ///
    /// - `samples`: `[n]`, relative to full scale
    /// - returns: levels `[bands, frames]`, in dB
    ///
    /// # Errors
    ///
    /// - [`FeatureError::Empty`] and [`FeatureError::TooShort`] if `n` is below `fft_length`.
    /// - [`FeatureError::NotFinite`] for the first sample that is not a finite number.
    /// - [`FeatureError::Overflow`] for samples so large that their power is infinite.
    /// - [`FeatureError::Silent`] if all samples are zero, as there is no noise floor then.
    pub fn extract(&self, samples: &[Complex32]) -> Result<ReceiverFeatures, FeatureError> {
        let mut stream = self.stream(samples.len())?;
        stream.push(samples)?;
        stream.finish()
    }

    /// Starts on a recording of `sample_count` samples that comes in chunks.
    ///
    /// # Errors
    ///
    /// [`FeatureError::Empty`] and [`FeatureError::TooShort`] if that is below `fft_length`.
    pub fn stream(&self, sample_count: usize) -> Result<FeatureStream<'_>, FeatureError> {
        let (bins, bands, frames) =
            (self.transform.length(), self.bank.bands(), self.config.frames);
        let plan = FramePlan::new(sample_count, bins, frames)?;
        Ok(FeatureStream {
            extractor: self,
            plan,
            averager: Averager::planned(plan, &self.transform),
            moments: SampleMoments::default(),
            totals: Totals {
                welch: vec![0.0; bins],
                band_psd: vec![0.0; bands],
                levels: vec![0.0; bands * frames],
                frame: 0,
            },
            sample_count,
        })
    }
}

/// A recording that comes in chunks.
///
/// Its features are the same, to the last bit, as those of the whole recording, and memory is taken
/// for two frames of samples, however long the recording is.
#[derive(Clone, Debug)]
pub struct FeatureStream<'a> {
    extractor: &'a FeatureExtractor,
    plan: FramePlan,
    averager: Averager<f32>,
    moments: SampleMoments,
    totals: Totals,
    sample_count: usize,
}

/// What the frames up to now have brought.
#[derive(Clone, Debug)]
struct Totals {
    /// Sum of the densities of all transforms.
    welch: Vec<f64>,
    band_psd: Vec<f32>,
    /// `[bands, frames]`, densities.
    levels: Vec<f32>,
    frame: usize,
}

impl FeatureStream<'_> {
    /// Takes the next samples.
    ///
    /// # Errors
    ///
    /// - [`FeatureError::NotFinite`] for the first sample that is not a finite number.
    /// - [`FeatureError::Overflow`] for samples so large that their power is infinite.
    pub fn push(&mut self, samples: &[Complex32]) -> Result<(), FeatureError> {
        let Self { extractor, plan, averager, moments, totals, .. } = self;
        moments.add(samples);
        averager.push(samples, &extractor.transform, |psd: &[f32]| {
            totals.add(psd, plan, &extractor.bank)
        })
    }

    /// Ends the recording, and computes its features.
    ///
    /// # Errors
    ///
    /// - [`FeatureError::NotFinite`] for a sample behind the last frame.
    /// - [`FeatureError::Silent`] if all samples are zero, as there is no noise floor then.
    ///
    /// # Panics
    ///
    /// Panics if the number of samples is not that with which the stream was started.
    pub fn finish(self) -> Result<ReceiverFeatures, FeatureError> {
        let Self { extractor, plan, mut averager, moments, mut totals, sample_count } = self;
        let config = &extractor.config;
        averager
            .finish(&extractor.transform, |psd: &[f32]| totals.add(psd, &plan, &extractor.bank))?;
        assert_eq!(moments.count(), sample_count, "the recording has the length that was stated");
        if moments.is_silent() {
            return Err(FeatureError::Silent { sample_count });
        }
        let Totals { mut welch, mut levels, .. } = totals;
        for sum in &mut welch {
            *sum /= plan.transforms() as f64;
        }
        let averages =
            independent_averages(config.fft_length, plan.hop_length(), plan.transforms());
        let (scalars, carrier_offset_hz) = receiver_scalars(
            &moments,
            &welch,
            &extractor.channel,
            averages,
            config.detection_snr_db,
        );
        let reference_db = match config.level {
            LevelReference::NoiseFloor => scalars.noise_psd_db,
            LevelReference::Absolute => 0.0,
        };
        for level in &mut levels {
            *level = decibels(level.max(PSD_MIN as f32)) - reference_db;
        }
        Ok(ReceiverFeatures { levels_db: levels, scalars, carrier_offset_hz })
    }
}

impl Totals {
    /// Adds the mean density of a frame; returns whether it is finite.
    fn add(&mut self, psd: &[f32], plan: &FramePlan, bank: &FilterBank) -> bool {
        let Self { welch, band_psd, levels, frame } = self;
        let transforms = plan.transforms_of(*frame) as f64;
        for (sum, &density) in welch.iter_mut().zip(psd) {
            *sum += f64::from(density) * transforms;
        }
        bank.apply(psd, band_psd);
        for (row, &density) in levels.chunks_exact_mut(plan.frames()).zip(&*band_psd) {
            row[*frame] = density;
        }
        *frame += 1;
        band_psd.iter().all(|density| density.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Signal, Station, carrier, gaussian_noise};
    use crate::transform::hann;

    const SAMPLE_RATE_HZ: f64 = 24_000.0;

    fn extractor(config: &FeatureConfig) -> FeatureExtractor {
        FeatureExtractor::new(config, SAMPLE_RATE_HZ).unwrap()
    }

    /// A carrier `snr_db` above white noise of power `noise` in the whole sample rate.
    fn noisy_carrier(length: usize, snr_db: f64, noise: f32, seed: u64) -> Vec<Complex32> {
        let amplitude = noise.sqrt() * 10_f64.powf(snr_db / 20.0) as f32;
        carrier(length, 0.0625)
            .iter()
            .zip(gaussian_noise(length, seed))
            .map(|(signal, sample)| signal * amplitude + sample * noise.sqrt())
            .collect()
    }

    #[test]
    fn noise_floor_of_noise_is_its_density() {
        for (length, tolerance_db) in [(240, 1.2), (2_400, 0.4), (24_000, 0.15), (240_000, 0.05)] {
            let config = FeatureConfig { fft_length: 256.min(length), ..FeatureConfig::default() };
            let config = FeatureConfig { bands: 64, ..config };

            let features = extractor(&config).extract(&gaussian_noise(length, 11)).unwrap();

            // Power 1 in 24 kHz.
            let expected_db = -10.0 * SAMPLE_RATE_HZ.log10();
            let difference_db = f64::from(features.scalars.noise_psd_db) - expected_db;
            assert!(difference_db.abs() < tolerance_db, "{length}: {difference_db} dB");
            assert!(!features.scalars.detected);
        }
    }

    #[test]
    fn noise_alone_has_levels_around_zero() {
        let features =
            extractor(&FeatureConfig::default()).extract(&gaussian_noise(240_000, 2)).unwrap();

        let ratio = features
            .levels_db
            .iter()
            .map(|&level| 10_f64.powf(f64::from(level) / 10.0))
            .sum::<f64>()
            / features.levels_db.len() as f64;
        assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
    }

    #[test]
    fn signal_to_noise_ratio_is_that_of_the_channel() {
        // Half of the noise falls into the channel: 10 dB in 24 kHz are 13 dB in 12 kHz.
        let features =
            extractor(&FeatureConfig::default()).extract(&noisy_carrier(24_000, 10.0, 1e-6, 3));

        let scalars = features.unwrap().scalars;
        assert!((scalars.snr_db - 13.0).abs() < 0.3, "{scalars:?}");
        // 10 dB and the noise of 0 - 3 dB, above -60 dB.
        assert!((scalars.power_db - (-60.0 + 10.2)).abs() < 0.2, "{scalars:?}");
        assert!(scalars.detected);
        // A Hann window spreads a carrier over four bins at most.
        assert!(scalars.bandwidth_hz < 4.0 * 93.75, "{scalars:?}");
    }

    /// A flat band of 5 kHz, 20 dB above the noise in it: 99 % of it are 4.95 kHz, and the channel of
    /// 12 kHz holds 2.4 times the noise of the band.
    #[test]
    fn occupied_bandwidth_is_measured_and_the_channel_is_configured() {
        let signal = Signal::flat(0.0, 2_500.0, 21);
        let noise = (1.0 / 100.0 * 24.0 / 5.0_f64).sqrt();
        let station = Station { noise, samples: 96_000, ..Station::new(0.0, 22) };
        let samples = station.record(&signal).samples;

        let narrow = FeatureConfig { channel_bandwidth_hz: Some(5_000.0), ..Default::default() };
        let [wide, narrow] = [FeatureConfig::default(), narrow]
            .map(|config| extractor(&config).extract(&samples).unwrap());

        for features in [&wide, &narrow] {
            let bandwidth_hz = features.scalars.bandwidth_hz;
            // 400 carriers at random frequencies leave gaps at the edges; a bin is 23 to 94 Hz.
            assert!((bandwidth_hz - 4_950.0).abs() < 150.0, "{bandwidth_hz}");
            assert!(features.carrier_offset_hz.unwrap().abs() < 250.0, "{features:?}");
        }
        // 400 carriers of amplitude 0.05 have power 1, that is 0 dB.
        assert!((narrow.scalars.snr_db - 20.0).abs() < 0.5, "{:?}", narrow.scalars);
        assert!((wide.scalars.snr_db - 16.2).abs() < 0.5, "{:?}", wide.scalars);
        assert!(wide.scalars.power_db.abs() < 0.5 && narrow.scalars.power_db.abs() < 0.5);
    }

    #[test]
    fn gain_changes_absolute_levels_only() {
        let quiet = noisy_carrier(5_000, 20.0, 1e-4, 9);
        let loud: Vec<_> = quiet.iter().map(|sample| sample * 8.0).collect();
        let cases = [(LevelReference::NoiseFloor, 0.0), (LevelReference::Absolute, 18.061_8)];
        for (level, expected_db) in cases {
            let extractor = extractor(&FeatureConfig { level, ..FeatureConfig::default() });

            let quiet = extractor.extract(&quiet).unwrap().levels_db;
            let loud = extractor.extract(&loud).unwrap().levels_db;

            for (quiet, loud) in quiet.iter().zip(&loud) {
                assert!((loud - quiet - expected_db).abs() < 1e-3, "{quiet} {loud}");
            }
        }
    }

    /// Frame by frame and bin by bin, in double precision.
    #[test]
    fn levels_equal_the_definition() {
        let config = FeatureConfig {
            bands: 3,
            frames: 4,
            fft_length: 16,
            level: LevelReference::Absolute,
            channel_bandwidth_hz: Some(4_000.0),
            ..FeatureConfig::default()
        };
        let samples = gaussian_noise(150, 21);

        let levels_db = extractor(&config).extract(&samples).unwrap().levels_db;

        // 134 / 3 > 16: hop 8, transforms 0..17 in groups of 4, 4, 4, 5.
        let window: Vec<f64> = hann(16).collect();
        let power: f64 = window.iter().map(|weight| weight * weight).sum();
        let psd = |transform: usize, row: usize| {
            let (mut re, mut im) = (0.0, 0.0);
            for k in 0..16 {
                let sample = samples[transform * 8 + k];
                let angle = -std::f64::consts::TAU * (row as f64 - 8.0) * k as f64 / 16.0;
                let (x, y) = (f64::from(sample.re) * window[k], f64::from(sample.im) * window[k]);
                re += x * angle.cos() - y * angle.sin();
                im += x * angle.sin() + y * angle.cos();
            }
            (re * re + im * im) / (power * SAMPLE_RATE_HZ)
        };
        for (frame, group) in [0..4, 4..8, 8..12, 12..17].into_iter().enumerate() {
            for band in 0..3 {
                // Corners four bins apart.
                let weight = |row: usize| {
                    (1.0 - (row as f64 - 4.0 * (band + 1) as f64).abs() / 4.0).max(0.0)
                };
                let total: f64 = (0..16).map(weight).sum();
                let mean: f64 = group
                    .clone()
                    .map(|transform| {
                        (0..16).map(|row| weight(row) * psd(transform, row)).sum::<f64>() / total
                    })
                    .sum::<f64>()
                    / group.len() as f64;
                let difference = f64::from(levels_db[band * 4 + frame]) - 10.0 * mean.log10();
                assert!(difference.abs() < 1e-4, "band {band}, frame {frame}: {difference} dB");
            }
        }
    }

    #[test]
    fn unusable_samples_are_refused() {
        let extractor = extractor(&FeatureConfig::default());
        let mut broken = carrier(300, 0.1);
        broken[299].re = f32::NAN;

        assert_eq!(extractor.extract(&[]), Err(FeatureError::Empty));
        assert_eq!(
            extractor.extract(&carrier(255, 0.1)),
            Err(FeatureError::TooShort { frame_length: 256, sample_count: 255 })
        );
        assert_eq!(extractor.extract(&broken), Err(FeatureError::NotFinite { index: 299 }));
        assert_eq!(
            extractor.extract(&[Complex32::ZERO; 300]),
            Err(FeatureError::Silent { sample_count: 300 })
        );
    }

    /// A constant offset is a carrier at the center: in a Hann window it takes three bins, and noise
    /// is measured beside the channel.
    #[test]
    fn offset_of_the_samples_is_a_carrier_at_the_center() {
        let extractor = extractor(&FeatureConfig::default());
        let noise = gaussian_noise(24_000, 12);
        let with_offset: Vec<_> = noise.iter().map(|sample| sample + 3.0).collect();

        let before = extractor.extract(&noise).unwrap();
        let after = extractor.extract(&with_offset).unwrap();

        assert!((after.scalars.noise_psd_db - before.scalars.noise_psd_db).abs() < 0.01);
        assert!(after.carrier_offset_hz.unwrap().abs() < 50.0, "{:?}", after.carrier_offset_hz);
        assert!(after.scalars.bandwidth_hz < 4.0 * 93.75, "{:?}", after.scalars);
        for (band, (before, after)) in
            before.levels_db.chunks(32).zip(after.levels_db.chunks(32)).enumerate()
        {
            // Bands are triangles of two bins to each side; 63 and 64 lie around the center.
            if !(60..68).contains(&band) {
                for (before, after) in before.iter().zip(after) {
                    assert!((before - after).abs() < 0.05, "band {band}: {before} {after}");
                }
            }
        }
        assert!(after.levels_db[63 * 32] > before.levels_db[63 * 32] + 15.0);
    }

    /// Clipped samples are taken as they are; what clipping adds are harmonics, which are seen.
    #[test]
    fn clipped_carrier_has_harmonics() {
        let clipped: Vec<_> = noisy_carrier(24_000, 60.0, 1e-6, 4)
            .iter()
            .map(|x| Complex32::new(x.re.clamp(-0.5, 0.5), x.im.clamp(-0.5, 0.5)))
            .collect();

        let features = extractor(&FeatureConfig::default()).extract(&clipped).unwrap();

        // 1.5 kHz, and its third harmonic on the other side: 4.5 kHz below the center.
        let level = |frequency_hz: f64| {
            let band = ((frequency_hz / 24e3 + 0.5) * 129.0 - 1.0).round() as usize;
            features.levels_db[band * 32]
        };
        assert!(level(-4_500.0) > level(-3_700.0) + 20.0);
        assert!(level(1_500.0) > level(-4_500.0) + 10.0);
    }

    #[test]
    fn samples_whose_power_is_infinite_are_refused() {
        let huge: Vec<_> = carrier(600, 0.1).iter().map(|sample| sample * 1e25).collect();

        let error = extractor(&FeatureConfig::default()).extract(&huge).unwrap_err();

        assert_eq!(error, FeatureError::Overflow { start: 0 });
    }

    #[test]
    fn carrier_offset_is_reported() {
        let features =
            extractor(&FeatureConfig::default()).extract(&noisy_carrier(24_000, 20.0, 1e-4, 6));

        // 0.0625 of 24 kHz.
        let offset_hz = features.unwrap().carrier_offset_hz.unwrap();
        assert!((offset_hz - 1_500.0).abs() < 10.0, "{offset_hz}");
    }

    #[test]
    fn unusable_configurations_are_refused_by_field() {
        let valid = FeatureConfig::default;
        let cases = [
            ("`bands`", FeatureConfig { bands: 0, ..valid() }),
            ("`frames`", FeatureConfig { frames: 0, ..valid() }),
            ("`fft_length`", FeatureConfig { fft_length: 255, ..valid() }),
            ("128 bands", FeatureConfig { fft_length: 64, ..valid() }),
            ("`bandwidth_hz`", FeatureConfig { bandwidth_hz: Some(30e3), ..valid() }),
            (
                "`channel_bandwidth_hz`",
                FeatureConfig { channel_bandwidth_hz: Some(17e3), ..valid() },
            ),
            (
                "`channel_bandwidth_hz`",
                FeatureConfig { channel_bandwidth_hz: Some(-1.0), ..valid() },
            ),
            ("`detection_snr_db`", FeatureConfig { detection_snr_db: f32::NAN, ..valid() }),
        ];
        for (named, config) in cases {
            let error = FeatureExtractor::new(&config, SAMPLE_RATE_HZ).unwrap_err();

            assert!(error.to_string().contains(named), "{error} does not name {named}");
        }
    }

    #[test]
    fn misspelt_field_is_refused() {
        let error = serde_json::from_str::<FeatureConfig>(r#"{"bandz": 3}"#).unwrap_err();

        assert!(error.to_string().contains("bandz"), "{error}");
    }

    #[test]
    fn extractor_is_shared_by_threads() {
        let extractor = extractor(&FeatureConfig::default());
        let samples = gaussian_noise(3_000, 8);
        let alone = extractor.extract(&samples).unwrap();

        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..3).map(|_| scope.spawn(|| extractor.extract(&samples).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(together.iter().all(|features| *features == alone));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Every length from one transform on gives the same shape and finite levels.
        #[test]
        fn shape_does_not_depend_on_the_length(extra in 0_usize..20_000, seed in 0_u64..10) {
            let extractor = extractor(&FeatureConfig::default());

            let features = extractor.extract(&gaussian_noise(256 + extra, seed)).unwrap();

            prop_assert_eq!(features.levels_db.len(), 128 * 32);
            prop_assert!(features.levels_db.iter().all(|level| level.is_finite()));
        }

        /// In whatever chunks a recording comes, its features are the same to the last bit.
        #[test]
        fn chunks_do_not_change_a_bit(
            length in 256_usize..12_000,
            chunks in proptest::collection::vec(1_usize..5_000, 1..5),
        ) {
            let extractor = extractor(&FeatureConfig::default());
            let samples = gaussian_noise(length, 14);
            let whole = extractor.extract(&samples).unwrap();

            let mut stream = extractor.stream(length).unwrap();
            let mut rest = samples.as_slice();
            for &chunk in chunks.iter().cycle() {
                let (now, later) = rest.split_at(chunk.min(rest.len()));
                stream.push(now).unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let chunked = stream.finish().unwrap();

            prop_assert!(chunked.levels_db.iter().zip(&whole.levels_db)
                .all(|(a, b)| a.to_bits() == b.to_bits()));
            prop_assert_eq!(chunked, whole);
        }

        /// One sample more or less changes the levels of a stationary signal by next to nothing.
        #[test]
        fn one_sample_more_changes_little(length in 257_usize..20_000) {
            let extractor = extractor(&FeatureConfig {
                level: LevelReference::Absolute,
                ..FeatureConfig::default()
            });

            let before = extractor.extract(&carrier(length, 0.0625)).unwrap();
            let after = extractor.extract(&carrier(length + 1, 0.0625)).unwrap();

            let strongest = before.levels_db.iter().copied().fold(f32::MIN, f32::max);
            for (before, after) in before.levels_db.iter().zip(&after.levels_db) {
                // Bands that hold only rounding errors may differ.
                if *before > strongest - 80.0 {
                    prop_assert!((before - after).abs() < 0.01, "{} {}", before, after);
                }
            }
        }
    }
}
