//! Tests of shared caches, on stores in memory that can refuse what is there, and that cannot.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutResult, Result as StoreResult,
};
use tempfile::TempDir;

use super::*;
use crate::cache::{KeyParts, LockAttempt, Provenance};
use crate::object_place::PROBE;
use crate::stage::StageKind;

/// A store that behaves as some servers do.
#[derive(Debug, Default)]
struct Odd {
    inner: InMemory,
    /// Whether it does not answer whether something is there already.
    is_deaf: bool,
    /// How many manifests it still refuses, to be put again.
    refusals: AtomicU32,
    /// How often it was asked whether it refuses what is there.
    probes: AtomicU32,
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Odd {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        if location.as_ref().ends_with(PROBE) {
            self.probes.fetch_add(1, Ordering::Relaxed);
        } else if location.as_ref().ends_with(".json") {
            let fewer = |left: u32| left.checked_sub(1);
            if self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok() {
                return Err(Error::Generic { store: "odd", source: "409 Conflict".into() });
            }
        }
        let mode = if self.is_deaf { PutMode::Overwrite } else { options.mode.clone() };
        self.inner.put_opts(location, payload, PutOptions { mode, ..options }).await
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> StoreResult<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<ObjectPath>>,
    ) -> BoxStream<'static, StoreResult<ObjectPath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &ObjectPath,
        to: &ObjectPath,
        options: CopyOptions,
    ) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn remote(name: &str, store: impl ObjectStore) -> Remote {
    Remote::new(ObjectPlace::new(name, Arc::new(store), ObjectPath::from("some/where")))
}

/// Shared caches of both kinds.
fn remotes() -> [Remote; 2] {
    [remote("memory", InMemory::new()), remote("deaf", Odd { is_deaf: true, ..Odd::default() })]
}

/// A cache of a machine of its own.
struct Machine {
    _folder: TempDir,
    cache: Cache,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache"), None).unwrap();
        Self { _folder: folder, cache }
    }

    fn lock(&self, key: &Key) -> KeyLock {
        match self.cache.try_lock(key, "the test").unwrap() {
            LockAttempt::Held(lock) => lock,
            LockAttempt::Busy(holder) => panic!("{holder} has the lock"),
        }
    }

    /// Makes a result of two files with that content.
    fn publish(&self, content: &str) -> Manifest {
        let mut parts = KeyParts::default();
        parts.set("parameters", "{}");
        StageKind::Extract.outputs().iter().for_each(|port| parts.set_output(port));
        let key = parts.key();
        let work = self.cache.create_work(&key, "run").unwrap();
        let output = work.create_output("features").unwrap();
        fs::write(output.join("a"), content).unwrap();
        fs::write(output.join("b"), "the same").unwrap();
        let manifest = Manifest {
            version: Manifest::version(),
            key,
            kind: StageKind::Extract,
            key_parts: parts,
            outputs: BTreeMap::new(),
            log: None,
            boot: None,
            metrics: BTreeMap::new(),
            headline: None,
            seconds: 2.0,
            provenance: Provenance::default(),
        };
        let lock = self.lock(&key);
        self.cache.publish(&lock, work, StageKind::Extract.outputs(), manifest).unwrap()
    }

    async fn push(&self, remote: &Remote, manifest: &Manifest) -> Pushed {
        self.cache.push(remote, manifest).await.unwrap()
    }

    async fn pull(&self, remote: &Remote, key: &Key) -> Pulled {
        let lock = self.lock(key);
        self.cache.pull(remote, key, &lock, "run").await.unwrap()
    }
}

fn content(machine: &Machine, manifest: &Manifest) -> Vec<String> {
    let files = manifest.outputs["features"].files.iter();
    files.map(|file| fs::read_to_string(machine.cache.blob(&file.digest)).unwrap()).collect()
}

#[tokio::test]
async fn result_arrives_whole() {
    for remote in remotes() {
        let (one, other) = (Machine::new(), Machine::new());
        let manifest = one.publish("new");
        assert!(matches!(other.pull(&remote, &manifest.key).await, Pulled::Miss));

        let pushed = one.push(&remote, &manifest).await;
        let again = one.push(&remote, &manifest).await;
        let pulled = other.pull(&remote, &manifest.key).await;

        let sent = Traffic { files: 2, bytes: 11 };
        assert!(matches!(pushed, Pushed::Kept(traffic) if traffic == sent), "{pushed:?}");
        assert!(matches!(again, Pushed::Kept(traffic) if traffic == Traffic::default()));
        let Pulled::Result(theirs, traffic) = pulled else { panic!("{pulled:?}") };
        assert_eq!(traffic, sent);
        assert_eq!(content(&other, &theirs), ["new", "the same"]);
        assert_eq!(other.cache.glance(&manifest.key), Some(*theirs));
    }
}

/// A server refuses one of two that come at the same moment; it is asked once whether it can tell
/// what is there already.
#[tokio::test]
async fn refused_manifest_is_put_again() {
    let store = Arc::new(Odd { refusals: 2.into(), ..Odd::default() });
    let place = ObjectPlace::new("odd", Arc::clone(&store) as _, ObjectPath::default());
    let remote = Remote::new(place);
    let (one, other) = (Machine::new(), Machine::new());

    let pushed = one.push(&remote, &one.publish("new")).await;
    let differs = other.push(&remote, &other.publish("other")).await;

    assert!(matches!(pushed, Pushed::Kept(_)), "{pushed:?}");
    assert!(matches!(differs, Pushed::Differs(_)), "{differs:?}");
    assert_eq!(store.refusals.load(Ordering::Relaxed), 0);
    // It is asked twice, the second time for what the first has put.
    assert_eq!(store.probes.load(Ordering::Relaxed), 2);
}

/// What is in the store already is no reason to trust it.
#[tokio::test]
async fn damaged_files_are_replaced_by_shared_ones() {
    for remote in remotes() {
        let (one, other) = (Machine::new(), Machine::new());
        let manifest = one.publish("new");
        one.push(&remote, &manifest).await;
        other.pull(&remote, &manifest.key).await;
        for file in &manifest.outputs["features"].files {
            let blob = other.cache.blob(&file.digest);
            fs::remove_file(&blob).unwrap();
            fs::write(&blob, "damaged").unwrap();
        }

        let pulled = other.pull(&remote, &manifest.key).await;

        let Pulled::Result(theirs, traffic) = pulled else { panic!("{pulled:?}") };
        assert_eq!(traffic.files, 2);
        assert_eq!(content(&other, &theirs), ["new", "the same"]);
    }
}

/// A manifest that another version of the program reads is neither taken nor written over.
#[tokio::test]
async fn manifest_of_another_version_stays() {
    for remote in remotes() {
        let one = Machine::new();
        let mut manifest = one.publish("new");
        let path = remote.manifest(&manifest.key);
        manifest.version += 1;
        let theirs = manifest.encode();
        remote.place.store().put(&path, PutPayload::from(theirs.clone())).await.unwrap();
        manifest.version -= 1;

        one.push(&remote, &manifest).await;

        assert_eq!(remote.read_manifest(&manifest.key).await.unwrap(), Some(theirs));
        let pulled = Machine::new().pull(&remote, &manifest.key).await;
        assert!(matches!(pulled, Pulled::Miss), "{pulled:?}");
    }
}

#[tokio::test]
async fn other_result_of_the_same_is_told() {
    for remote in remotes() {
        let (one, other) = (Machine::new(), Machine::new());
        let (first, second) = (one.publish("first"), other.publish("second"));
        one.push(&remote, &first).await;

        let pushed = other.push(&remote, &second).await;

        let Pushed::Differs(theirs) = pushed else { panic!("{remote}: {pushed:?}") };
        let lock = other.lock(&first.key);
        let taken = other.cache.take_over(&remote, *theirs, &lock, "run").await.unwrap();
        let Pulled::Result(taken, _) = taken else { panic!("{taken:?}") };
        assert_eq!(content(&other, &taken), ["first", "the same"]);
        assert!(other.cache.glance(&first.key).unwrap().has_outputs_of(&first));
    }
}

/// Whatever is wrong with a shared result, it is not taken, and the next push puts it right.
#[tokio::test]
async fn damaged_result_is_not_taken_and_can_be_mended() {
    for remote in remotes() {
        let one = Machine::new();
        let manifest = one.publish("new");
        let blob = remote.blob(&manifest.outputs["features"].files[0].digest);
        for (path, bytes) in [
            (&blob, Some(&b"old"[..])),
            (&blob, Some(b"")),
            (&blob, None),
            (&remote.manifest(&manifest.key), Some(b"{}")),
            (&remote.manifest(&manifest.key), Some(b"")),
        ] {
            one.push(&remote, &manifest).await;
            match bytes {
                Some(bytes) => {
                    remote.place.store().put(path, PutPayload::from(bytes.to_vec())).await.unwrap();
                }
                None => remote.place.store().delete(path).await.unwrap(),
            }
            let other = Machine::new();

            let pulled = other.pull(&remote, &manifest.key).await;

            assert!(matches!(pulled, Pulled::Damaged(_)), "{path} {bytes:?}: {pulled:?}");
            assert_eq!(other.cache.glance(&manifest.key), None);
            one.push(&remote, &manifest).await;
            let pulled = other.pull(&remote, &manifest.key).await;
            assert!(matches!(pulled, Pulled::Result(..)), "{path} {bytes:?}: {pulled:?}");
        }
    }
}

/// A shared cache writes nowhere but into the outputs of its results.
#[tokio::test]
async fn file_outside_of_an_output_is_not_taken() {
    for remote in remotes() {
        for path in ["../evil", "/tmp/evil", "a/../../evil", ""] {
            let (one, other) = (Machine::new(), Machine::new());
            let mut manifest = one.publish("new");
            let output = manifest.outputs.get_mut("features").unwrap();
            output.files[0].path = path.to_owned();
            one.push(&remote, &manifest).await;

            let pulled = other.pull(&remote, &manifest.key).await;

            assert!(matches!(pulled, Pulled::Damaged(_)), "{path}: {pulled:?}");
        }
    }
}
