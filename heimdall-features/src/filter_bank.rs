//! Triangular filters that reduce a spectrum to bands.

use pulp::Arch;
use serde::{Deserialize, Serialize};

use crate::FeatureError;
use crate::mel::MelScale;
use crate::real::Real;
use crate::segment::{ApplyRow, TriangleRow};
use crate::stft::{check_fft_length, check_sample_rate};

/// Where the bands of a filter bank lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterBankKind {
    /// Equally wide bands from the lowest frequency to the highest; for signals that are symmetric
    /// about the center.
    #[default]
    Linear,
    /// Mel bands of the distance to the center, mirrored: half of the bands below, half above.
    MelSymmetric,
    /// Mel bands of the distance to the center, both sides averaged.
    MelFolded,
    /// Mel bands of the upper side alone, for the spectrum of a real signal, whose sides are the
    /// same: librosa's.
    Mel,
}

/// What becomes of a band that lies between two bins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyBands {
    /// It is refused, with the length of a transform that has no such bands.
    #[default]
    Refuse,
    /// It is always zero, as it is in librosa.
    Silent,
}

/// How the weights of a band are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BandScaling {
    /// Weights add up to one: a band is the weighted mean of its bins, and white noise is flat.
    #[default]
    Mean,
    /// Triangles of equal area in hertz, `2 / (upper - lower)` high.
    Slaney,
    /// Triangles that are one high.
    Peak,
}

/// How a spectrum is reduced to bands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterBankConfig {
    /// Number of bands.
    pub bands: usize,
    /// Where the bands lie.
    pub kind: FilterBankKind,
    /// Mel scale, where bands are equally wide in mels.
    pub scale: MelScale,
    /// How the weights of a band are scaled.
    pub scaling: BandScaling,
    /// Width of all bands together, centered, in Hz; the sample rate where left out.
    pub bandwidth_hz: Option<f64>,
    /// What becomes of a band that lies between two bins.
    pub empty_bands: EmptyBands,
}

impl Default for FilterBankConfig {
    fn default() -> Self {
        Self {
            bands: 128,
            kind: FilterBankKind::default(),
            scale: MelScale::default(),
            scaling: BandScaling::default(),
            bandwidth_hz: None,
            empty_bands: EmptyBands::default(),
        }
    }
}

impl FilterBankConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// Returns [`FeatureError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FeatureError> {
        let invalid = |field, expected: &str, actual| {
            Err(FeatureError::InvalidConfig { field, expected: expected.to_owned(), actual })
        };
        if self.bands == 0 {
            return invalid("bands", "at least 1", 0.0);
        }
        if self.kind == FilterBankKind::MelSymmetric && !self.bands.is_multiple_of(2) {
            let expected = "even, as half of them lie on each side of the center";
            return invalid("bands", expected, self.bands as f64);
        }
        match self.bandwidth_hz {
            Some(bandwidth_hz) if !(bandwidth_hz.is_finite() && bandwidth_hz > 0.0) => {
                invalid("bandwidth_hz", "a positive number", bandwidth_hz)
            }
            _ => Ok(()),
        }
    }
}

/// The three corners of a triangle, in Hz from the center.
type Triangle = [f64; 3];

/// Triangular filters for one transform length and sample rate.
#[derive(Clone, Debug)]
pub struct FilterBank {
    rows: Vec<TriangleRow>,
    folded: bool,
    bins: usize,
    bands: usize,
    arch: Arch,
}

impl FilterBank {
    /// Computes the filters.
    ///
    /// # Errors
    ///
    /// - [`FeatureError::InvalidConfig`] if `config` breaks one of its rules, the band is wider
    ///   than the sample rate, or `fft_length` or `sample_rate_hz` cannot be transformed with.
    /// - [`FeatureError::EmptyFilter`] if a band lies between two bins.
    ///
    /// # References
    ///
    /// The triangles are those of B. McFee et al., "librosa: audio and music signal analysis in
    /// Python", SciPy 2015, [doi:10.25080/Majora-7b98e3ed-003](https://doi.org/10.25080/Majora-7b98e3ed-003).
    #[expect(clippy::doc_markdown, reason = "a person's name")]
    pub fn new(
        config: &FilterBankConfig,
        fft_length: usize,
        sample_rate_hz: f64,
    ) -> Result<Self, FeatureError> {
        config.validate()?;
        check_fft_length(fft_length)?;
        check_sample_rate(sample_rate_hz)?;
        let bandwidth_hz = config.bandwidth_hz.unwrap_or(sample_rate_hz);
        if bandwidth_hz > sample_rate_hz {
            return Err(FeatureError::InvalidConfig {
                field: "bandwidth_hz",
                expected: format!("at most the sample rate, {sample_rate_hz} Hz"),
                actual: bandwidth_hz,
            });
        }

        let rows = triangles(config, bandwidth_hz);
        if config.empty_bands == EmptyBands::Refuse {
            check_bins(&rows.concat(), fft_length, sample_rate_hz)?;
        }
        let row = |triangles: &Vec<_>| triangle_row(triangles, config, fft_length, sample_rate_hz);
        let rows: Vec<TriangleRow> = rows.iter().map(row).collect();
        let bands = rows.iter().map(TriangleRow::bands).sum();
        let folded = config.kind == FilterBankKind::MelFolded;
        Ok(Self { rows, folded, bins: fft_length, bands, arch: Arch::new() })
    }

    /// Number of bands.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Returns the largest weight of each band.
    pub(crate) fn largest_weights(&self) -> impl Iterator<Item = f32> {
        self.rows.iter().flat_map(|row| (0..row.bands()).map(|band| row.largest_weight(band)))
    }

    /// Reduces one spectrum to bands, without allocating.
    ///
    /// # Shapes
    ///
    /// - `spectrum`: `[fft_length]`, from `-sample_rate / 2` upwards
    /// - `bands`: `[bands]`, overwritten, in the unit of `spectrum`
    ///
    /// # Panics
    ///
    /// Panics if a length is another one.
    pub fn apply<T: Real>(&self, spectrum: &[T], bands: &mut [T]) {
        assert_eq!(spectrum.len(), self.bins, "one value per bin");
        assert_eq!(bands.len(), self.bands, "one value per band");
        let mut rest = bands;
        for row in &self.rows {
            let bands = rest.split_off_mut(..row.bands()).expect("there is a place for each");
            self.arch.dispatch(ApplyRow { row, spectrum, folded: self.folded, bands });
        }
    }
}

/// Computes the weights of triangles that follow one another.
///
/// They are rounded to single precision where librosa rounds them: that makes parity to the last
/// digit possible.
fn triangle_row(
    triangles: &[Triangle],
    config: &FilterBankConfig,
    fft_length: usize,
    sample_rate_hz: f64,
) -> TriangleRow {
    let half = (fft_length / 2) as i64; // A length of samples in memory fits.
    let bin_width_hz = sample_rate_hz / fft_length as f64;
    // The bin of half the sample rate exists once, at the lower end, and weighs nothing.
    let caught = |triangle: &Triangle| {
        let (first, last) = caught_bins(triangle, bin_width_hz);
        first..=last.min(half - 1)
    };
    let share = if config.kind == FilterBankKind::MelFolded { 0.5 } else { 1.0 };
    let scale = |triangle: &Triangle| match config.scaling {
        BandScaling::Mean => {
            let heights = caught(triangle).map(|k| height(triangle, k as f64 * bin_width_hz));
            share / heights.sum::<f64>()
        }
        BandScaling::Slaney => share * 2.0 / (triangle[2] - triangle[0]),
        BandScaling::Peak => share,
    };
    let scales: Vec<f64> = triangles.iter().map(scale).collect();

    let place = |bin: i64| {
        usize::try_from(bin + half).expect("bands lie within the sample rate").min(fft_length)
    };
    let (first, last) = (&triangles[0], &triangles[triangles.len() - 1]);
    // A segment begins behind one corner and ends at the next.
    let corners = std::iter::once(first[0]).chain(triangles.iter().map(|triangle| triangle[1]));
    let mut starts: Vec<usize> =
        corners.map(|corner_hz| place(first_bin_above(corner_hz, bin_width_hz))).collect();
    starts.push(place(caught(last).end() + 1));
    TriangleRow::new(fft_length, &starts, |index, place| {
        let triangle = &triangles[index];
        let bin = place as i64 - half;
        if !caught(triangle).contains(&bin) {
            return 0.0;
        }
        let height = height(triangle, bin as f64 * bin_width_hz) as f32;
        (f64::from(height) * scales[index]) as f32
    })
}

/// Computes the triangles of a bank in one or two rows, from the lowest up; each triangle of a row
/// begins at the middle of the one before.
fn triangles(config: &FilterBankConfig, bandwidth_hz: f64) -> Vec<Vec<Triangle>> {
    let half_hz = bandwidth_hz / 2.0;
    let mel_triangles = |bands: usize| -> Vec<Triangle> {
        let step = config.scale.mel(half_hz) / (bands + 1) as f64;
        let edge = move |i: usize| match i {
            // Exact at the upper end, whatever the rounding of the scale.
            i if i == bands + 1 => half_hz,
            i => config.scale.frequency_hz(step * i as f64),
        };
        (0..bands).map(move |i| [edge(i), edge(i + 1), edge(i + 2)]).collect()
    };
    match config.kind {
        FilterBankKind::Linear => {
            let step = bandwidth_hz / (config.bands + 1) as f64;
            let edge = |i: usize| -half_hz + step * i as f64;
            vec![(0..config.bands).map(|i| [edge(i), edge(i + 1), edge(i + 2)]).collect()]
        }
        FilterBankKind::MelSymmetric => {
            let upper = mel_triangles(config.bands / 2);
            let mirrored = |&[low, middle, high]: &Triangle| [-high, -middle, -low];
            vec![upper.iter().rev().map(mirrored).collect(), upper]
        }
        FilterBankKind::MelFolded | FilterBankKind::Mel => vec![mel_triangles(config.bands)],
    }
}

/// Height of a triangle, one at its middle.
fn height([low, middle, high]: &Triangle, frequency_hz: f64) -> f64 {
    let rising = (frequency_hz - low) / (middle - low);
    let falling = (high - frequency_hz) / (high - middle);
    rising.min(falling).max(0.0)
}

/// A bin that rounding puts a hair inside of an edge is on it, and weighs nothing.
const EDGE_SLACK: f64 = 1e-9;

/// Finds the first bin above an edge. Bins are bounded by the length of the transform.
fn first_bin_above(edge_hz: f64, bin_width_hz: f64) -> i64 {
    (edge_hz / bin_width_hz + EDGE_SLACK).floor() as i64 + 1
}

/// Finds the first and the last bin inside of a triangle; the last lies before the first where
/// there is none.
fn caught_bins([low, _, high]: &Triangle, bin_width_hz: f64) -> (i64, i64) {
    let last = (high / bin_width_hz - EDGE_SLACK).ceil() as i64 - 1;
    (first_bin_above(*low, bin_width_hz), last)
}

/// No longer transform is searched for.
const FFT_LENGTH_MAX: f64 = 16_777_216.0;

fn check_bins(
    triangles: &[Triangle],
    fft_length: usize,
    sample_rate_hz: f64,
) -> Result<(), FeatureError> {
    let is_empty = |triangle: &Triangle, length: usize| {
        let (first, last) = caught_bins(triangle, sample_rate_hz / length as f64);
        last < first
    };
    let Some(first_empty) = triangles.iter().position(|triangle| is_empty(triangle, fft_length))
    else {
        return Ok(());
    };
    let width_hz_min = triangles.iter().map(|[low, _, high]| high - low).fold(f64::MAX, f64::min);
    if sample_rate_hz / width_hz_min > FFT_LENGTH_MAX {
        return Err(FeatureError::InvalidConfig {
            field: "bands",
            expected: format!("few enough for a transform of {FFT_LENGTH_MAX} samples"),
            actual: triangles.len() as f64,
        });
    }
    let fft_length_min = (4..)
        .step_by(2)
        .find(|&length| !triangles.iter().any(|triangle| is_empty(triangle, length)))
        .expect("bins closer together than the narrowest band is wide fall into every band");
    Err(FeatureError::EmptyFilter {
        empty: triangles.iter().filter(|triangle| is_empty(triangle, fft_length)).count(),
        bands: triangles.len(),
        first_empty,
        fft_length,
        fft_length_min,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [FilterBankKind; 3] =
        [FilterBankKind::Linear, FilterBankKind::MelSymmetric, FilterBankKind::MelFolded];

    fn config(kind: FilterBankKind, scale: MelScale, bands: usize) -> FilterBankConfig {
        FilterBankConfig { bands, kind, scale, ..FilterBankConfig::default() }
    }

    fn applied(bank: &FilterBank, spectrum: &[f32]) -> Vec<f32> {
        let mut bands = vec![f32::NAN; bank.bands()];
        bank.apply(spectrum, &mut bands);
        bands
    }

    /// Row `bin` of the matrix.
    fn response(bank: &FilterBank, bins: usize, bin: usize) -> Vec<f32> {
        let mut spectrum = vec![0.0; bins];
        spectrum[bin] = 1.0;
        applied(bank, &spectrum)
    }

    #[test]
    fn short_transform_is_refused_with_the_shortest_that_works() {
        let config = config(FilterBankKind::MelFolded, MelScale::Slaney, 128);

        let error = FilterBank::new(&config, 2048, 1e6).unwrap_err();

        // Known of librosa: 27 of these filters are empty.
        let FeatureError::EmptyFilter { empty: 27, first_empty: 0, fft_length_min, .. } = error
        else {
            panic!("{error:?}");
        };
        assert!(FilterBank::new(&config, fft_length_min, 1e6).is_ok());
        for shorter in (4..fft_length_min).step_by(2) {
            assert!(FilterBank::new(&config, shorter, 1e6).is_err(), "{shorter} works");
        }
    }

    #[test]
    fn linear_bands_are_triangles_by_hand() {
        // Edges at -4, -2, 0, 2, 4 Hz, bins at -4, -3, … 3 Hz.
        let config = FilterBankConfig {
            scaling: BandScaling::Peak,
            ..config(FilterBankKind::Linear, MelScale::Slaney, 3)
        };

        let bank = FilterBank::new(&config, 8, 8.0).unwrap();

        let expected = [
            [0.0, 0.0, 0.0],
            [0.5, 0.0, 0.0],
            [1.0, 0.0, 0.0],
            [0.5, 0.5, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.5, 0.5],
            [0.0, 0.0, 1.0],
            [0.0, 0.0, 0.5],
        ];
        for (bin, expected) in expected.iter().enumerate() {
            for (actual, expected) in response(&bank, 8, bin).iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-6, "bin {bin}: {actual}");
            }
        }
    }

    #[test]
    fn folded_bands_weigh_both_sides_the_same() {
        let config = config(FilterBankKind::MelFolded, MelScale::Htk, 8);
        let bank = FilterBank::new(&config, 64, 8000.0).unwrap();

        for k in 1..32 {
            assert_eq!(response(&bank, 64, 32 + k), response(&bank, 64, 32 - k));
        }
    }

    #[test]
    fn mirrored_spectrum_mirrors_the_symmetric_bands() {
        let config = config(FilterBankKind::MelSymmetric, MelScale::Slaney, 16);
        let bank = FilterBank::new(&config, 256, 24_000.0).unwrap();

        for k in 1..128 {
            let mut mirrored = response(&bank, 256, 128 - k);
            mirrored.reverse();
            assert_eq!(response(&bank, 256, 128 + k), mirrored);
        }
    }

    #[test]
    fn odd_number_of_symmetric_bands_is_refused() {
        let config = config(FilterBankKind::MelSymmetric, MelScale::Slaney, 15);

        let error = FilterBank::new(&config, 256, 24_000.0).unwrap_err();

        assert!(error.to_string().starts_with("`bands` must be even"), "{error}");
    }

    #[test]
    fn band_wider_than_the_sample_rate_is_refused() {
        let config = FilterBankConfig { bandwidth_hz: Some(2.0), ..FilterBankConfig::default() };

        let error = FilterBank::new(&config, 256, 1.0).unwrap_err();

        let expected = "`bandwidth_hz` must be at most the sample rate, 1 Hz, but is 2";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn bands_that_no_transform_could_resolve_are_refused() {
        let config = FilterBankConfig { bandwidth_hz: Some(1e-6), ..FilterBankConfig::default() };

        let error = FilterBank::new(&config, 256, 24_000.0).unwrap_err();

        assert!(error.to_string().starts_with("`bands` must be few enough"), "{error}");
    }

    #[test]
    fn unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<FilterBankConfig>(r#"{"band": 3}"#).unwrap_err();

        assert!(error.to_string().contains("`band`"), "{error}");
    }

    proptest! {
        /// White noise has the same density in every band, whatever the bank.
        #[test]
        fn flat_spectrum_has_flat_bands(
            kind in proptest::sample::select(KINDS.as_slice()),
            half_bands in 1_usize..40,
            fft_length in (128_usize..600).prop_map(|half| 2 * half),
            bandwidth in 0.5_f64..1.0,
            density in 1e-12_f32..1e3,
        ) {
            let config = FilterBankConfig {
                bandwidth_hz: Some(24_000.0 * bandwidth),
                ..config(kind, MelScale::Slaney, 2 * half_bands)
            };
            match FilterBank::new(&config, fft_length, 24_000.0) {
                Ok(bank) => {
                    for band in applied(&bank, &vec![density; fft_length]) {
                        prop_assert!((band / density - 1.0).abs() < 1e-5, "{}", band);
                    }
                }
                Err(FeatureError::EmptyFilter { fft_length_min, .. }) => {
                    prop_assert!(FilterBank::new(&config, fft_length_min, 24_000.0).is_ok());
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }
}
