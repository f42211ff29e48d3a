//! The command that writes features as arrays.

use std::fs;
use std::path::Path;

use heimdall_data::write_npy;
use heimdall_features::{Framing, SpectralConfig, SpectralExtractor};
use num_complex::Complex32;

use crate::workplace::{Ended, Workplace, ended};

fn features(workplace: &Workplace, arguments: &[&str]) -> Ended {
    let mut command = workplace.command(&["features"]);
    let piped = std::process::Stdio::piped;
    ended(command.args(arguments).stdout(piped()).stderr(piped()).spawn().unwrap())
}

/// A folder with a second of a carrier at a quarter of the sample rate, 8 kHz.
fn with_carrier() -> Workplace {
    let workplace = Workplace::new("");
    let carrier: Vec<Complex32> =
        (0..8_000).map(|n| Complex32::cis(std::f32::consts::FRAC_PI_2 * (n % 4) as f32)).collect();
    fs::write(workplace.path("carrier.npy"), write_npy(&carrier)).unwrap();
    workplace
}

/// Shape and values, `[rows, frames]`, of an array that the program wrote.
fn array(path: &Path) -> (usize, usize, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = str::from_utf8(&bytes[10..start]).unwrap();
    let (_, rest) = header
        .split_once("{'descr': '<f4', 'fortran_order': False, 'shape': (")
        .unwrap_or_else(|| panic!("{header}"));
    let (rows, rest) = rest.split_once(", ").unwrap();
    let (frames, _) = rest.split_once(')').unwrap();
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let values: Vec<f32> = bytes[start..].chunks_exact(4).map(number).collect();
    let (rows, frames) = (rows.parse().unwrap(), frames.parse().unwrap());
    assert_eq!(values.len(), rows * frames);
    (rows, frames, values)
}

#[test]
fn density_of_a_carrier_is_in_its_bin() {
    let workplace = with_carrier();
    let arguments =
        "carrier.npy --sample-rate 8000 --kind psd-db --fft 256 --hop 128 --output x.npy";

    let ended = features(&workplace, &arguments.split(' ').collect::<Vec<_>>());

    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let (rows, frames, values) = array(&workplace.path("x.npy"));
    assert_eq!((rows, frames), (256, 1 + (8_000 - 256) / 128));
    // A quarter of the rate above the center; the density of power one in 1.5 bins of 31.25 Hz.
    let expected_db = -10.0 * (1.5_f32 * 31.25).log10();
    for frame in 0..frames {
        assert!((values[192 * frames + frame] - expected_db).abs() < 1e-3);
        assert!(values[100 * frames + frame] < -100.0);
    }
}

#[test]
fn frames_are_as_many_as_are_asked_for() {
    let workplace = with_carrier();
    for (kind, rows) in [("psd-db", 256), ("mel-db", 20), ("mfcc", 13)] {
        let arguments = format!(
            "carrier.npy --sample-rate 8000 --kind {kind} --fft 256 --hop 64 --bands 20 --frames 7 \
             --output {kind}.npy"
        );

        let ended = features(&workplace, &arguments.split(' ').collect::<Vec<_>>());

        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let (actual_rows, frames, _) = array(&workplace.path(format!("{kind}.npy")));
        assert_eq!((actual_rows, frames), (rows, 7));
    }
}

/// The command reads 262,144 samples at a time, of which frames across the borders must not show: it
/// writes the bits of an extraction in one piece.
#[test]
fn recording_of_three_chunks_is_that_of_one_piece() {
    let workplace = Workplace::new("");
    let mut state = 1_u32;
    let mut part = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    let samples: Vec<Complex32> = (0..600_000).map(|_| Complex32::new(part(), part())).collect();
    fs::write(workplace.path("noise.npy"), write_npy(&samples)).unwrap();
    let cases = [
        ("--hop 333", Framing::Hop { hop_length: 333, center: false }),
        ("--hop 333 --center", Framing::Hop { hop_length: 333, center: true }),
        ("--frames 40", Framing::Count { frames: 40 }),
    ];
    for (options, framing) in cases {
        let arguments =
            format!("noise.npy --sample-rate 1e6 --kind psd-db --fft 256 {options} --output x.npy");

        let ended = features(&workplace, &arguments.split(' ').collect::<Vec<_>>());

        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let config = SpectralConfig { fft_length: 256, framing, ..SpectralConfig::default() };
        let extractor = SpectralExtractor::<f64>::new(&config, 1e6).unwrap();
        let expected = extractor.extract(&samples).unwrap();
        let (rows, frames, values) = array(&workplace.path("x.npy"));
        assert_eq!((rows, frames), (expected.rows, expected.frames));
        let bits = values.iter().map(|value| value.to_bits());
        assert!(
            bits.eq(expected.values.iter().map(|&value| (value as f32).to_bits())),
            "{options}"
        );
    }
}

/// The recording, a folder: what stands where the array is to go is not replaced by it.
#[test]
fn what_is_no_array_is_not_replaced() {
    let workplace = with_carrier();
    let recording = fs::read(workplace.path("carrier.npy")).unwrap();
    fs::create_dir(workplace.path("folder")).unwrap();
    for output in ["carrier.npy", "./carrier.npy", "folder", "/dev/null"] {
        let arguments = ["carrier.npy", "--sample-rate", "8000", "--kind", "psd-db", "--output"];

        let ended = features(&workplace, &[&arguments[..], &[output]].concat());

        assert!(ended.code == 2 && ended.stderr.contains("--output"), "{output}: {ended:?}");
    }
    assert_eq!(fs::read(workplace.path("carrier.npy")).unwrap(), recording);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

/// The place is looked at before the recording, which is not even opened.
#[test]
fn place_that_cannot_be_written_to_is_told_before_the_work() {
    let workplace = with_carrier();
    for output in ["nowhere/x.npy", "carrier.npy/x.npy"] {
        let arguments = ["absent.npy", "--sample-rate", "8000", "--kind", "psd-db", "--output"];

        let ended = features(&workplace, &[&arguments[..], &[output]].concat());

        assert_ne!(ended.code, 0);
        let told = ended.stderr.contains("cannot write into") && !ended.stderr.contains(".part");
        assert!(told && !ended.stderr.contains("absent"), "{}", ended.stderr);
    }
}

/// A recorder that was stopped, or a transfer: half of the file, under another name.
#[test]
fn recording_that_was_cut_off_is_read_with_a_warning() {
    let workplace = Workplace::new("");
    crate::locate::write_folder(&workplace.path("whole"), &crate::locate::STATIONS[..1]);
    let file = std::fs::read_dir(workplace.path("whole"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "wav"))
        .unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(workplace.path("half.wav"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(workplace.path("whole.wav"), &bytes).unwrap();
    for (name, warns) in [("half.wav", true), ("whole.wav", false)] {
        let ended = features(&workplace, &[name, "--kind", "psd-db", "--output", "x.npy"]);

        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let warned = ended.stderr.contains("was cut off") && ended.stderr.contains(name);
        // 71 of 140 blocks of 512 samples at 12 kHz.
        assert_eq!(
            (warned, ended.stderr.contains("missing_s=3.02")),
            (warns, warns),
            "{name}: {ended:?}"
        );
    }
}

/// Beside librosa, which leaves such bands silent too.
#[test]
fn real_samples_leave_bands_without_a_bin_silent_and_say_so() {
    let workplace = with_carrier();
    let arguments = "carrier.npy --sample-rate 8000 --kind mel-db --fft 64 --real --output x.npy";

    let ended = features(&workplace, &arguments.split(' ').collect::<Vec<_>>());

    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("the smallest `--fft`"), "{}", ended.stderr);
    let (_, frames, values) = array(&workplace.path("x.npy"));
    assert!(values[..frames].iter().all(|value_db| (value_db + 100.0).abs() < 1e-4));
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    let workplace = with_carrier();
    fs::write(workplace.path("notes.txt"), "no samples").unwrap();
    let cases = [
        ("carrier.npy --kind psd-db", "--sample-rate"),
        ("carrier.npy --sample-rate 8000 --kind psd-db --fft 9000", "a frame takes 9000 samples"),
        (
            "carrier.npy --sample-rate 8000 --kind psd-db --fft 255",
            "`--fft` must be an even number",
        ),
        ("carrier.npy --sample-rate 8000 --kind psd-db --hop 0", "`--hop` must be at least 1"),
        ("carrier.npy --sample-rate 8000 --kind mel-db --bands 0", "`--bands` must be at least 1"),
        ("carrier.npy --sample-rate 8000 --kind mel-db --fft 64", "the smallest `--fft`"),
        (
            "carrier.npy --sample-rate 8000 --kind mfcc --bands 8 --fft 512",
            "`--coefficients` must be",
        ),
        (
            "carrier.npy --sample-rate 8000 --kind psd-db --frames 0",
            "`--frames` must be at least 1",
        ),
        (
            "carrier.npy --sample-rate 8000 --kind psd-db --frames 999999999",
            "`--frames` must be at most the number of samples, 8000, but is 999999999",
        ),
        ("nowhere.npy --sample-rate 8000 --kind psd-db", "nowhere.npy"),
        ("notes.txt --sample-rate 8000 --kind psd-db", "notes.txt"),
        ("carrier.npy --sample-rate nan --kind psd-db", "positive number of hertz"),
    ];
    for (arguments, named) in cases {
        let arguments = format!("{arguments} --output x.npy");

        let ended = features(&workplace, &arguments.split(' ').collect::<Vec<_>>());

        assert!(ended.code == 2 && ended.stderr.contains(named), "{arguments}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
        let left: Vec<_> = fs::read_dir(workplace.path(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("x.npy"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

mod with_shared_data {
    use super::*;

    fn golden() -> std::path::PathBuf {
        crate::tidy::root().join("../shared/data/golden-features")
    }

    /// Values of an array of `float64`.
    fn expected(file: &str) -> Vec<f64> {
        let bytes = fs::read(golden().join(file)).unwrap();
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap());
        bytes[start..].chunks_exact(8).map(number).collect()
    }

    /// The command, with its options as the arrays were made, gives the arrays.
    #[test]
    #[ignore = "needs ../shared/data"]
    fn arrays_equal_those_of_scipy_and_librosa() {
        let workplace = Workplace::new("");
        let cases = [
            ("spec_1mhz", "1000000", "2048", "512", "64"),
            ("websdr_192k", "192000", "2048", "512", "128"),
            ("short_16k", "192000", "2048", "512", "128"),
            ("kiwi_12k", "12001", "512", "128", "64"),
        ];
        let kinds = [
            ("psd-db", "", "psd_db"),
            ("mel-db", "--scale slaney", "mel_slaney_db"),
            ("mel-db", "--scale htk", "mel_htk_db"),
            ("mfcc", "--scale slaney", "mfcc_slaney"),
            ("mfcc", "--scale htk", "mfcc_htk"),
        ];
        for (name, rate, fft, hop, bands) in cases {
            let input = golden().join(format!("{name}.iq.npy"));
            for (kind, options, file) in kinds {
                let librosa = match kind {
                    "psd-db" => "",
                    _ => "--real --center",
                };
                let arguments = format!(
                    "{} --sample-rate {rate} --kind {kind} --fft {fft} --hop {hop} --bands {bands} \
                     {options} {librosa} --output x.npy",
                    input.display()
                );

                let ended = features(&workplace, &arguments.split_whitespace().collect::<Vec<_>>());

                assert_eq!(ended.code, 0, "{}", ended.stderr);
                let (rows, frames, values) = array(&workplace.path("x.npy"));
                let expected = expected(&format!("{name}.{file}.npy"));
                // Of the densities, only the first frames were kept.
                let kept = expected.len() / rows;
                assert!(kept > 0 && kept <= frames);
                for (index, expected) in expected.iter().enumerate() {
                    let value = values[index / kept * frames + index % kept];
                    let difference = (f64::from(value) - expected).abs();
                    assert!(difference < 1e-4, "{name}.{file}: {value} is not {expected}");
                }
            }
        }
    }
}
