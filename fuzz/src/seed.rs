//! Small valid files to start from, written by the project's own code where it writes the format.

use std::fs;

use heimdall_data::{
    Catalog, EventEntry, RecordingEntry, RecordingFormat, Recordings, export_sigmf, write_npy,
};
use heimdall_features::{ClockQuality, UtcTime};
use heimdall_geo::{Position, Receiver};
use num_complex::Complex32;

use super::kiwi_fixture::KiwiFile;
use super::reading::{Kind, block_on};

/// When the seeds were recorded.
const START: UtcTime = UtcTime { seconds: 1_597_301_540, nanoseconds: 250_000_000 };

/// Small valid files of a kind.
///
/// # Panics
///
/// If a temporary folder cannot be written.
pub fn seeds(kind: Kind) -> Vec<Vec<u8>> {
    let samples: Vec<_> = (0..40).map(|n| Complex32::new(n as f32, -1.0) / 64.0).collect();
    match kind {
        Kind::KiwiWav => {
            let kiwi = |stale, block_count| KiwiFile { stale, block_count, ..KiwiFile::starting(START) };
            vec![kiwi(Vec::new(), 4).bytes(), kiwi(vec![(255, 0, 0)], 6).bytes()]
        }
        Kind::Npy => {
            let one = write_npy(&samples);
            let mut two = one.clone();
            let at = one.windows(5).position(|text| text == b"(40,)").expect("a shape");
            two.splice(at..at + 5, *b"(2,20)");
            two.remove(126);
            vec![one, two]
        }
        Kind::Sidecar => vec![
            br#"{"datatype": "cs16", "sample_rate_hz": 2048000, "center_frequency_hz": 1e8}"#.to_vec(),
            br#"{"start": "2024-05-01T12:00:00.123456789Z", "receivers": ["north"],
                "clock": {"kind": "disciplined", "sigma_s": 1e-7},
                "gain": {"kind": "fixed", "gain_db": 40.2}, "sample_rate_hz": 1}"#
                .to_vec(),
        ],
        Kind::SigmfArchive => {
            let (meta, data) = (exported("sigmf-meta"), exported("sigmf-data"));
            vec![[tar_entry("a.sigmf-meta", &meta), tar_entry("a.sigmf-data", &data)].concat()]
        }
        Kind::SigmfCollection => vec![exported("sigmf-collection")],
        Kind::SigmfMeta => vec![
            exported("sigmf-meta"),
            br#"{"global": {"core:datatype": "ci16_be", "core:version": "1.0.0", "core:offset": 2,
                "core:sample_rate": 48000, "core:num_channels": 2, "core:trailing_bytes": 3},
                "captures": [{"core:sample_start": 2, "core:header_bytes": 5, "core:frequency": 1e6},
                {"core:sample_start": 9, "core:global_index": 11,
                "core:datetime": "2024-05-01T12:00:00.5Z"}],
                "annotations": [{"core:sample_start": 3, "core:label": "x"}]}"#
                .to_vec(),
        ],
        Kind::Table => vec![
            b"receiver,latitude,longitude,altitude_m\n\"a, b\",46.5,8.75,1500\n\nc,-1,2,\n".to_vec(),
            b"source,frequency_hz,latitude,longitude\nDCF77,77500,50.0155,9.0108\nx,6e4,,\n".to_vec(),
            [
                "receiver,latitude,longitude,altitude_m\na,45,7,100\nb,45.1,7.2,\n",
                "event,set,session,source,waveform,time,latitude,longitude,altitude_m\n\
                 1,s,walk,car,cw,2022-07-05T10:51:43.25Z,45.5,7.5,900\n2,,,,,,,,\n",
                "event,receiver,rss_db,snr_db,noise_db,arrival_time_ns\n\
                 1,a,-80,,,1700000000123456789.25\n1,b,-90,3.5,-93.5,1.7e18\n2,b,,,,-12.5\n",
            ]
            .join("\0")
            .into_bytes(),
            b"event,receiver,arrival_time_ns\n1,c,12\n1,a,+7.\n2,b,3\n".to_vec(),
        ],
        Kind::Wav => vec![wav(b"RIFF", 1, 16, false), wav(b"RF64", 3, 32, true)],
    }
}

/// The first file with an extension that the export of a small catalog writes.
fn exported(extension: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    block_on(async {
        let store = std::sync::Arc::new(object_store::memory::InMemory::new());
        let catalog = Catalog::in_memory().await.expect("a catalog in memory needs nothing");
        let recordings = Recordings::new(catalog, store);
        let position = Position::new(46.5, 8.75).expect("a place on Earth");
        let receiver = Receiver {
            name: "north".to_owned(),
            position,
            altitude_m: 1500.0,
            antenna_height_m: 10.0,
        };
        recordings.catalog().add_receivers(&[receiver]).await.expect("a new receiver");
        let samples = [Complex32::new(0.5, -0.5); 8];
        let digest = recordings.put("a.npy", write_npy(&samples)).await.expect("memory");
        let entry = RecordingEntry {
            receiver: "north".to_owned(),
            object: "a.npy".to_owned(),
            format: RecordingFormat::Npy,
            sample_rate_hz: 12_000.5,
            center_frequency_hz: 77_500.0,
            start: START,
            clock: ClockQuality::Disciplined { sigma_s: 1e-7 },
            sample_count: 8,
            digest,
        };
        let event = EventEntry {
            id: "event".to_owned(),
            session: "session".to_owned(),
            source: "source".to_owned(),
            position: Some(position),
            frequency_hz: 77_500.0,
            start: START,
            waveform: Some("cw".to_owned()),
            recordings: vec![entry],
            levels: Vec::new(),
        };
        recordings.catalog().add_events(&[event]).await.expect("a new event");
        export_sigmf(&recordings, folder.path()).await.expect("a folder that can be written");
    });
    let mut files = fs::read_dir(folder.path()).expect("the folder that was written");
    let found = files.find_map(|entry| {
        let path = entry.ok()?.path();
        (path.extension()? == extension).then(|| fs::read(path).ok()).flatten()
    });
    found.expect("the export writes such a file")
}

fn chunk(id: &[u8; 4], size: u32, body: &[u8]) -> Vec<u8> {
    [id.as_slice(), &size.to_le_bytes(), body].concat()
}

/// A file with all chunks that are understood.
fn wav(form: &[u8; 4], encoding: u16, bits: u16, is_large: bool) -> Vec<u8> {
    let frame = bits / 4;
    let mut format = [encoding.to_le_bytes(), 2_u16.to_le_bytes()].concat();
    format.extend(48_000_u32.to_le_bytes());
    format.extend((48_000 * u32::from(frame)).to_le_bytes());
    format.extend([frame.to_le_bytes(), bits.to_le_bytes()].concat());
    let mut auxi: Vec<u8> =
        [2021_u16, 5, 2, 4, 3, 2, 1, 250].iter().flat_map(|field| field.to_le_bytes()).collect();
    auxi.resize(32, 0);
    auxi.extend(7_100_000_u32.to_le_bytes());
    let mut sizes = vec![0; 28];
    sizes[8] = 64;
    let size = if is_large { u32::MAX } else { 64 };
    let chunks = [
        if is_large { chunk(b"ds64", 28, &sizes) } else { Vec::new() },
        chunk(b"fmt ", 16, &format),
        chunk(b"auxi", 36, &auxi),
        chunk(b"data", size, &[0x21; 64]),
    ]
    .concat();
    [form.as_slice(), &(chunks.len() as u32 + 4).to_le_bytes(), b"WAVE", &chunks].concat()
}

/// A header and a content, as `tar` writes them.
fn tar_entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut entry = vec![0; 512];
    entry[..name.len()].copy_from_slice(name.as_bytes());
    entry[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    entry[156] = b'0';
    entry[257..265].copy_from_slice(b"ustar\x0000");
    entry[148..156].fill(b' ');
    let sum: u32 = entry.iter().map(|byte| u32::from(*byte)).sum();
    entry[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}
