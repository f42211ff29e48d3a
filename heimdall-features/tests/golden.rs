//! Parity with arrays that SciPy and librosa computed.

#![expect(clippy::unwrap_used, reason = "a missing or broken file fails the test")]

use std::fs;
use std::path::PathBuf;

use heimdall_features::{
    BandScaling, FeatureError, FilterBank, FilterBankConfig, FilterBankKind, MelScale, Stft,
    StftConfig,
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

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/golden-features")
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("cases.json")).unwrap();
    serde_json::from_str::<Cases>(&text).unwrap().cases
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

fn decibels(power: f64) -> f64 {
    10.0 * power.max(1e-10).log10()
}

/// Compares values that lie frame by frame with an array `[rows, frames]`.
fn assert_parity(what: &str, actual_db: &[Vec<f64>], expected_db: &[f64]) {
    let frames = actual_db.len();
    assert_eq!(actual_db[0].len() * frames, expected_db.len(), "{what}");
    let mut worst = 0.0_f64;
    for (frame, rows) in actual_db.iter().enumerate() {
        for (row, &actual) in rows.iter().enumerate() {
            let expected = expected_db[row * frames + frame];
            worst = worst.max((actual - expected).abs());
        }
    }
    assert!(worst < 1e-4, "{what} is off by {worst} dB");
}

#[test]
#[ignore = "needs ../shared/data"]
fn density_equals_that_of_scipy() {
    for case in cases() {
        let config = StftConfig { fft_length: case.n_fft, hop_length: case.hop, center: false };
        let stft = Stft::new(&config, case.sample_rate_hz).unwrap();

        let spectrogram = stft.spectrogram(&samples(&case)).unwrap();

        let expected_db = numbers(&format!("{}.psd_db.npy", case.name));
        let frames = expected_db.len() / case.n_fft;
        let actual_db: Vec<Vec<f64>> = (0..frames)
            .map(|frame| {
                let density = spectrogram.frame(frame).iter();
                density.map(|&density| 10.0 * f64::from(density).log10()).collect()
            })
            .collect();
        assert_parity(&case.name, &actual_db, &expected_db);
    }
}

/// The spectrum of a real signal is symmetric, so the folded bank is librosa's.
#[test]
#[ignore = "needs ../shared/data"]
fn mel_bands_of_the_real_part_equal_those_of_librosa() {
    let mut compared = 0;
    for case in cases() {
        let config = StftConfig { fft_length: case.n_fft, hop_length: case.hop, center: true };
        let stft = Stft::new(&config, case.sample_rate_hz).unwrap();
        let real: Vec<Complex32> =
            samples(&case).iter().map(|sample| Complex32::new(sample.re, 0.0)).collect();
        let spectrogram = stft.spectrogram(&real).unwrap();
        // The squares of a periodic Hann window add up to 3 / 8 of its length.
        let power_per_density = case.sample_rate_hz * 0.375 * case.n_fft as f64;

        // The arrays of HTK's scale are made with triangles that are one high, as HTK has them.
        let scales = [
            (MelScale::Slaney, BandScaling::Slaney, "slaney"),
            (MelScale::Htk, BandScaling::Peak, "htk"),
        ];
        for (scale, scaling, name) in scales {
            let config = FilterBankConfig {
                bands: case.n_mels,
                kind: FilterBankKind::MelFolded,
                scale,
                scaling,
                bandwidth_hz: None,
            };
            let file = format!("{}.mel_{name}_db.npy", case.name);
            let expected_db = numbers(&file);
            let bank = match FilterBank::new(&config, case.n_fft, case.sample_rate_hz) {
                Ok(bank) => bank,
                // Where librosa only warns: its bands without a bin are at the lowest level.
                Err(FeatureError::EmptyFilter { empty, .. }) => {
                    let frames = spectrogram.frames();
                    let silent = |row: &&[f64]| row.iter().all(|&level_db| level_db <= -100.0);
                    assert_eq!(expected_db.chunks_exact(frames).filter(silent).count(), empty);
                    continue;
                }
                Err(error) => panic!("{file}: {error}"),
            };
            let mut bands = vec![0.0; bank.bands()];
            let mut actual_db = Vec::new();
            for frame in 0..spectrogram.frames() {
                bank.apply(spectrogram.frame(frame), &mut bands);
                let level = |&band: &f32| decibels(f64::from(band) * power_per_density);
                actual_db.push(bands.iter().map(level).collect());
            }

            assert_parity(&file, &actual_db, &expected_db);
            compared += 1;
        }
    }
    assert!(compared >= 2, "some banks have a bin in every band");
}
