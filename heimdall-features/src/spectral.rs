//! Spectra, bands and cepstra over time, of recordings of any length.

use num_complex::Complex32;
use pulp::{Arch, Simd, WithSimd};

use crate::FeatureError;
use crate::averager::{Averager, SpectrumSink};
use crate::cepstrum::Cepstrum;
use crate::filter_bank::FilterBank;
use crate::framer::Framer;
use crate::frames::FramePlan;
use crate::real::Real;
use crate::refine::{Refiner, RefinerScratch};
use crate::spectral_config::{Framing, SpectralConfig, SpectralRows, SpectrumUnit};
use crate::stft::{check_fft_length, check_hop_length, check_sample_rate, count_frames};
use crate::transform::Transform;

/// Turns recordings of one sample rate into rows over time, planned once for many.
///
/// All windows are periodic Hann windows. A level is `10 log10(max(value, value_min))`, with
/// [`SpectrumUnit::value_min`]; nothing is clipped relative to the maximum, as that would destroy
/// the level. An extractor can be shared by threads.
///
/// # Examples
///
/// ```
/// use heimdall_features::{
///     FilterBankConfig, FilterBankKind, Framing, SpectralConfig, SpectralExtractor, SpectralRows,
/// };
/// use num_complex::Complex32;
///
/// let bank = FilterBankConfig { bands: 40, kind: FilterBankKind::MelFolded, ..Default::default() };
/// let config = SpectralConfig {
///     fft_length: 512,
///     framing: Framing::Hop { hop_length: 256, center: false },
///     rows: SpectralRows::Cepstrum { bank, coefficients: 13 },
///     ..SpectralConfig::default()
/// };
/// let extractor = SpectralExtractor::<f32>::new(&config, 12_000.0)?;
/// let carrier: Vec<Complex32> = (0..12_000).map(|n| Complex32::cis(0.1 * n as f32)).collect();
///
/// let cepstra = extractor.extract(&carrier)?;
///
/// assert_eq!((cepstra.rows, cepstra.frames), (13, 45));
/// # Ok::<(), heimdall_features::FeatureError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpectralExtractor<T: Real> {
    transform: Transform<T>,
    framing: Framing,
    value_min: T,
    bank: Option<FilterBank>,
    cepstrum: Option<Cepstrum>,
    refiner: Option<Refiner<T>>,
    arch: Arch,
}

/// Rows over time.
#[derive(Clone, Debug, PartialEq)]
pub struct SpectralMap<T> {
    /// Number of rows: bins, bands or coefficients.
    pub rows: usize,
    /// Number of frames, from the first on.
    pub frames: usize,
    /// `[rows, frames]`
    pub values: Vec<T>,
}

impl<T: Real> SpectralExtractor<T> {
    /// Plans the extraction.
    ///
    /// # Errors
    ///
    /// - [`FeatureError::InvalidConfig`] if `config` breaks a rule, or `sample_rate_hz` is not
    ///   positive.
    /// - [`FeatureError::EmptyFilter`] if a band lies between two bins.
    pub fn new(config: &SpectralConfig, sample_rate_hz: f64) -> Result<Self, FeatureError> {
        let &SpectralConfig { fft_length, framing, unit, ref rows, exact_levels } = config;
        check_fft_length(fft_length)?;
        check_sample_rate(sample_rate_hz)?;
        match framing {
            Framing::Hop { hop_length, .. } => check_hop_length(hop_length)?,
            Framing::Count { frames } => crate::frames::check_frames(frames)?,
        }
        let new_bank = |bank| FilterBank::new(bank, fft_length, sample_rate_hz).map(Some);
        let (bank, cepstrum) = match rows {
            SpectralRows::Bins => (None, None),
            SpectralRows::Bands { bank } => (new_bank(bank)?, None),
            SpectralRows::Cepstrum { bank, coefficients } => {
                let cepstrum = Cepstrum::new(bank.bands, *coefficients)?;
                (new_bank(bank)?, Some(cepstrum))
            }
        };
        let transform = match unit {
            SpectrumUnit::Density => Transform::density(fft_length, sample_rate_hz),
            SpectrumUnit::Power => Transform::power(fft_length),
        };
        let value_min = T::rounded(unit.value_min());
        let refine = exact_levels && !T::IS_DOUBLE;
        let refiner = refine.then(|| Refiner::new(&transform, bank.as_ref()));
        Ok(Self { transform, framing, value_min, bank, cepstrum, refiner, arch: Arch::new() })
    }

    /// Number of rows of a result.
    pub fn rows(&self) -> usize {
        match (&self.bank, &self.cepstrum) {
            (_, Some(cepstrum)) => cepstrum.coefficients(),
            (Some(bank), None) => bank.bands(),
            (None, None) => self.transform.length(),
        }
    }

    /// Counts the frames of a recording.
    ///
    /// # Errors
    ///
    /// [`FeatureError::Empty`] and [`FeatureError::TooShort`] if there is none.
    pub fn frame_count(&self, sample_count: usize) -> Result<usize, FeatureError> {
        let fft_length = self.transform.length();
        match self.framing {
            Framing::Count { frames } => {
                FramePlan::new(sample_count, fft_length, frames).map(|plan| plan.frames())
            }
            Framing::Hop { hop_length, center } => {
                count_frames(sample_count, fft_length, hop_length, center)
            }
        }
    }

    /// Starts on a recording that comes in chunks.
    ///
    /// `sample_count` is the length of the whole recording; it is needed for [`Framing::Count`],
    /// and may be unknown for [`Framing::Hop`].
    ///
    /// # Errors
    ///
    /// - [`FeatureError::Empty`] and [`FeatureError::TooShort`] if the recording has no frame.
    /// - [`FeatureError::UnknownLength`] if `sample_count` is needed.
    pub fn stream(
        &self,
        sample_count: Option<usize>,
    ) -> Result<SpectralStream<'_, T>, FeatureError> {
        let fft_length = self.transform.length();
        let averager = match (self.framing, sample_count) {
            (Framing::Count { frames }, Some(sample_count)) => {
                let plan = FramePlan::new(sample_count, fft_length, frames)?;
                Averager::planned(plan, &self.transform)
            }
            (Framing::Count { .. }, None) => return Err(FeatureError::UnknownLength),
            (Framing::Hop { hop_length, center }, _) => {
                let framer = Framer::new(fft_length, hop_length);
                let framer = if center { framer.centered() } else { framer };
                Averager::each(framer, &self.transform)
            }
        };
        let levels = self.bank.as_ref().map_or(fft_length, FilterBank::bands);
        Ok(SpectralStream {
            extractor: self,
            averager,
            rows: Rows {
                levels: vec![T::zero(); levels],
                coefficients: vec![
                    T::zero();
                    self.cepstrum.as_ref().map_or(0, Cepstrum::coefficients)
                ],
                refiner: self.refiner.as_ref().map(Refiner::scratch),
                frames: 0,
            },
            sample_count,
        })
    }

    /// Computes the rows of a recording.
    ///
    /// # Shapes
    ///
    /// - `samples`: `[n]`, relative to full scale
    /// - returns: `[rows, frames]`
    ///
    /// # Errors
    ///
    /// - [`FeatureError::Empty`] and [`FeatureError::TooShort`] if there is no frame.
    /// - [`FeatureError::NotFinite`] for the first sample that is not a finite number.
    /// - [`FeatureError::Overflow`] for samples so large that their power is infinite.
    pub fn extract(&self, samples: &[Complex32]) -> Result<SpectralMap<T>, FeatureError> {
        let mut stream = self.stream(Some(samples.len()))?;
        let mut by_frame = Vec::new();
        stream.push(samples, |row| by_frame.extend_from_slice(row))?;
        stream.finish(|row| by_frame.extend_from_slice(row))?;
        let rows = self.rows();
        let frames = by_frame.len() / rows;
        let value = |index: usize| by_frame[index % frames * rows + index / frames];
        Ok(SpectralMap { rows, frames, values: (0..by_frame.len()).map(value).collect() })
    }
}

/// A recording that comes in chunks.
///
/// The frames are the same, to the last bit, as those of the whole recording; memory is taken for
/// two frames of samples, however long the recording is, and none is allocated on the way.
#[derive(Debug)]
pub struct SpectralStream<'a, T: Real> {
    extractor: &'a SpectralExtractor<T>,
    averager: Averager<T>,
    rows: Rows<T>,
    sample_count: Option<usize>,
}

/// Memory in which the rows of a frame are made, and their number up to now.
#[derive(Debug)]
struct Rows<T> {
    levels: Vec<T>,
    coefficients: Vec<T>,
    refiner: Option<RefinerScratch>,
    frames: usize,
}

impl<T: Real> SpectralStream<'_, T> {
    /// Takes the next samples, and hands the frames that are complete with them to `sink`, `[rows]`
    /// each.
    ///
    /// # Errors
    ///
    /// - [`FeatureError::NotFinite`] for the first sample that is not a finite number.
    /// - [`FeatureError::Overflow`] for samples so large that their power is infinite.
    pub fn push(
        &mut self,
        samples: &[Complex32],
        sink: impl FnMut(&[T]),
    ) -> Result<(), FeatureError> {
        let Self { extractor, averager, rows, .. } = self;
        averager.push(samples, &extractor.transform, RowMaker { extractor, rows, sink })
    }

    /// Ends the recording, and hands on the frames that reach beyond its end.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push`], and [`FeatureError::Empty`] and [`FeatureError::TooShort`] if there
    /// was no frame.
    ///
    /// # Panics
    ///
    /// Panics if the number of samples is not that with which the stream was started.
    pub fn finish(self, sink: impl FnMut(&[T])) -> Result<(), FeatureError> {
        let Self { extractor, mut averager, mut rows, .. } = self;
        let maker = RowMaker { extractor, rows: &mut rows, sink };
        let sample_count = averager.finish(&extractor.transform, maker)?;
        if let Some(expected) = self.sample_count {
            assert_eq!(sample_count, expected, "the recording has the length that was stated");
        }
        match (sample_count, rows.frames) {
            (0, _) => Err(FeatureError::Empty),
            (_, 0) => {
                let frame_length = extractor.transform.length();
                Err(FeatureError::TooShort { frame_length, sample_count })
            }
            _ => Ok(()),
        }
    }
}

/// Makes rows of spectra, and hands them on.
struct RowMaker<'a, T: Real, F> {
    extractor: &'a SpectralExtractor<T>,
    rows: &'a mut Rows<T>,
    sink: F,
}

impl<T: Real, F: FnMut(&[T])> SpectrumSink<T> for RowMaker<'_, T, F> {
    fn refine(&mut self, samples: &[Complex32], bins: &mut [T]) {
        if let Some(scratch) = &mut self.rows.refiner {
            self.extractor.reduce(bins, &mut self.rows.levels);
            self.extractor.refine(samples, &self.rows.levels, bins, scratch);
        }
    }

    fn take(&mut self, samples: Option<&[Complex32]>, bins: &mut [T]) -> bool {
        let Self { extractor, rows: Rows { levels, coefficients, refiner, frames }, sink } = self;
        *frames += 1;
        extractor.reduce(bins, levels);
        if let (Some(samples), Some(scratch)) = (samples, refiner)
            && extractor.refine(samples, levels, bins, scratch)
        {
            extractor.reduce(bins, levels);
        }
        let value_min = extractor.value_min;
        if !extractor.arch.dispatch(ToDecibels { values: levels, value_min }) {
            return false;
        }
        match &extractor.cepstrum {
            Some(cepstrum) => {
                cepstrum.apply(levels, coefficients);
                sink(coefficients);
            }
            None => sink(levels),
        }
        true
    }
}

impl<T: Real> SpectralExtractor<T> {
    /// Computes the powers of bands, or of the bins where there are none.
    fn reduce(&self, bins: &[T], powers: &mut [T]) {
        match &self.bank {
            Some(bank) => bank.apply(bins, powers),
            None => powers.copy_from_slice(bins),
        }
    }

    /// Improves bins where that shows in the powers; returns whether it did.
    fn refine(
        &self,
        samples: &[Complex32],
        powers: &[T],
        bins: &mut [T],
        scratch: &mut RefinerScratch,
    ) -> bool {
        let Some(refiner) = &self.refiner else { return false };
        refiner.refine(samples, powers, self.value_min, bins, scratch)
    }
}

/// Converts powers to decibels; returns whether all were finite.
struct ToDecibels<'a, T> {
    values: &'a mut [T],
    value_min: T,
}

impl<T: Real> WithSimd for ToDecibels<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let mut usable = true;
        for value in self.values {
            usable &= value.is_usable();
            let floored = if *value > self.value_min { *value } else { self.value_min };
            *value = floored.decibels();
        }
        usable
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{carrier, gaussian_noise};
    use crate::{EmptyBands, FilterBankConfig, FilterBankKind};

    const SAMPLE_RATE_HZ: f64 = 8_000.0;

    fn bank(kind: FilterBankKind) -> FilterBankConfig {
        let empty_bands = EmptyBands::Silent;
        FilterBankConfig { bands: 12, kind, empty_bands, ..FilterBankConfig::default() }
    }

    fn extractor<T: Real>(framing: Framing, rows: SpectralRows) -> SpectralExtractor<T> {
        let config = SpectralConfig { fft_length: 64, framing, rows, ..SpectralConfig::default() };
        SpectralExtractor::new(&config, SAMPLE_RATE_HZ).unwrap()
    }

    fn assert_chunks_do_not_change_a_bit<T: Real>(
        extractor: &SpectralExtractor<T>,
        samples: &[Complex32],
        chunks: &[usize],
    ) {
        let whole = extractor.extract(samples);
        let mut by_frame: Vec<T> = Vec::new();
        let chunked = (|| {
            let mut stream = extractor.stream(Some(samples.len()))?;
            let mut rest = samples;
            for &chunk in chunks.iter().cycle() {
                let (next, after) = rest.split_at(chunk.min(rest.len()));
                stream.push(next, |row| by_frame.extend_from_slice(row))?;
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            stream.finish(|row| by_frame.extend_from_slice(row))
        })();

        match (whole, chunked) {
            (Ok(whole), Ok(())) => {
                assert_eq!(whole.values.len(), by_frame.len());
                for (index, &value) in by_frame.iter().enumerate() {
                    let (frame, row) = (index / whole.rows, index % whole.rows);
                    // Other bits of a single number are other bits of a double one.
                    let [value, expected]: [f64; 2] =
                        [value, whole.values[row * whole.frames + frame]].map(Into::into);
                    assert_eq!(value.to_bits(), expected.to_bits(), "row {row}, frame {frame}");
                }
            }
            (whole, chunked) => assert_eq!(whole.map(|_| ()), chunked),
        }
    }

    fn any_framing() -> impl Strategy<Value = Framing> {
        prop_oneof![
            (1_usize..150, any::<bool>())
                .prop_map(|(hop_length, center)| Framing::Hop { hop_length, center }),
            (1_usize..12).prop_map(|frames| Framing::Count { frames }),
        ]
    }

    fn any_rows() -> impl Strategy<Value = SpectralRows> {
        use FilterBankKind::{Linear, Mel, MelFolded, MelSymmetric};
        let kinds = [Linear, Mel, MelFolded, MelSymmetric];
        prop_oneof![
            Just(SpectralRows::Bins),
            proptest::sample::select(kinds.to_vec())
                .prop_map(|kind| SpectralRows::Bands { bank: bank(kind) }),
            Just(SpectralRows::Cepstrum { bank: bank(Linear), coefficients: 5 }),
        ]
    }

    #[test]
    fn silence_is_at_the_lowest_level() {
        let framing = Framing::Hop { hop_length: 32, center: false };
        for (unit, expected_db) in [(SpectrumUnit::Density, -300.0), (SpectrumUnit::Power, -100.0)]
        {
            let config = SpectralConfig { fft_length: 64, framing, unit, ..Default::default() };
            let extractor = SpectralExtractor::<f64>::new(&config, SAMPLE_RATE_HZ).unwrap();

            let map = extractor.extract(&[Complex32::ZERO; 100]).unwrap();

            assert_eq!(map.frames, 2);
            assert!(map.values.iter().all(|level: &f64| (level - expected_db).abs() < 1e-9));
        }
    }

    #[test]
    fn power_of_a_carrier_is_that_of_its_window() {
        let framing = Framing::Hop { hop_length: 32, center: false };
        let unit = SpectrumUnit::Power;
        let config = SpectralConfig { fft_length: 64, framing, unit, ..Default::default() };
        let extractor = SpectralExtractor::<f64>::new(&config, SAMPLE_RATE_HZ).unwrap();

        let map = extractor.extract(&carrier(64, 0.25)).unwrap();

        // The window adds up to 32, and the carrier is a quarter above the center.
        assert!((map.values[48] - 20.0 * 32_f64.log10()).abs() < 1e-5, "{}", map.values[48]);
    }

    #[test]
    fn recordings_without_a_frame_are_refused() {
        let framing = Framing::Hop { hop_length: 32, center: false };
        let started = extractor::<f32>(framing, SpectralRows::Bins);
        let centered = Framing::Hop { hop_length: 32, center: true };
        let centered = extractor::<f32>(centered, SpectralRows::Bins);
        let counted = extractor::<f32>(Framing::Count { frames: 3 }, SpectralRows::Bins);
        let too_short = FeatureError::TooShort { frame_length: 64, sample_count: 63 };

        for extractor in [&started, &centered, &counted] {
            assert_eq!(extractor.extract(&[]), Err(FeatureError::Empty));
        }
        for extractor in [&started, &counted] {
            assert_eq!(extractor.extract(&carrier(63, 0.1)), Err(too_short.clone()));
        }
        assert_eq!(centered.extract(&carrier(1, 0.1)).unwrap().frames, 1);
        assert_eq!(counted.stream(None).unwrap_err(), FeatureError::UnknownLength);
    }

    proptest! {
        /// In whatever chunks a recording comes, its rows are the same to the last bit, and so are
        /// complaints; in both precisions, and where low levels beside a carrier are computed again.
        #[test]
        fn chunks_do_not_change_a_bit(
            framing in any_framing(),
            rows in any_rows(),
            length in 64_usize..1_500,
            chunks in proptest::collection::vec(1_usize..300, 1..6),
            broken in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let mut samples: Vec<Complex32> = carrier(length, 0.11)
                .iter()
                .zip(gaussian_noise(length, 31))
                .map(|(carrier, noise)| carrier * 100.0 + noise)
                .collect();
            if let Some(index) = broken {
                samples[index.index(length)].re = f32::NAN;
            }
            let exact = SpectralConfig {
                fft_length: 64,
                framing,
                rows: rows.clone(),
                exact_levels: true,
                ..SpectralConfig::default()
            };
            let exact = SpectralExtractor::<f32>::new(&exact, SAMPLE_RATE_HZ).unwrap();

            assert_chunks_do_not_change_a_bit(&exact, &samples, &chunks);
            let single = extractor::<f32>(framing, rows.clone());
            assert_chunks_do_not_change_a_bit(&single, &samples, &chunks);
            let double = extractor::<f64>(framing, rows);
            assert_chunks_do_not_change_a_bit(&double, &samples, &chunks);
        }

        /// Both precisions agree as far as the lesser one reaches.
        #[test]
        fn precisions_agree(framing in any_framing(), seed in 0_u64..50) {
            let samples = gaussian_noise(900, seed);
            let rows = SpectralRows::Bands { bank: bank(FilterBankKind::Linear) };

            let single = extractor::<f32>(framing, rows.clone()).extract(&samples).unwrap();
            let double = extractor::<f64>(framing, rows);
            let counted = double.frame_count(samples.len()).unwrap();
            let double = double.extract(&samples).unwrap();

            prop_assert_eq!((single.rows, single.frames), (double.rows, double.frames));
            prop_assert_eq!(counted, double.frames);
            for (single, double) in single.values.iter().zip(&double.values) {
                prop_assert!((f64::from(*single) - double).abs() < 1e-3, "{} {}", single, double);
            }
        }

        /// A signal that is twice as strong is 6 dB stronger everywhere.
        #[test]
        fn gain_adds_to_all_levels(gain_db in -60.0_f64..60.0, rows in any_rows()) {
            prop_assume!(!matches!(rows, SpectralRows::Cepstrum { .. }));
            let framing = Framing::Hop { hop_length: 32, center: false };
            let samples = gaussian_noise(300, 9);
            let gain = 10_f64.powf(gain_db / 20.0) as f32;
            let louder: Vec<_> = samples.iter().map(|sample| sample * gain).collect();
            let extractor = extractor::<f64>(framing, rows);

            let before = extractor.extract(&samples).unwrap();
            let after = extractor.extract(&louder).unwrap();

            let gain_db = 20.0 * f64::from(gain).log10();
            for (before, after) in before.values.iter().zip(&after.values) {
                // A silent band stays silent; samples are in single precision.
                let silent = *before < -299.0;
                prop_assert!(silent || (after - before - gain_db).abs() < 1e-4, "{}", after);
            }
        }
    }
}
