//! Parity with arrays that SciPy and librosa computed.

#![expect(clippy::unwrap_used, reason = "a missing or broken file fails the test")]

use std::fs;
use std::path::PathBuf;

use heimdall_features::{
    BandScaling, EmptyBands, FilterBank, FilterBankConfig, FilterBankKind, Framing, MelScale, Real,
    SpectralConfig, SpectralExtractor, SpectralMap, SpectralRows, SpectrumUnit,
};
use num_complex::Complex32;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    sample_rate_hz: f64,
    n_fft: usize,
    hop: usize,
    n_mels: usize,
}

/// Scales, how the filters of their arrays are scaled, and the names of the arrays.
const SCALES: [(MelScale, BandScaling, &str); 2] = [
    (MelScale::Slaney, BandScaling::Slaney, "slaney"),
    // Triangles that are one high, as HTK has them.
    (MelScale::Htk, BandScaling::Peak, "htk"),
];

fn folder() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../../shared/data/golden-features")
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("cases.json")).unwrap();
    let cases = serde_json::from_str::<Cases>(&text).unwrap().cases;
    assert_eq!(cases.len(), 4);
    cases
}

/// What stands behind the header of a NumPy file of version 1 whose type is `dtype`.
fn bytes_of(name: &str, dtype: &str) -> Vec<u8> {
    let bytes = fs::read(folder().join(name)).unwrap();
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..header_end]).unwrap();
    assert!(header.contains(dtype) && header.contains("'fortran_order': False"), "{header}");
    bytes[header_end..].to_vec()
}

fn numbers(name: &str) -> Vec<f64> {
    let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap());
    bytes_of(name, "'<f8'").chunks_exact(8).map(number).collect()
}

fn samples(case: &Case) -> Vec<Complex32> {
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let sample = |bytes: &[u8]| Complex32::new(number(&bytes[..4]), number(&bytes[4..]));
    bytes_of(&format!("{}.iq.npy", case.name), "'<c8'").chunks_exact(8).map(sample).collect()
}

fn real_part(case: &Case) -> Vec<Complex32> {
    samples(case).iter().map(|sample| Complex32::new(sample.re, 0.0)).collect()
}

/// The bands of a case's arrays. librosa only warns of bands without a bin, and so they are silent.
fn bank(case: &Case, scale: MelScale, scaling: BandScaling) -> FilterBankConfig {
    FilterBankConfig {
        bands: case.n_mels,
        kind: FilterBankKind::Mel,
        scale,
        scaling,
        empty_bands: EmptyBands::Silent,
        ..FilterBankConfig::default()
    }
}

/// How a case's arrays were made of its samples.
struct Recipe<'a> {
    case: &'a Case,
    samples: &'a [Complex32],
    center: bool,
    unit: SpectrumUnit,
    rows: SpectralRows,
}

impl Recipe<'_> {
    fn extract<T: Real>(&self, exact_levels: bool) -> SpectralMap<T> {
        let &Self { case, samples, center, unit, ref rows } = self;
        let framing = Framing::Hop { hop_length: case.hop, center };
        let rows = rows.clone();
        let config = SpectralConfig { fft_length: case.n_fft, framing, unit, rows, exact_levels };
        let extractor = SpectralExtractor::new(&config, case.sample_rate_hz).unwrap();
        extractor.extract(samples).unwrap()
    }

    /// Compares with an array in both precisions.
    fn assert_parity(&self, file: &str) {
        let double = self.extract::<f64>(false);
        assert_parity(&double, file, 1e-9);
        assert_parity(&rounded(&double), file, 1e-4);
        assert_parity(&self.extract::<f32>(true), file, 1e-4);
    }

    /// Compares with what is known of single precision without exact levels: how much a level may
    /// be off depends on how far it is below that of a frame with the same power in all bins.
    fn assert_bound_of_single_precision(&self, file: &str) {
        let (single, expected) = (self.extract::<f32>(false), numbers(file));
        let bins = Recipe { rows: SpectralRows::Bins, ..*self }.extract::<f64>(false);
        let flat_db = |row: usize, frame: usize| {
            let powers = (0..bins.rows).map(|bin| bins.values[bin * bins.frames + frame]);
            let power: f64 = powers.map(|level_db| 10_f64.powf(level_db / 10.0)).sum();
            10.0 * (power / bins.rows as f64).log10() + self.gain_db(row)
        };
        let frames = expected.len() / single.rows;
        for (index, &level_db) in expected.iter().enumerate() {
            let (row, frame) = (index / frames, index % frames);
            let off_db = (f64::from(single.values[row * single.frames + frame]) - level_db).abs();
            let below_db = flat_db(row, frame) - level_db;
            let bound_db = 2e-5 + 2e-5 * 10_f64.powf(below_db / 20.0);
            assert!(off_db < bound_db, "{file}: {off_db} at {below_db} dB below a flat spectrum");
        }
    }

    /// Level of a band of a spectrum that is one everywhere.
    fn gain_db(&self, row: usize) -> f64 {
        let SpectralRows::Bands { bank } = &self.rows else { return 0.0 };
        let bank = FilterBank::new(bank, self.case.n_fft, self.case.sample_rate_hz).unwrap();
        let mut bands = vec![0.0; bank.bands()];
        bank.apply(&vec![1.0_f64; self.case.n_fft], &mut bands);
        10.0 * bands[row].log10()
    }
}

/// Compares with an array `[rows, frames]` that may have fewer frames; returns the shares of the
/// values that are off by more than a tolerance, and how much the worst is off.
fn compare<T: Real>(actual: &SpectralMap<T>, file: &str, tolerance: f64) -> (f64, f64) {
    let expected = numbers(file);
    let frames = expected.len() / actual.rows;
    assert!(frames > 0 && frames <= actual.frames, "{file} has {frames} frames");
    let differences = expected.iter().enumerate().map(|(index, expected)| {
        let value: f64 = actual.values[index / frames * actual.frames + index % frames].into();
        (value - expected).abs()
    });
    let (above, worst) = differences.fold((0_usize, 0.0), |(above, worst), difference| {
        (above + usize::from(difference > tolerance), difference.max(worst))
    });
    (above as f64 / expected.len() as f64, worst)
}

fn assert_parity<T: Real>(actual: &SpectralMap<T>, file: &str, tolerance: f64) {
    let (share, worst) = compare(actual, file, tolerance);
    assert!(worst <= tolerance, "{file} is off by {worst:e}, {share} of it above {tolerance:e}");
}

/// What is left of a result in single precision.
fn rounded(map: &SpectralMap<f64>) -> SpectralMap<f32> {
    let values = map.values.iter().map(|&value| value as f32).collect();
    SpectralMap { rows: map.rows, frames: map.frames, values }
}

mod with_shared_data {
    use super::*;

    #[test]
    #[ignore = "needs ../shared/data"]
    fn density_equals_that_of_scipy() {
        for case in cases() {
            let (samples, rows) = (samples(&case), SpectralRows::Bins);
            let unit = SpectrumUnit::Density;
            let recipe = Recipe { case: &case, samples: &samples, center: false, unit, rows };

            let file = format!("{}.psd_db.npy", case.name);
            recipe.assert_parity(&file);
            recipe.assert_bound_of_single_precision(&file);
        }
    }

    #[test]
    #[ignore = "needs ../shared/data"]
    fn mel_bands_equal_those_of_librosa() {
        for case in cases() {
            let (samples, unit) = (real_part(&case), SpectrumUnit::Power);
            for (scale, scaling, name) in SCALES {
                let rows = SpectralRows::Bands { bank: bank(&case, scale, scaling) };
                let recipe = Recipe { case: &case, samples: &samples, center: true, unit, rows };

                let file = format!("{}.mel_{name}_db.npy", case.name);
                recipe.assert_parity(&file);
                recipe.assert_bound_of_single_precision(&file);
            }
        }
    }

    /// The spectrum of a real signal is symmetric, so both sides' mean is either of them.
    #[test]
    #[ignore = "needs ../shared/data"]
    fn folded_bands_of_a_real_signal_equal_those_of_librosa() {
        for case in cases() {
            let (samples, unit) = (real_part(&case), SpectrumUnit::Power);
            for (scale, scaling, name) in SCALES {
                let kind = FilterBankKind::MelFolded;
                let bank = FilterBankConfig { kind, ..bank(&case, scale, scaling) };
                let rows = SpectralRows::Bands { bank };
                let recipe = Recipe { case: &case, samples: &samples, center: true, unit, rows };

                let bands = recipe.extract::<f64>(false);

                let file = format!("{}.mel_{name}_db.npy", case.name);
                assert_parity(&rounded(&bands), &file, 1e-4);
            }
        }
    }

    #[test]
    #[ignore = "needs ../shared/data"]
    fn cepstra_equal_those_of_librosa() {
        for case in cases() {
            let (samples, unit) = (real_part(&case), SpectrumUnit::Power);
            for (scale, scaling, name) in SCALES {
                let bank = bank(&case, scale, scaling);
                let rows = SpectralRows::Cepstrum { bank, coefficients: 13 };
                let recipe = Recipe { case: &case, samples: &samples, center: true, unit, rows };

                recipe.assert_parity(&format!("{}.mfcc_{name}.npy", case.name));
            }
        }
    }
}
