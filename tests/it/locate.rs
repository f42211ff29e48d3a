//! From a folder of `KiwiSDR` recordings to a position.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

use heimdall_geo::{Position, SPEED_OF_LIGHT_KM_S};

use crate::workplace::{Ended, Workplace};

const FREQUENCY_HZ: f64 = 60_000.0;
/// Sunday 2023-07-02 12:00:00 UTC: half a day and 18 leap seconds into the GPS week.
const NAME_START: &str = "20230702T120000Z";
const SECOND_OF_WEEK: f64 = 43_200.0 + 18.0;
const BLOCK_SAMPLES: usize = 512;
const BLOCKS: usize = 140;

pub(crate) const PIPELINE: &str = "
name: fix
vars: { data: recordings }
stages:
  recordings:
    uses: import
    path: ${data}
    strict: true
  features:
    uses: extract
    from: recordings
    features: { fft_length: 512, channel_bandwidth_hz: 2000 }
  locate:
    uses: locate
    from: recordings
    region: { south_west: { latitude: 49, longitude: -11 }, north_east: { latitude: 60, longitude: 9 } }
    delay: { band_low_hz: 20, band_high_hz: 1000, frequency_difference_hz_max: 1 }
";

/// A receiver, its sample rate, and the time of its first sample after the full second.
pub(crate) struct Station {
    name: &'static str,
    latitude_deg: f64,
    longitude_deg: f64,
    rate_hz: f64,
    first_s: f64,
}

pub(crate) const STATIONS: [Station; 3] = [
    Station {
        name: "north_sea-1",
        latitude_deg: 57.1,
        longitude_deg: -2.1,
        rate_hz: 12_001.03,
        first_s: 0.0123,
    },
    Station {
        name: "Galway",
        latitude_deg: 53.3,
        longitude_deg: -9.0,
        rate_hz: 12_000.91,
        first_s: 0.0456789,
    },
    Station {
        name: "F6ABC",
        latitude_deg: 49.4,
        longitude_deg: 1.1,
        rate_hz: 12_001.11,
        first_s: 0.0311,
    },
];

fn truth() -> Position {
    Position::new(54.91, -3.28).unwrap()
}

/// What the transmitter sends at a time, in the baseband: tones that do not repeat.
fn sent(time_s: f64) -> (f64, f64) {
    let tones = (0..48_u32).map(|index| {
        // Irrational steps spread the tones over 20 … 980 Hz on both sides.
        let place = (f64::from(index) * 0.618_033_988_749_9).fract() * 2.0 - 1.0;
        let frequency_hz = place.signum() * (20.0 + 960.0 * place.abs());
        let phase = TAU * (f64::from(index * index) * 0.377).fract();
        (TAU * frequency_hz * time_s + phase).sin_cos()
    });
    let (imaginary, real) = tones.fold((0.0, 0.0), |sum, tone| (sum.0 + tone.0, sum.1 + tone.1));
    (real / 60.0, imaginary / 60.0)
}

/// The recording of a station as a KiwiSDR writes it.
fn wav(station: &Station) -> Vec<u8> {
    let place = Position::new(station.latitude_deg, station.longitude_deg).unwrap();
    let delay_s = place.distance_km(&truth()) / SPEED_OF_LIGHT_KM_S;
    let mut chunks = b"WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    for field in [12_000_u32, 48_000] {
        chunks.extend(field.to_le_bytes());
    }
    chunks.extend(b"\x04\0\x10\0");
    for block in 0..BLOCKS {
        let start_s = station.first_s + (block * BLOCK_SAMPLES) as f64 / station.rate_hz;
        chunks.extend(b"kiwi\x0a\0\0\0\x01\0");
        let stamp_s = SECOND_OF_WEEK + start_s;
        chunks.extend((stamp_s.floor() as u32).to_le_bytes());
        chunks.extend(((stamp_s.fract() * 1e9).round() as u32).to_le_bytes());
        chunks.extend(b"data\0\x08\0\0");
        for sample in 0..BLOCK_SAMPLES {
            let time_s = start_s + sample as f64 / station.rate_hz;
            // The carrier stands in the middle of the band and brings no delay.
            let (real, imaginary) = sent(time_s - delay_s);
            for part in [real + 0.1, imaginary] {
                chunks.extend(((part * 20_000.0).round() as i16).to_le_bytes());
            }
        }
    }
    let length = u32::try_from(chunks.len()).unwrap();
    [b"RIFF".as_slice(), &length.to_le_bytes(), &chunks].concat()
}

pub(crate) fn write_folder(folder: &Path, stations: &[Station]) {
    fs::create_dir_all(folder).unwrap();
    let mut receivers = "receiver,latitude,longitude\n".to_owned();
    for station in stations {
        let file = format!("{NAME_START}_{FREQUENCY_HZ:.0}_{}_iq.wav", station.name);
        fs::write(folder.join(file), wav(station)).unwrap();
        receivers +=
            &format!("{},{},{}\n", station.name, station.latitude_deg, station.longitude_deg);
    }
    fs::write(folder.join("receivers.csv"), receivers).unwrap();
    let (latitude, longitude) = (truth().latitude_deg(), truth().longitude_deg());
    let transmitter = format!(
        "source,frequency_hz,latitude,longitude\nMSF,{FREQUENCY_HZ},{latitude},{longitude}\n"
    );
    fs::write(folder.join("transmitter.csv"), transmitter).unwrap();
}

fn located(ended: &Ended) -> f64 {
    let metrics = ended.json().stages.remove("locate").unwrap().metrics;
    assert!((metrics["latitude"] - truth().latitude_deg()).abs() < 0.1, "{metrics:?}");
    assert!((metrics["region_95_contains_truth"] - 1.0).abs() < f64::EPSILON, "{metrics:?}");
    assert!(metrics["region_95_area_km2"] > 0.0, "{metrics:?}");
    metrics["error_km"]
}

/// Simulated stations with other rates, another year and another frequency than any real recording
/// at hand: sampled exactly, so what is left is quantization and the correlation's own error.
#[test]
fn transmitter_is_found_from_three_recordings() {
    let workplace = Workplace::new(PIPELINE);
    write_folder(&workplace.path("recordings"), &STATIONS);

    let run = workplace.run(&[]);

    run.done();
    let error_km = located(&run);
    // A microsecond is 0.3 km.
    assert!(error_km < 0.5, "{error_km} km off");
    let page = fs::read_to_string(workplace.path("artifacts/fix/locate/fix/report.html")).unwrap();
    assert!(page.contains("north_sea-1") && page.contains("<svg"), "{page}");
}

/// No fix is an answer: it has a reason, and a page.
#[test]
fn two_recordings_give_a_line_and_no_point() {
    let workplace = Workplace::new(PIPELINE);
    write_folder(&workplace.path("recordings"), &STATIONS[..2]);

    let run = workplace.run(&[]);

    let stage = run.done().stages.remove("locate").unwrap();
    assert!((stage.metrics["no_fix"] - 1.0).abs() < f64::EPSILON, "{:?}", stage.metrics);
    assert!(!stage.metrics.contains_key("latitude"), "{:?}", stage.metrics);
    assert!(run.stderr.contains("two receivers give a line"), "{}", run.stderr);
    let folder = workplace.path("artifacts/fix/locate/fix");
    let fix = fs::read_to_string(folder.join("fix.json")).unwrap();
    let fix: serde_json::Value = serde_json::from_str(&fix).unwrap();
    let event = &fix["events"][0];
    assert_eq!((&fix["format_version"], &event["status"]), (&2.into(), &"no_fix".into()));
    assert!(event["reason"].as_str().unwrap().contains("here are 2"), "{event}");
    assert!(event["fix"].is_null() && event["pairs"][0]["delay"].is_object(), "{event}");
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("There is no fix") && page.contains("<svg"), "{page}");
}

#[test]
fn truncated_recording_is_refused_by_name() {
    let workplace = Workplace::new(PIPELINE);
    let folder = workplace.path("recordings");
    write_folder(&folder, &STATIONS);
    let file = folder.join(format!("{NAME_START}_60000_Galway_iq.wav"));
    fs::write(&file, &fs::read(&file).unwrap()[..30]).unwrap();

    let run = workplace.run(&[]);

    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("Galway_iq.wav"), "{}", run.stderr);
    assert!(!workplace.path("artifacts/fix/recordings").exists());
}

mod with_shared_data {
    //! On real recordings that are not part of the repository.

    use super::*;

    #[test]
    #[ignore = "needs ../shared/data/dcf77: cargo xtask test"]
    fn dcf77_is_found_within_1_7_km() {
        let data = crate::tidy::root().join("../shared/data/dcf77");
        let pipeline =
            fs::read_to_string(crate::tidy::root().join("pipelines/dcf77.yaml")).unwrap();
        let workplace = Workplace::new(&pipeline);

        let run = workplace.run(&["--set", &format!("vars.data={}", data.display())]).done();

        let metrics = &run.stages["locate"].metrics;
        assert!(metrics["error_km"] <= 1.7, "{metrics:?}");
        assert!((metrics["region_95_contains_truth"] - 1.0).abs() < f64::EPSILON, "{metrics:?}");
    }
}
