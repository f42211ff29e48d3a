//! Tests of the reader of SigMF recordings.

use std::sync::Arc;

use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::Position;
use num_complex::Complex32;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::file::IqFile;
use super::super::metadata::{Annotation, Gain, Place};
use super::*;
use crate::testing::block_on;

/// 2020-08-13T06:52:20.25Z.
const START: UtcTime = UtcTime { seconds: 1_597_301_540, nanoseconds: 250_000_000 };

/// Samples whose real part is their index, of 2 × 16 bits.
fn data(count: i16) -> Vec<u8> {
    (0..count).flat_map(|n| [n.to_le_bytes(), (-n).to_le_bytes()].concat()).collect()
}

fn indices(samples: &[Complex32]) -> Vec<i32> {
    samples.iter().map(|sample| (sample.re * 32_768.0) as i32).collect()
}

fn meta(captures: Value) -> Value {
    json!({
        "global": {
            "core:datatype": "ci16_le", "core:version": "1.2.0", "core:sample_rate": 1000,
            "other:thing": { "x": [] }
        },
        "captures": captures,
        "annotations": [],
        "more": 1
    })
}

/// Puts files into one folder.
async fn store_of(files: &[(&str, Vec<u8>)]) -> Arc<dyn ObjectStore> {
    let store = InMemory::new();
    for (name, bytes) in files {
        store.put(&ObjectPath::from(format!("folder/{name}")), bytes.clone().into()).await.unwrap();
    }
    Arc::new(store)
}

async fn open_with(meta: &[u8], data: Vec<u8>, options: &ReadOptions) -> Result<IqFile, DataError> {
    let store = store_of(&[("a.b.sigmf-meta", meta.to_vec()), ("a.b.sigmf-data", data)]).await;
    IqFile::open_object(store, &ObjectPath::from("folder/a.b.sigmf-meta"), options).await
}

fn open(meta: &Value, data: Vec<u8>) -> Result<IqFile, DataError> {
    block_on(open_with(meta.to_string().as_bytes(), data, &ReadOptions::default()))
}

fn read(file: &IqFile) -> Vec<i32> {
    indices(&block_on(file.read()).unwrap().recording.samples)
}

#[test]
fn every_field_that_is_understood_is_read() {
    let mut meta = meta(json!([{
        "core:sample_start": 0, "core:frequency": 145.5e6,
        "core:datetime": "2020-08-13T06:52:20.250000000000Z",
        "core:geolocation": { "type": "Point", "coordinates": [8.5, 46.25, 1500] },
        "capture_details:gain": 12.5,
        "heimdall:clock": { "kind": "disciplined", "sigma_s": 1e-7 }
    }]));
    meta["global"]["heimdall:receiver"] = json!("north");
    meta["global"]["heimdall:antenna_height_m"] = json!(12);
    meta["annotations"] = json!([{
        "core:sample_start": 3, "core:sample_count": 4, "core:freq_lower_edge": 145e6,
        "core:freq_upper_edge": 146e6, "core:label": "x", "core:comment": "y"
    }]);

    let file = open(&meta, data(10)).unwrap();

    let metadata = file.metadata();
    assert_eq!((metadata.sample_count, metadata.sample_rate_hz), (10, 1000.0));
    assert_eq!((metadata.start, metadata.center_frequency_hz), (Some(START), Some(145.5e6)));
    assert_eq!(metadata.clock, ClockQuality::Disciplined { sigma_s: 1e-7 });
    assert_eq!(metadata.gain, Some(Gain::Fixed { gain_db: 12.5 }));
    let position = Position::new(46.25, 8.5).unwrap();
    assert_eq!(metadata.place, Some(Place { position, altitude_m: Some(1500.0) }));
    assert_eq!(
        (metadata.receiver.as_deref(), metadata.antenna_height_m),
        (Some("north"), Some(12.0))
    );
    let annotation = Annotation {
        sample_start: 3,
        sample_count: Some(4),
        frequency_lower_hz: Some(145e6),
        frequency_upper_hz: Some(146e6),
        label: Some("x".to_owned()),
        comment: Some("y".to_owned()),
    };
    assert_eq!(metadata.annotations, [annotation]);
    assert_eq!(read(&file), (0..10).collect::<Vec<_>>());
}

#[test]
fn either_file_names_the_recording() {
    let meta = meta(json!([])).to_string().into_bytes();
    let options = ReadOptions::default();
    block_on(async {
        let store = store_of(&[("x.sigmf-meta", meta), ("x.sigmf-data", data(5))]).await;
        for name in ["folder/x.sigmf-meta", "folder/x.sigmf-data"] {
            let key = ObjectPath::from(name);
            let file = IqFile::open_object(Arc::clone(&store), &key, &options).await.unwrap();
            assert_eq!(file.metadata().sample_count, 5);
            assert_eq!((file.metadata().start, file.metadata().center_frequency_hz), (None, None));
        }
        for (there, asked) in [("x.sigmf-meta", "x.sigmf-meta"), ("x.sigmf-data", "x.sigmf-data")] {
            let content = super::tests::meta(json!([])).to_string().into_bytes();
            let store = store_of(&[(there, content)]).await;
            let key = ObjectPath::from(format!("folder/{asked}"));
            let error = IqFile::open_object(store, &key, &options).await.unwrap_err();
            assert!(error.to_string().contains("is not there"), "{error}");
        }
    });
}

#[test]
fn captures_that_follow_one_another_are_one_run() {
    let file = open(
        &meta(json!([
            { "core:sample_start": 0, "core:frequency": 1e6 },
            { "core:sample_start": 4, "core:frequency": 1e6, "core:datetime": "2020-08-13T06:52:20.254Z" },
            { "core:sample_start": 7, "core:frequency": 1e6, "core:datetime": "2020-08-13T06:52:20.2573Z" },
        ])),
        data(10),
    )
    .unwrap();

    assert_eq!(read(&file), (0..10).collect::<Vec<_>>());
    assert_eq!((file.metadata().gap_count, file.metadata().start), (0, Some(START)));
}

#[test]
fn gaps_and_changes_of_frequency_end_a_run() {
    let gaps = [
        json!({ "core:sample_start": 4, "core:frequency": 1e6, "core:global_index": 5 }),
        json!({ "core:sample_start": 4, "core:frequency": 2e6 }),
        json!({ "core:sample_start": 4 }),
        json!({ "core:sample_start": 4, "core:frequency": 1e6, "core:datetime": "2020-08-13T06:52:20.256Z" }),
        json!({ "core:sample_start": 4, "core:frequency": 1e6, "core:datetime": "2020-08-13T06:52:20.252Z" }),
    ];
    for gap in gaps {
        let first = json!({ "core:sample_start": 0, "core:frequency": 1e6,
            "core:datetime": "2020-08-13T06:52:20.25Z" });
        let meta = meta(json!([first, gap]));

        let longest = open(&meta, data(10)).unwrap();
        assert_eq!(read(&longest), [4, 5, 6, 7, 8, 9], "{gap}");
        assert_eq!((longest.metadata().gap_count, longest.metadata().dropped_sample_count), (1, 4));

        let choose = |run| {
            let options = ReadOptions { run: Some(run), ..ReadOptions::default() };
            block_on(open_with(meta.to_string().as_bytes(), data(10), &options))
        };
        assert_eq!(read(&choose(0).unwrap()), [0, 1, 2, 3], "{gap}");
        assert!(matches!(choose(2), Err(DataError::NoSuchPart { .. })));
    }
}

/// The first and the third run have two captures each. What one of them does not say has not changed.
#[test]
fn changes_of_gain_and_clock_end_a_run() {
    let disciplined = json!({ "kind": "disciplined", "sigma_s": 1e-7 });
    let meta = meta(json!([
        { "core:sample_start": 0, "capture_details:gain": 10 },
        { "core:sample_start": 2 },
        { "core:sample_start": 4, "capture_details:gain": 20 },
        { "core:sample_start": 5, "heimdall:clock": disciplined },
        { "core:sample_start": 7, "heimdall:clock": disciplined, "capture_details:gain": 20 },
    ]));
    let run = |run| {
        let options = ReadOptions { run: Some(run), ..ReadOptions::default() };
        block_on(open_with(meta.to_string().as_bytes(), data(10), &options)).unwrap()
    };
    let gain = |file: &IqFile| match file.metadata().gain {
        Some(Gain::Fixed { gain_db }) => gain_db,
        other => panic!("{other:?}"),
    };

    assert_eq!((read(&run(0)), read(&run(1))), (vec![0, 1, 2, 3], vec![4]));
    for (index, gain_db) in [(0, 10.0), (1, 20.0), (2, 20.0)] {
        assert!((gain(&run(index)) - gain_db).abs() < 1e-12, "run {index}");
    }
    assert_eq!(run(0).metadata().gap_count, 2);
    assert_eq!(run(1).metadata().clock, ClockQuality::Unknown);
    assert_eq!(run(2).metadata().clock, ClockQuality::Disciplined { sigma_s: 1e-7 });
}

/// A place of the whole recording is that of each capture without one.
#[test]
fn place_of_all_captures_is_that_of_those_without_one() {
    let point = |east: f64| json!({ "type": "Point", "coordinates": [east, 46.25] });
    let place = |longitude| {
        Some(Place { position: Position::new(46.25, longitude).unwrap(), altitude_m: None })
    };
    for (captures, expected) in [
        (json!([]), place(8.5)),
        (json!([{ "core:sample_start": 0 }]), place(8.5)),
        (json!([{ "core:sample_start": 0, "core:geolocation": point(9.0) }]), place(9.0)),
    ] {
        let mut meta = meta(captures);
        meta["global"]["core:geolocation"] = point(8.5);

        assert_eq!(open(&meta, data(4)).unwrap().metadata().place, expected);
    }
}

#[test]
fn part_of_a_longer_recording_counts_from_its_offset() {
    let mut meta = meta(json!([{ "core:sample_start": 100 }, { "core:sample_start": 102,
        "core:global_index": 500 }]));
    meta["global"]["core:offset"] = json!(100);

    assert_eq!(read(&open(&meta, data(5)).unwrap()), [2, 3, 4]);

    meta["captures"][0]["core:sample_start"] = json!(99);
    assert!(
        open(&meta, data(5)).unwrap_err().to_string().contains("captures[0].core:sample_start")
    );
}

#[test]
fn bytes_around_samples_are_stepped_over() {
    let mut meta = meta(json!([
        { "core:sample_start": 0, "core:header_bytes": 3 },
        { "core:sample_start": 2, "core:header_bytes": 5 },
    ]));
    meta["global"]["core:trailing_bytes"] = json!(2);
    meta["global"]["core:dataset"] = json!("x.bin");
    let samples = data(6);
    let dataset = [&[9; 3], &samples[..8], &[9; 5], &samples[8..], &[1, 2, 3], &[9; 2]].concat();
    let options = ReadOptions::default();
    let store =
        block_on(store_of(&[("x.sigmf-meta", meta.to_string().into()), ("x.bin", dataset)]));

    let key = ObjectPath::from("folder/x.sigmf-meta");
    let file = block_on(IqFile::open_object(store, &key, &options)).unwrap();

    assert_eq!(read(&file), [0, 1, 2, 3, 4, 5]);
    assert_eq!(file.metadata().cut_byte_count, 3);
}

#[test]
fn channels_are_chosen_one_at_a_time() {
    let mut meta = meta(json!([]));
    meta["global"]["core:num_channels"] = json!(3);
    let choose = |channel| {
        let options = ReadOptions { channel, ..ReadOptions::default() };
        block_on(open_with(meta.to_string().as_bytes(), data(9), &options))
    };

    assert_eq!(read(&choose(Some(0)).unwrap()), [0, 3, 6]);
    assert_eq!(read(&choose(Some(2)).unwrap()), [2, 5, 8]);
    assert!(matches!(choose(None), Err(DataError::ChannelNotChosen { channel_count: 3, .. })));
    assert!(matches!(choose(Some(3)), Err(DataError::NoSuchPart { .. })));
}

#[test]
fn hash_of_the_samples_is_checked() {
    let mut meta = meta(json!([]));
    meta["global"]["core:sha512"] = json!(hexadecimal(&Sha512::digest(data(9))).to_uppercase());
    assert!(open(&meta, data(9)).is_ok());

    match open(&meta, data(8)) {
        Err(DataError::HashMismatch { file, .. }) => assert_eq!(file, "folder/a.b.sigmf-data"),
        other => panic!("other samples give {other:?}"),
    }
    let options = ReadOptions { check_hash: false, ..ReadOptions::default() };
    assert!(block_on(open_with(meta.to_string().as_bytes(), data(8), &options)).is_ok());
}

#[test]
fn real_types_are_refused_by_name() {
    for name in ["rf32_le", "ri16_be", "ru8"] {
        let mut meta = meta(json!([]));
        meta["global"]["core:datatype"] = json!(name);
        match open(&meta, data(9)) {
            Err(DataError::NotIq { actual, .. }) => assert!(actual.contains(name), "{actual}"),
            other => panic!("{name} gives {other:?}"),
        }
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let mut needs = meta(json!([]));
    needs["global"]["core:extensions"] =
        json!([{ "name": "odd", "version": "1.0.0", "optional": false }]);
    let mut newer = meta(json!([]));
    newer["global"]["core:version"] = json!("2.0.0");
    for (meta, name) in [(needs, "`odd`"), (newer, "2.0.0")] {
        match open(&meta, data(9)) {
            Err(DataError::Unsupported { what, .. }) => assert!(what.contains(name), "{what}"),
            other => panic!("{name} gives {other:?}"),
        }
    }
}

#[test]
fn wrong_field_is_told_with_its_path() {
    let change = |pointer: &str, value: Value| {
        let mut meta = meta(json!([{ "core:sample_start": 0 }, { "core:sample_start": 5 }]));
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = meta.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
            _ => parent[key] = value,
        }
        meta
    };
    let point = |coordinates: Value| json!({ "type": "Point", "coordinates": coordinates });
    let cases = [
        (json!([]), "as a whole"),
        (json!({}), "global"),
        (change("/global/core:datatype", json!(1)), "global.core:datatype"),
        (change("/global/core:datatype", json!("cf16_le")), "global.core:datatype"),
        (change("/global/core:datatype", json!("")), "global.core:datatype"),
        (change("/global/core:version", Value::Null), "global.core:version"),
        (change("/global/core:sample_rate", json!("1000")), "global.core:sample_rate"),
        (change("/global/core:sample_rate", json!(0)), "global.core:sample_rate"),
        (change("/global/core:num_channels", json!(0)), "global.core:num_channels"),
        (change("/global/core:num_channels", json!(1001)), "global.core:num_channels"),
        (change("/global/core:sha512", json!("12")), "global.core:sha512"),
        (change("/global/core:dataset", json!("../x")), "global.core:dataset"),
        (change("/global/core:metadata_only", json!(true)), "global.core:metadata_only"),
        (change("/global/core:extensions", json!([{}])), "global.core:extensions[0].name"),
        (change("/global/core:trailing_bytes", json!(41)), "global.core:trailing_bytes"),
        (change("/captures", json!({})), "captures"),
        (change("/captures/1", json!(5)), "captures[1]"),
        (change("/captures/1", json!({})), "captures[1].core:sample_start"),
        (change("/captures/1/core:sample_start", json!(-1)), "captures[1].core:sample_start"),
        (change("/captures/1/core:sample_start", json!(1.5)), "captures[1].core:sample_start"),
        (change("/captures/1/core:sample_start", json!(11)), "captures[1].core:sample_start"),
        (change("/captures/0/core:sample_start", json!(6)), "captures[1].core:sample_start"),
        (change("/captures/1/core:header_bytes", json!(41)), "captures[1].core:header_bytes"),
        (change("/captures/1/core:datetime", json!("2020")), "captures[1].core:datetime"),
        (change("/captures/1/core:frequency", json!([])), "captures[1].core:frequency"),
        (change("/captures/1/core:geolocation", json!({})), "captures[1].core:geolocation.type"),
        (
            change("/captures/1/core:geolocation", point(json!([8.5]))),
            "captures[1].core:geolocation.coordinates",
        ),
        (
            change("/captures/1/core:geolocation", point(json!([8.5, 91]))),
            "captures[1].core:geolocation.coordinates[1]",
        ),
        (
            change("/captures/1/heimdall:clock", json!({ "kind": "disciplined" })),
            "captures[1].heimdall:clock.sigma_s",
        ),
        (change("/annotations", json!([{}])), "annotations[0].core:sample_start"),
    ];
    for (meta, expected) in cases {
        match open(&meta, data(10)) {
            Err(DataError::Malformed { file, place, .. }) => {
                assert_eq!((file.as_str(), place.as_str()), ("folder/a.b.sigmf-meta", expected));
            }
            other => panic!("{expected} gives {other:?}"),
        }
    }
    let broken = block_on(open_with(b"{\n  x", data(1), &ReadOptions::default())).unwrap_err();
    assert!(broken.to_string().contains("line 2, column 3"), "{broken}");
}

/// A header of an archive, as `tar` writes it.
fn tar_header(name: &str, kind: u8, size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    header[154] = 0;
    header
}

fn tar_entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut entry = tar_header(name, kind, content.len());
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

fn archive() -> Vec<u8> {
    let mut meta = meta(json!([{ "core:sample_start": 0 }]));
    meta["global"]["core:sha512"] = json!(hexadecimal(&Sha512::digest(data(9))));
    let long = format!("folder/{}.sigmf-data", "n".repeat(20));
    let record = format!(" path={long}\n");
    let record = format!("{}{record}", record.len() + 2);
    [
        tar_entry("folder", b'5', b""),
        tar_entry(
            &format!("folder/{}.sigmf-meta", "n".repeat(20)),
            b'0',
            meta.to_string().as_bytes(),
        ),
        tar_entry("x", b'x', record.as_bytes()),
        tar_entry("short", b'0', &data(9)),
        vec![0; 1024],
    ]
    .concat()
}

async fn open_archive(bytes: Vec<u8>) -> Result<IqFile, DataError> {
    IqFile::from_bytes("x.sigmf", bytes, &ReadOptions::default()).await
}

#[test]
fn archive_holds_one_recording() {
    let file = block_on(open_archive(archive())).unwrap();
    assert_eq!(read(&file), (0..9).collect::<Vec<_>>());

    let two = [archive()[..2048].to_vec(), archive()].concat();
    let error = block_on(open_archive(two)).unwrap_err().to_string();
    assert!(error.contains("must be exactly one, but is 2"), "{error}");
    assert!(block_on(open_archive(vec![0; 1024])).is_err());
}

#[test]
fn archive_that_ends_anywhere_is_read_or_refused() {
    let bytes = archive();
    let whole = bytes.len() - 1024;
    for end in 0..bytes.len() {
        let opened = block_on(open_archive(bytes[..end].to_vec()));
        // The samples are 36 bytes long; what fills their block may be missing.
        let is_whole = end >= whole - (512 - 36);
        assert_eq!(opened.is_ok(), is_whole, "{end} bytes of {whole} give {opened:?}");
    }
}

#[test]
fn metadata_that_end_anywhere_are_refused() {
    let text = meta(json!([{ "core:sample_start": 0 }])).to_string();
    for end in 0..text.len() {
        let opened = block_on(open_with(&text.as_bytes()[..end], data(2), &ReadOptions::default()));
        assert!(matches!(opened, Err(DataError::Malformed { .. })), "{end} bytes");
    }
}

proptest! {
    #[test]
    fn damaged_archive_is_read_or_refused(places in vec((0_usize..3072, any::<u8>()), 1..20)) {
        let mut bytes = archive();
        for (at, value) in places {
            bytes[at] = value;
        }
        let _ = block_on(open_archive(bytes));
    }

    #[test]
    fn damaged_metadata_are_read_or_refused(places in vec((0_usize..220, any::<u8>()), 1..6)) {
        let mut bytes = meta(json!([{ "core:sample_start": 0, "core:header_bytes": 1 }])).to_string().into_bytes();
        for (at, value) in places {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let options = ReadOptions { channel: Some(0), ..ReadOptions::default() };
        if let Ok(file) = block_on(open_with(&bytes, data(5), &options)) {
            block_on(file.read()).unwrap();
        }
    }
}
