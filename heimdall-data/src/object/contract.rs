//! What every store of objects must do, and what happens when a server does not.

use std::time::Duration;

use heimdall_features::{ClockQuality, UtcTime};
use num_complex::Complex32;
use object_store::{ObjectStoreExt, PutPayload};
use tempfile::tempdir;

use super::*;
use crate::testing::bucket::{self, BUCKET, Server, Wire};
use crate::{Catalog, RecordingEntry, RecordingFormat, Recordings, write_npy};

type Store = Arc<dyn ObjectStore>;

/// More than what is sent in one part.
const LARGE: usize = 11 * 1024 * 1024;

fn samples(count: usize) -> Vec<Complex32> {
    (0..count).map(|n| Complex32::cis(n as f32)).collect()
}

fn entry(key: &str, digest: String, sample_count: usize) -> RecordingEntry {
    RecordingEntry {
        receiver: "north".to_owned(),
        object: key.to_owned(),
        format: RecordingFormat::Npy,
        sample_rate_hz: 8000.0,
        center_frequency_hz: 145.5e6,
        start: UtcTime { seconds: 1, nanoseconds: 2 },
        clock: ClockQuality::Unknown,
        sample_count: sample_count as u64,
        digest,
    }
}

async fn recordings(store: &Store) -> Recordings {
    Recordings::new(Catalog::in_memory().await.unwrap(), Arc::clone(store))
}

/// All that is asked of a store that takes objects.
async fn store_keeps_what_it_is_given(store: Store) {
    let recordings = recordings(&store).await;

    // Whole and in parts, however long.
    let long = samples(LARGE / 8);
    let digest = recordings.put("a b/ü 東京.npy", write_npy(&long)).await.unwrap();
    let long_entry = entry("a b/ü 東京.npy", digest, long.len());
    assert_eq!(recordings.load(&long_entry).await.unwrap().samples, long);
    let file = recordings.open_recording(&long_entry).await.unwrap();
    assert_eq!(file.samples(1_000_000..1_000_123).await.unwrap(), long[1_000_000..1_000_123]);
    assert_eq!(file.samples(5..5).await.unwrap(), []);

    // Keys that a file or a URL could take for something else stay apart.
    let keys =
        ["x", "..", "x/../y", "x#1", "x?y=1", "100%", "%2E", "a+b", "a b", "a\nb", "~", "=&;"];
    let mut entries = Vec::new();
    for (index, key) in keys.into_iter().enumerate() {
        let key = format!("keys/{key}.npy");
        let digest = recordings.put(&key, write_npy(&samples(index + 1))).await.unwrap();
        entries.push(entry(&key, digest, index + 1));
    }
    for entry in &entries {
        let loaded = recordings.load(entry).await.unwrap();
        assert_eq!(loaded.samples.len() as u64, entry.sample_count, "{}", entry.object);
    }

    // What is not there is told by its key, and so is what has changed since it was listed.
    let missing = recordings.load(&entry("no such", String::new(), 1)).await.unwrap_err();
    assert!(matches!(&missing, DataError::Object { key, .. } if key == "no such"), "{missing:?}");
    let opened = recordings.open_recording(&entries[2]).await.unwrap();
    recordings.put(&entries[2].object, write_npy(&samples(1))).await.unwrap();
    let changed = recordings.load(&entries[2]).await.unwrap_err();
    assert!(matches!(&changed, DataError::DigestMismatch { key, .. } if *key == entries[2].object));
    let read_on = opened.samples(0..3).await.unwrap_err();
    assert!(read_on.to_string().contains("x"), "{read_on}");
}

async fn content_is_stored_once(store: Store) {
    let recordings = recordings(&store).await;
    let folder = tempdir().unwrap();
    let path = folder.path().join("north.npy");
    std::fs::write(&path, write_npy(&samples(LARGE / 8))).unwrap();
    let options = crate::ReadOptions { sample_rate_hz: Some(8000.0), ..Default::default() };
    let file = crate::IqFile::open(&path, &options).await.unwrap();

    let (key, digest) = recordings.put_content(file.as_npy(), "npy").await.unwrap();
    let written = store.head(&ObjectPath::from(key.as_str())).await.unwrap();
    let again = recordings.put_content(file.as_npy(), "npy").await.unwrap();

    assert_eq!(again, (key.clone(), digest.clone()));
    assert_eq!(store.head(&ObjectPath::from(key.as_str())).await.unwrap(), written);
    let loaded = recordings.load(&entry(&key, digest, LARGE / 8)).await.unwrap();
    assert_eq!(loaded.samples, samples(LARGE / 8));
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let open = || StoreAddress::Memory.open(&BTreeMap::new(), StoreAddress::PATIENCE).unwrap();

    store_keeps_what_it_is_given(open()).await;
    content_is_stored_once(open()).await;
}

#[tokio::test]
async fn folder_keeps_the_contract() {
    let folder = tempdir().unwrap();
    let inner = folder.path().join("a store/ü");
    std::fs::create_dir_all(&inner).unwrap();
    let open = || {
        StoreAddress::Folder(inner.clone()).open(&BTreeMap::new(), StoreAddress::PATIENCE).unwrap()
    };

    store_keeps_what_it_is_given(open()).await;
    content_is_stored_once(open()).await;

    assert_eq!(std::fs::read_dir(folder.path().join("a store")).unwrap().count(), 1);
}

/// A folder that cannot be written to, and a disk that is full, are told with the key.
#[tokio::test]
async fn folder_that_takes_nothing_is_named() {
    let folder = tempdir().unwrap();
    // A file stands where a folder is needed, which holds for whoever runs this.
    std::fs::write(folder.path().join("taken"), "").unwrap();
    let store = StoreAddress::Folder(folder.path().to_owned())
        .open(&BTreeMap::new(), StoreAddress::PATIENCE)
        .unwrap();
    let recordings = recordings(&store).await;

    let error = recordings.put("taken/a.npy", write_npy(&samples(1))).await.unwrap_err();

    assert_eq!(error.to_string(), "the object `taken/a.npy` cannot be written");
}

mod with_python {
    use super::*;

    fn open(address: &str, environment: &BTreeMap<String, String>) -> Store {
        address.parse::<StoreAddress>().unwrap().open(environment, StoreAddress::PATIENCE).unwrap()
    }

    fn causes(error: &DataError) -> String {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Python with moto"]
    async fn bucket_keeps_the_contract() {
        let server = Server::start();
        let environment = server.environment();

        store_keeps_what_it_is_given(open(&format!("s3://{BUCKET}/some/where"), &environment))
            .await;
        content_is_stored_once(open(&format!("s3://{BUCKET}"), &environment)).await;

        let whole = open(&format!("s3://{BUCKET}"), &environment);
        assert!(whole.head(&ObjectPath::from("some/where/keys/x.npy")).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Python with moto"]
    async fn refusals_are_told_with_key_and_cause() {
        let server = Server::start();
        let wrong = bucket::environment(server.port());
        for (address, environment, expected) in [
            (format!("s3://{BUCKET}"), &wrong, "403"),
            ("s3://no-such-bucket".to_owned(), &server.environment(), "NoSuchBucket"),
        ] {
            let recordings = recordings(&open(&address, environment)).await;

            let written = recordings.put("a.npy", write_npy(&samples(1))).await.unwrap_err();
            let read = recordings.load(&entry("a.npy", String::new(), 1)).await.unwrap_err();

            let [written, read] = [written, read].map(|error| causes(&error));
            assert!(written.contains("`a.npy` cannot be written"), "{written}");
            assert!(read.contains("`a.npy` cannot be read"), "{read}");
            assert!(written.contains(expected), "{written}");
            assert!(!written.contains("nothing-worth-knowing"), "{written}");
        }
    }

    /// A server that comes up while it is asked is not missed.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Python with moto"]
    async fn server_that_is_down_at_the_start_is_waited_for() {
        let port = bucket::free_port();
        let store = open(&format!("s3://{BUCKET}"), &bucket::environment(port));

        let starting = tokio::task::spawn_blocking(move || Server::open_to_all(port));
        let put = async {
            // The bucket is made a moment after the server listens.
            while let Err(error) =
                store.put(&ObjectPath::from("a"), PutPayload::from_static(b"x")).await
            {
                assert!(error.to_string().contains("NoSuchBucket"), "{error}");
            }
        };
        let (server, ()) = tokio::join!(starting, put);

        assert_eq!(store.head(&ObjectPath::from("a")).await.unwrap().size, 1);
        drop(server.unwrap());
    }

    /// What breaks off is read on; what drips is waited for.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Python with moto"]
    async fn answers_that_break_off_or_drip_arrive() {
        let server = Server::start();
        let direct = recordings(&open(&format!("s3://{BUCKET}"), &server.environment())).await;
        let digest = direct.put("a.npy", write_npy(&samples(LARGE / 8))).await.unwrap();
        let entry = entry("a.npy", digest, LARGE / 8);

        for (cuts, pause) in [(3, Duration::ZERO), (0, Duration::from_millis(20))] {
            let wire = Wire::new(server.port(), cuts, LARGE / 4, pause);
            let mut environment = server.environment();
            environment.extend(
                bucket::environment(wire.port())
                    .into_iter()
                    .filter(|(name, _)| name == "AWS_ENDPOINT_URL"),
            );
            let through = recordings(&open(&format!("s3://{BUCKET}"), &environment)).await;

            let loaded = through.load(&entry).await.unwrap();

            assert_eq!(loaded.samples, samples(LARGE / 8));
            assert_eq!(wire.cuts_left(), 0);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Python with moto"]
    async fn files_of_a_web_server_are_read_and_nothing_else() {
        let server = Server::open_to_all(bucket::free_port());
        let bytes = write_npy(&samples(1000));
        let digest = blake3::hash(&bytes).to_hex().to_string();
        server.publish("a%20b/%25C3%25BC.npy", &bytes);
        let address = format!("http://127.0.0.1:{}/{BUCKET}/", server.port());
        let store = open(&address, &BTreeMap::new());
        let over_http = recordings(&store).await;

        let entry = entry("a b/ü.npy", digest, 1000);
        let loaded = over_http.load(&entry).await.unwrap();
        let part = over_http.open_recording(&entry).await.unwrap().samples(7..9).await.unwrap();
        let written = over_http.put("c", write_npy(&samples(1))).await.unwrap_err();
        let removed = store.delete(&ObjectPath::from("a b/ü.npy")).await;

        assert_eq!(loaded.samples, samples(1000));
        assert_eq!(part, samples(1000)[7..9]);
        assert!(causes(&written).contains("hands out files"), "{}", causes(&written));
        assert!(removed.is_err() && over_http.load(&entry).await.is_ok());
    }
}
