//! Parity with arrays that SciPy and librosa computed.

#![expect(clippy::unwrap_used, reason = "a missing or broken file fails the test")]

use std::fs;
use std::path::PathBuf;

use heimdall_features::{
    BandScaling, EmptyBands, FilterBankConfig, FilterBankKind, Framing, MelScale, Real,
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

fn extract<T: Real>(
    case: &Case,
    samples: &[Complex32],
    center: bool,
    unit: SpectrumUnit,
    rows: SpectralRows,
) -> SpectralMap<T> {
    let framing = Framing::Hop { hop_length: case.hop, center };
    let config = SpectralConfig { fft_length: case.n_fft, framing, unit, rows };
    let extractor = SpectralExtractor::new(&config, case.sample_rate_hz).unwrap();
    extractor.extract(samples).unwrap()
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

/// A transform in single precision is off by some 1e-7 of the strongest bin. That shows in a band
/// of a single bin, when it lies 80 dB below.
fn assert_near(actual: &SpectralMap<f32>, file: &str, share_max: f64, worst_max: f64) {
    let (share, worst) = compare(actual, file, 1e-4);
    assert!(share < share_max && worst < worst_max, "{file}: {share} is off, by up to {worst}");
}

mod with_shared_data {
    use super::*;

    #[test]
    #[ignore = "needs ../shared/data"]
    fn density_equals_that_of_scipy() {
        for case in cases() {
            let file = format!("{}.psd_db.npy", case.name);
            let (samples, unit) = (samples(&case), SpectrumUnit::Density);

            let double = extract::<f64>(&case, &samples, false, unit, SpectralRows::Bins);
            let single = extract::<f32>(&case, &samples, false, unit, SpectralRows::Bins);

            assert_parity(&double, &file, 1e-9);
            assert_parity(&rounded(&double), &file, 1e-4);
            // One bin far below a carrier is not the mean of anything.
            assert_near(&single, &file, 0.005, 0.01);
        }
    }

    #[test]
    #[ignore = "needs ../shared/data"]
    fn mel_bands_equal_those_of_librosa() {
        for case in cases() {
            let (samples, unit) = (real_part(&case), SpectrumUnit::Power);
            for (scale, scaling, name) in SCALES {
                let file = format!("{}.mel_{name}_db.npy", case.name);
                let rows = SpectralRows::Bands { bank: bank(&case, scale, scaling) };

                let double = extract::<f64>(&case, &samples, true, unit, rows.clone());
                let single = extract::<f32>(&case, &samples, true, unit, rows);

                assert_parity(&double, &file, 1e-9);
                assert_parity(&rounded(&double), &file, 1e-4);
                assert_near(&single, &file, 0.002, 0.001);
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
                let file = format!("{}.mel_{name}_db.npy", case.name);
                let kind = FilterBankKind::MelFolded;
                let bank = FilterBankConfig { kind, ..bank(&case, scale, scaling) };

                let bands =
                    extract::<f64>(&case, &samples, true, unit, SpectralRows::Bands { bank });

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
                let file = format!("{}.mfcc_{name}.npy", case.name);
                let bank = bank(&case, scale, scaling);
                let rows = SpectralRows::Cepstrum { bank, coefficients: 13 };

                let double = extract::<f64>(&case, &samples, true, unit, rows.clone());
                let single = extract::<f32>(&case, &samples, true, unit, rows);

                assert_parity(&double, &file, 1e-9);
                assert_parity(&rounded(&double), &file, 1e-4);
                assert_near(&single, &file, 0.002, 0.001);
            }
        }
    }
}
