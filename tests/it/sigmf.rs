//! SigMF, in the official package and on the command line.

use std::path::Path;
use std::process::Command;

use heimdall_data::{
    EventEntry, ImportConfig, ImportFormat, RecordingEntry, RecordingFormat, Recordings,
    import_folder, write_npy,
};
use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::{Position, Receiver};
use num_complex::Complex32;
use tempfile::tempdir;

use crate::workplace::Workplace;

/// Samples of a receiver, and when it took the first one.
fn samples(receiver: usize) -> Vec<Complex32> {
    (0..1000).map(|n| Complex32::from_polar(0.3, (n * (receiver + 1)) as f32)).collect()
}

fn start(receiver: usize) -> UtcTime {
    UtcTime { seconds: 1_620_097_321, nanoseconds: 123_456_789 + receiver as u32 }
}

/// Writes a folder of recordings with one event of two receivers.
async fn write_recordings(folder: &Path) {
    let recordings = Recordings::create(folder).await.unwrap();
    let (mut receivers, mut entries) = (Vec::new(), Vec::new());
    for (index, name) in ["north", "south"].into_iter().enumerate() {
        let object = format!("{name}.npy");
        let digest = recordings.put(&object, write_npy(&samples(index))).await.unwrap();
        receivers.push(Receiver {
            name: name.to_owned(),
            position: Position::new(46.5 + index as f64, 8.123_456_789).unwrap(),
            altitude_m: 1500.0,
            antenna_height_m: 10.0,
        });
        entries.push(RecordingEntry {
            receiver: name.to_owned(),
            object,
            format: RecordingFormat::Npy,
            sample_rate_hz: 1000.25,
            center_frequency_hz: 145.5e6,
            start: start(index),
            clock: ClockQuality::Disciplined { sigma_s: 1e-7 },
            sample_count: 1000,
            digest,
        });
    }
    let event = EventEntry {
        id: "event".to_owned(),
        session: "session".to_owned(),
        source: "source".to_owned(),
        position: Position::new(46.75, 8.0).ok(),
        frequency_hz: 145.5e6,
        start: start(0),
        waveform: Some("cw".to_owned()),
        recordings: entries,
        levels: Vec::new(),
    };
    recordings.catalog().add_receivers(&receivers).await.unwrap();
    recordings.catalog().add_events(&[event]).await.unwrap();
    recordings.close().await.unwrap();
}

/// Runs `export-sigmf`, and returns what it prints.
fn export(recordings: &Path, folder: &Path) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_heimdall-pipeline"))
        .arg("export-sigmf")
        .arg(recordings)
        .arg("--output")
        .arg(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

#[tokio::test]
async fn exported_recordings_can_be_imported() {
    let folder = tempdir().unwrap();
    let (recordings, collections) = (folder.path().join("recordings"), folder.path().join("sigmf"));
    write_recordings(&recordings).await;

    assert_eq!(export(&recordings, &collections).unwrap(), "1 collections with 2 recordings\n");

    let again = export(&recordings, &collections).unwrap_err();
    assert!(again.contains("exists already"), "{again}");
    let back = Recordings::in_memory().await.unwrap();
    let config = ImportConfig { format: ImportFormat::Sigmf, strict: true, ..Default::default() };
    import_folder(&collections, &back, &config).await.unwrap();
    let event = back.catalog().events().await.unwrap().remove(0);
    assert_eq!((event.id.as_str(), event.recordings.len()), ("event", 2));
    assert_eq!(event.waveform.as_deref(), Some("cw"));
    for (index, entry) in event.recordings.iter().enumerate() {
        let recording = back.load(entry).await.unwrap();
        assert_eq!(recording.samples, samples(index));
        assert_eq!(recording.start, start(index));
    }
}

/// A simulated world goes out as SigMF and comes back: samples, places, waveforms; and the truth, one
/// event a line, lies beside.
#[tokio::test]
async fn simulated_world_is_readable_by_others() {
    let workplace = Workplace::new(
        "
name: world
stages:
  recordings:
    uses: simulate
    world: { sessions: 5, events_per_session: 2, seed: 3, sample_rate_hz: 16000, duration_s: 0.15 }
",
    );
    let run = workplace.run(&[]).done();
    let folder = &run.stages["recordings"].outputs["recordings"];
    let collections = workplace.path("sigmf");

    let told = export(folder, &collections).unwrap();

    assert!(told.starts_with("10 collections"), "{told}");
    let own = Recordings::open(folder).await.unwrap();
    let back = Recordings::in_memory().await.unwrap();
    let config = ImportConfig { format: ImportFormat::Sigmf, strict: true, ..Default::default() };
    import_folder(&collections, &back, &config).await.unwrap();
    let events = own.catalog().events().await.unwrap();
    let imported = back.catalog().events().await.unwrap();
    assert_eq!(own.catalog().receivers().await.unwrap(), back.catalog().receivers().await.unwrap());
    let latents = std::fs::read_to_string(collections.join("latents.jsonl")).unwrap();
    assert_eq!((events.len(), imported.len(), latents.lines().count()), (10, 10, 10));
    for ((event, other), latents) in events.iter().zip(&imported).zip(latents.lines()) {
        let bare = |event: &EventEntry| EventEntry { recordings: Vec::new(), ..event.clone() };
        assert_eq!(bare(event), bare(other));
        let latents: heimdall_sim::EventLatents = serde_json::from_str(latents).unwrap();
        assert_eq!(event.waveform.as_deref(), Some(latents.waveform.name()));
        assert_eq!((event.start, event.position), (latents.start, Some(latents.position)));
        assert!(!event.recordings.is_empty());
        for (entry, other) in event.recordings.iter().zip(&other.recordings) {
            assert_eq!(own.load(entry).await.unwrap(), back.load(other).await.unwrap());
        }
    }
}

mod with_python {
    //! The official package reads what we write, and writes what we read.

    use std::fs;

    use heimdall_data::{ReadOptions, read_npy, read_recording};

    use super::*;
    use crate::onnx::python;

    #[tokio::test]
    #[ignore = "needs Python with sigmf: cargo xtask test"]
    async fn official_package_reads_exported_collections() {
        let folder = tempdir().unwrap();
        let (recordings, collections) =
            (folder.path().join("recordings"), folder.path().join("sigmf"));
        write_recordings(&recordings).await;
        export(&recordings, &collections).unwrap();

        let answer = python("read_sigmf.py", &[collections.to_str().unwrap()]);

        let streams = answer["event.sigmf-collection"]["streams"].as_array().unwrap();
        assert_eq!(streams.len(), 2);
        for (index, stream) in streams.iter().enumerate() {
            let bytes = samples(index)
                .iter()
                .flat_map(|sample| [sample.re.to_le_bytes(), sample.im.to_le_bytes()].concat())
                .collect::<Vec<u8>>();
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(stream["samples"], digits);
            let capture = &stream["capture"];
            assert_eq!(capture["core:frequency"], 145.5e6);
            let time = format!("2021-05-04T03:02:01.{}Z", 123_456_789 + index);
            assert_eq!(capture["core:datetime"], time);
            let coordinates = &capture["core:geolocation"]["coordinates"];
            assert_eq!(
                *coordinates,
                serde_json::json!([8.123_456_789, 46.5 + index as f64, 1500.0])
            );
            assert_eq!(stream["global"]["core:sample_rate"], 1000.25);
        }
    }

    #[tokio::test]
    #[ignore = "needs Python with sigmf: cargo xtask test"]
    async fn every_type_of_the_official_package_is_read_as_it_reads_it() {
        let folder = tempdir().unwrap();

        let written = python("write_sigmf.py", &[folder.path().to_str().unwrap()]);

        let types = written["types"].as_array().unwrap();
        assert_eq!(types.len(), 14);
        let archived = written["archived"].as_str().unwrap();
        let files = types.iter().map(|name| (name.as_str().unwrap(), "sigmf-meta"));
        for (name, extension) in files.chain([(archived, "sigmf")]) {
            let stem = if extension == "sigmf" { "packed" } else { name };
            let path = folder.path().join(format!("{stem}.{extension}"));
            let read = read_recording(&path, &ReadOptions::default()).await.unwrap();
            let npy = fs::read(folder.path().join(format!("{name}.npy"))).unwrap();
            let expected = read_npy(&npy).unwrap();

            let time = UtcTime { seconds: 1_714_564_800, nanoseconds: 123_456_789 };
            assert_eq!((read.recording.start, read.recording.sample_rate_hz), (time, 48_000.0));
            assert_eq!(read.recording.samples.len(), expected.len(), "{name}");
            // The package rounds 32-bit integers to single precision before it scales them.
            let tolerance = if name.contains("32") && !name.starts_with("cf") { 2e-7 } else { 0.0 };
            for (sample, expected) in read.recording.samples.iter().zip(&expected) {
                assert!((sample - expected).norm() <= tolerance, "{name}: {sample} {expected}");
            }
        }
    }
}
