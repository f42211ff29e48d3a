//! Reads bytes as a file of some kind.

use std::sync::Arc;

use heimdall_data::{
    IqFile, MeasuredNetwork, MeasurementTables, ReadOptions, SigmfCollection, TableConfig,
    read_npy, read_receivers, read_sources,
};
use num_complex::Complex32;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// What others write and we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// WAV files of a KiwiSDR.
    KiwiWav,
    /// Arrays of NumPy.
    Npy,
    /// Sidecars of raw files.
    Sidecar,
    /// Archives with a SigMF recording.
    SigmfArchive,
    /// SigMF collections.
    SigmfCollection,
    /// Metadata of SigMF recordings.
    SigmfMeta,
    /// Tables of receivers, of sources, of events and of measurements.
    Table,
    /// WAV files.
    Wav,
}

/// Reads bytes as a file of a kind.
///
/// # Panics
///
/// If that shows a mistake of the reader.
pub fn read(kind: Kind, bytes: &[u8]) {
    let facts = ReadOptions::default;
    // A hash is right for unchanged samples only.
    let unhashed = || ReadOptions { check_hash: false, ..facts() };
    match kind {
        Kind::KiwiWav => {
            read_files(&[("20200813T065220Z_77500_HB9ODP_iq.wav", bytes)], &facts());
        }
        Kind::Npy => {
            let _ = read_npy(bytes);
            let options = ReadOptions { sample_rate_hz: Some(1e3), ..facts() };
            read_files(&[("x.npy", bytes)], &options);
            read_files(&[("x.npy", bytes)], &ReadOptions { channel: Some(1), ..options });
        }
        Kind::Sidecar => {
            read_files(&[("x.cu8", &[0x5a; 99]), ("x.cu8.json", bytes)], &facts());
        }
        Kind::SigmfArchive => read_files(&[("x.sigmf", bytes)], &unhashed()),
        Kind::SigmfCollection => {
            let _ = SigmfCollection::from_bytes("x.sigmf-collection", bytes);
        }
        Kind::SigmfMeta => {
            let options = ReadOptions { channel: Some(0), ..unhashed() };
            let files: [(_, &[u8]); 2] = [("x.sigmf-meta", bytes), ("x.sigmf-data", &[0x5a; 400])];
            read_files(&files, &options);
        }
        Kind::Table => {
            let _ = read_receivers("receivers.csv".as_ref(), bytes);
            let _ = read_sources("sources.csv".as_ref(), bytes);
            read_measurements(bytes);
        }
        Kind::Wav => read_files(&[("x.wav", bytes)], &facts()),
    }
}

/// Reads receivers, events and measurements, one after the other, with a zero byte between them. With
/// fewer parts, they are the measurements, or the events and the measurements, of given receivers.
fn read_measurements(bytes: &[u8]) {
    const RECEIVERS: &[u8] = b"receiver,latitude,longitude\na,45,7\nb,45.1,7.2\nc,46,9\n";
    const EVENTS: &[u8] = b"event\n1\n2\n";
    let parts: Vec<&[u8]> = bytes.splitn(3, |byte| *byte == 0).collect();
    let [receivers, events, measurements] = match parts[..] {
        [receivers, events, measurements] => [receivers, events, measurements],
        [events, measurements] => [RECEIVERS, events, measurements],
        _ => [RECEIVERS, EVENTS, bytes],
    };
    let folder = "folder".as_ref();
    if let Ok(tables) = MeasurementTables::from_bytes(folder, receivers, events, measurements) {
        let times = tables.events.iter().flat_map(|event| &event.measurements);
        let times = times.filter_map(|measurement| measurement.arrival_s);
        // Before the first one there is none, but for the part of a nanosecond.
        times.for_each(|time_s| assert!(time_s.is_finite() && time_s >= -1e-9, "{time_s} s"));
        let _ = MeasuredNetwork::of(&tables, &TableConfig::default());
    }
}

/// Waits for what never waits for anything but memory.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs nothing");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Opens the first of some files that lie in one folder, and reads it.
fn read_files(files: &[(&str, &[u8])], options: &ReadOptions) {
    block_on(async {
        let store = InMemory::new();
        for (name, bytes) in files {
            let put = store.put(&Path::from(*name), bytes.to_vec().into()).await;
            put.expect("memory takes what is put there");
        }
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let size: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        if let Ok(file) = IqFile::open_object(store, &Path::from(files[0].0), options).await {
            check(&file, size as u64).await;
        }
    });
}

async fn check(file: &IqFile, size: u64) {
    let count = file.metadata().sample_count;
    assert!(count <= size, "{count} samples in {size} bytes");
    let whole = file.read().await.expect("what was opened can be read").recording.samples;
    assert_eq!(whole.len() as u64, count);
    let (from, to) = (count / 3, count - count / 4);
    let part = file.samples(from..to).await.expect("a part of what was read can be read");
    let bits = |sample: &Complex32| (sample.re.to_bits(), sample.im.to_bits());
    assert!(part.iter().map(bits).eq(whole[from as usize..to as usize].iter().map(bits)));
}
