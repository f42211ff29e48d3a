//! Tests of the cache: what is kept, what is found, and what is not trusted.

use std::collections::BTreeMap;
use std::fs::{FileTimes, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::artifact::OutputPort;
use crate::stage::StageKind;

struct Bench {
    folder: TempDir,
    cache: Cache,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache"), None).unwrap();
        Self { folder, cache }
    }

    fn ports() -> &'static [OutputPort] {
        StageKind::Extract.outputs()
    }

    fn manifest(parts: &KeyParts) -> Manifest {
        Manifest {
            version: Manifest::version(),
            key: parts.key(),
            kind: StageKind::Extract,
            key_parts: parts.clone(),
            outputs: BTreeMap::new(),
            log: None,
            boot: None,
            metrics: [("events".to_owned(), 2.5)].into(),
            headline: None,
            seconds: 1.0,
            provenance: Provenance {
                run: "run".to_owned(),
                pipeline: "pipeline".to_owned(),
                stage: "features".to_owned(),
                host: "host".to_owned(),
                program: "0".to_owned(),
                binary: None,
                git: None,
                started: "2026-11-24T04:00:00Z".to_owned(),
                ended: None,
                attempts: 1,
                resumed_from: None,
                memory_peak_bytes: None,
                inputs: BTreeMap::new(),
            },
        }
    }

    fn lock(&self, key: &Key) -> KeyLock {
        match self.cache.try_lock(key, "the test").unwrap() {
            LockAttempt::Held(lock) => lock,
            LockAttempt::Busy(holder) => panic!("{holder} has the lock"),
        }
    }

    /// Does what a stage does: writes files into its output.
    fn work(&self, key: &Key, files: &[(&str, &str)]) -> WorkFolder {
        let work = self.cache.create_work(key, "run").unwrap();
        let output = work.create_output("features").unwrap();
        for (path, content) in files {
            let path = output.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        work
    }

    fn publish(&self, parts: &KeyParts, files: &[(&str, &str)]) -> Manifest {
        let key = parts.key();
        let (lock, work) = (self.lock(&key), self.work(&key, files));
        self.cache.publish(&lock, work, Self::ports(), Self::manifest(parts)).unwrap()
    }

    /// Whatever a glance is content with, the look-up finds.
    fn found(&self, key: &Key) -> Option<Manifest> {
        let glanced = self.cache.glance(key);
        match self.cache.lookup(key).unwrap() {
            Lookup::Hit(manifest) => {
                assert!(glanced.is_none_or(|glanced| glanced == *manifest));
                Some(*manifest)
            }
            Lookup::Miss => {
                assert_eq!(glanced, None);
                None
            }
            Lookup::Damaged(what) => panic!("{what}"),
        }
    }

    /// A glance is content with nothing that is damaged.
    fn damage(&self, key: &Key) -> String {
        assert_eq!(self.cache.glance(key), None);
        match self.cache.lookup(key).unwrap() {
            Lookup::Damaged(what) => what,
            other => panic!("{other:?}"),
        }
    }

    fn quarantined(&self) -> usize {
        fs::read_dir(self.cache.root.join("quarantine")).unwrap().count()
    }

    fn readable(&self) -> PathBuf {
        self.folder.path().join("readable")
    }
}

fn parts(seed: u32) -> KeyParts {
    let mut parts = KeyParts::default();
    parts.set("parameters", format!("{{\"seed\":{seed}}}"));
    Bench::ports().iter().for_each(|port| parts.set_output(port));
    parts
}

fn blob_of(bench: &Bench, manifest: &Manifest, path: &str) -> PathBuf {
    let files = &manifest.outputs["features"].files;
    bench.cache.blob(&files.iter().find(|file| file.path == path).unwrap().digest)
}

/// Overwrites a file in place, as root or its owner can, with the times that it had.
fn tamper(path: &Path, content: &str) {
    let metadata = fs::metadata(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
    let times = FileTimes::new().set_modified(metadata.modified().unwrap());
    OpenOptions::new().write(true).open(path).unwrap().set_times(times).unwrap();
    fs::set_permissions(path, metadata.permissions()).unwrap();
}

#[test]
fn published_result_is_found() {
    let bench = Bench::new();
    let scratch = bench.cache.scratch(&parts(1).key());
    fs::create_dir_all(&scratch).unwrap();

    let published = bench.publish(&parts(1), &[("a", "one"), ("b/c", "two")]);

    assert_eq!(bench.found(&parts(1).key()), Some(published.clone()));
    assert_eq!(bench.found(&parts(2).key()), None);
    assert_eq!(fs::read_to_string(blob_of(&bench, &published, "b/c")).unwrap(), "two");
    assert!(!scratch.exists());
    assert_eq!(fs::read_dir(bench.cache.root.join("work")).unwrap().count(), 0);
}

#[test]
fn nothing_is_found_before_the_manifest_is_written() {
    let bench = Bench::new();
    let key = parts(1).key();

    let work = bench.work(&key, &[("a", "one"), ("b", "two")]);
    bench.cache.keep_outputs(&work, Bench::ports(), "features").unwrap();

    assert_eq!(bench.found(&key), None);
    drop(work);
    let published = bench.publish(&parts(1), &[("a", "one"), ("b", "two")]);
    assert_eq!(bench.found(&key), Some(published));
}

#[test]
fn failed_publication_leaves_the_old_result() {
    let bench = Bench::new();
    let key = parts(1).key();
    let old = bench.publish(&parts(1), &[("a", "one")]);

    let (lock, work) = (bench.lock(&key), bench.work(&key, &[]));
    let error =
        bench.cache.publish(&lock, work, Bench::ports(), Bench::manifest(&parts(1))).unwrap_err();

    assert_eq!(error.to_string(), "stage `features` wrote no file into its output `features`");
    assert_eq!(bench.found(&key), Some(old));
}

#[test]
fn changed_content_is_found_out_whatever_its_times_and_mode() {
    let bench = Bench::new();
    let key = parts(1).key();
    let published = bench.publish(&parts(1), &[("a", "one"), ("b", "two")]);

    tamper(&blob_of(&bench, &published, "a"), "eno");

    assert_eq!(bench.damage(&key), "the kept `features/a` has been changed");
    assert_eq!(bench.quarantined(), 1);
    assert_eq!(bench.damage(&key), "the kept `features/a` is gone");
    bench.publish(&parts(1), &[("a", "one"), ("b", "two")]);
    assert!(bench.found(&key).is_some());
}

#[test]
fn touched_content_is_read_again_and_remembered() {
    let bench = Bench::new();
    let published = bench.publish(&parts(1), &[("a", "one")]);
    let blob = blob_of(&bench, &published, "a");

    tamper(&blob, "one");
    let found = bench.found(&parts(1).key()).unwrap();

    let now = FileIdentity::of(&blob).unwrap();
    assert_ne!(published.outputs["features"].files[0].identity, now);
    assert_eq!(found.outputs["features"].files[0].identity, now);
    assert_eq!(bench.found(&parts(1).key()), Some(found));
}

#[test]
fn damaged_store_is_healed_by_equal_content() {
    let bench = Bench::new();
    let first = bench.publish(&parts(1), &[("a", "one")]);
    tamper(&blob_of(&bench, &first, "a"), "eno");

    bench.publish(&parts(2), &[("z", "one")]);

    assert!(bench.found(&parts(1).key()).is_some());
    assert!(bench.found(&parts(2).key()).is_some());
}

#[test]
fn damaged_manifest_counts_for_nothing() {
    let bench = Bench::new();
    let key = parts(1).key();
    let path = bench.cache.manifest_path(&key);
    bench.publish(&parts(1), &[("a", "one")]);
    let sound = fs::read(&path).unwrap();
    let text = String::from_utf8(sound.clone()).unwrap();
    let broken = [
        Vec::new(),
        sound[..sound.len() / 2].to_vec(),
        text.replace("2.5", "2.6").into_bytes(),
        [sound.as_slice(), b" "].concat(),
    ];

    for broken in broken {
        fs::write(&path, broken).unwrap();

        let what = bench.damage(&key);

        assert!(what.ends_with("does not have its checksum"), "{what}");
        assert_eq!(bench.found(&key), None);
    }
    fs::write(&path, sound).unwrap();
    assert!(bench.found(&key).is_some());
}

#[test]
fn manifest_under_the_name_of_another_counts_for_nothing() {
    let bench = Bench::new();
    bench.publish(&parts(1), &[("a", "one")]);
    let target = bench.cache.manifest_path(&parts(2).key());
    create_parent(&target).unwrap();
    fs::copy(bench.cache.manifest_path(&parts(1).key()), target).unwrap();

    let what = bench.damage(&parts(2).key());

    assert!(what.ends_with("is not of this key"), "{what}");
}

/// Whatever its checksum: what it says decides where files are written.
#[test]
fn manifest_that_no_result_can_have_counts_for_nothing() {
    let bench = Bench::new();
    let key = parts(1).key();
    let sound = bench.publish(&parts(1), &[("a", "one")]);
    let at_path = |path: &str| {
        let mut manifest = sound.clone();
        let output = manifest.outputs.get_mut("features").unwrap();
        output.files[0].path = path.to_owned();
        output.tree = Digest::of_tree([(path, &output.files[0].digest)]);
        manifest
    };
    let spoiled = |spoil: fn(&mut Manifest)| {
        let mut manifest = sound.clone();
        spoil(&mut manifest);
        manifest
    };
    let spoiled = [
        spoiled(|manifest| manifest.outputs.get_mut("features").unwrap().tree = Digest::of(b"x")),
        spoiled(|manifest| drop(manifest.outputs.remove("features"))),
        spoiled(|manifest| {
            let output = manifest.outputs.remove("features").unwrap();
            manifest.outputs.insert("other".to_owned(), output);
        }),
        spoiled(|manifest| manifest.outputs.get_mut("features").unwrap().format_version += 1),
        spoiled(|manifest| manifest.key_parts.set("parameters", "{}")),
    ];

    for manifest in spoiled {
        let read = Manifest::decode(&manifest.encode(), &key);

        assert_eq!(read, Err(manifest::Damage::Foreign), "{manifest:?}");
    }
    for path in ["../x", "a/../../x", "/x", ""] {
        let read = Manifest::decode(&at_path(path).encode(), &key);

        assert_eq!(read, Err(manifest::Damage::Unconfined), "{path}");
    }
    assert_eq!(Manifest::decode(&at_path("b/c").encode(), &key), Ok(at_path("b/c")));
}

#[test]
fn input_is_seen_as_links_to_what_is_kept() {
    let bench = Bench::new();
    let published = bench.publish(&parts(1), &[("a", "one"), ("b/c", "two")]);

    let work = bench.cache.create_work(&parts(2).key(), "run").unwrap();
    let input = bench.cache.link_input(&work, "features", &published.outputs["features"]).unwrap();

    assert_eq!(fs::read_to_string(input.join("b/c")).unwrap(), "two");
    assert_eq!(fs::read_link(input.join("a")).unwrap(), blob_of(&bench, &published, "a"));
}

/// What a file looks like says nothing of a disk that forgets: it is read before somebody uses it.
#[test]
fn input_that_is_not_what_it_was_is_moved_away() {
    let bench = Bench::new();
    let published = bench.publish(&parts(1), &[("a", "one"), ("b/c", "two")]);
    let output = &published.outputs["features"];
    bench.cache.check_input("in", output).unwrap();
    tamper(&blob_of(&bench, &published, "b/c"), "owt");

    let error = bench.cache.check_input("in", output).unwrap_err();

    assert!(error.to_string().contains("`in/b/c` has been changed"), "{error}");
    assert_eq!(bench.quarantined(), 1);
    let found = bench.cache.lookup(&parts(1).key()).unwrap();
    assert!(matches!(&found, Lookup::Damaged(what) if what.contains("is gone")), "{found:?}");
}

#[test]
fn copy_follows_the_result() {
    let bench = Bench::new();
    let readable = bench.readable();
    let old = bench.publish(&parts(1), &[("a", "one"), ("b/c", "two")]);
    let new = bench.publish(&parts(2), &[("a", "one"), ("d", "three")]);

    let first = bench.cache.copy_output(&old.outputs["features"], &readable).unwrap();
    let again = bench.cache.copy_output(&old.outputs["features"], &readable).unwrap();
    fs::write(readable.join("mine"), "notes").unwrap();
    let other = bench.cache.copy_output(&new.outputs["features"], &readable).unwrap();

    assert_eq!((first.written, first.removed), (2, 0));
    assert_eq!((again.written, again.removed, again.restored.len()), (0, 0, 0));
    assert_eq!((other.written, other.removed, other.restored.len()), (1, 1, 0));
    assert_eq!(list_files(&readable).unwrap(), ["a", "d", "mine"]);
    assert!(!readable.join("b").exists());
}

#[test]
fn folder_that_became_a_link_is_known_by_where_it_leads() {
    let bench = Bench::new();
    let (readable, elsewhere) = (bench.readable(), bench.folder.path().join("elsewhere"));
    let old = bench.publish(&parts(1), &[("a", "one")]);
    let new = bench.publish(&parts(2), &[("a", "two")]);
    bench.cache.copy_output(&old.outputs["features"], &readable).unwrap();
    fs::rename(&readable, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &readable).unwrap();

    bench.cache.copy_output(&new.outputs["features"], &readable).unwrap();

    assert!(bench.cache.is_copied(&new.outputs["features"], &readable));
    assert!(!bench.cache.is_copied(&old.outputs["features"], &readable));
}

#[test]
fn changed_copy_is_restored() {
    let bench = Bench::new();
    let readable = bench.readable();
    let result = bench.publish(&parts(1), &[("a", "one"), ("b", "two"), ("c", "three")]);
    let output = &result.outputs["features"];
    bench.cache.copy_output(output, &readable).unwrap();

    tamper(&readable.join("a"), "eno");
    fs::remove_file(readable.join("b")).unwrap();
    let report = bench.cache.copy_output(output, &readable).unwrap();

    assert_eq!(report.restored, ["a", "b"]);
    assert_eq!(fs::read_to_string(readable.join("a")).unwrap(), "one");
    assert_eq!(fs::read_to_string(readable.join("b")).unwrap(), "two");
    assert_eq!(bench.found(&parts(1).key()), Some(result));
}

#[test]
fn lock_is_held_once_and_says_by_whom() {
    let bench = Bench::new();
    let key = parts(1).key();
    let lock = bench.lock(&key);

    let busy = bench.cache.try_lock(&key, "somebody else").unwrap();

    assert!(matches!(&busy, LockAttempt::Busy(holder) if holder == "the test"), "{busy:?}");
    bench.lock(&parts(2).key());
    drop(lock);
    bench.lock(&key);
}

#[test]
fn only_work_that_nobody_does_is_removed() {
    let bench = Bench::new();
    let folder = bench.cache.root.join("work");
    let dead = folder.join(format!("{}.killed", parts(1).key()));
    fs::create_dir_all(dead.join("out/features")).unwrap();
    let key = parts(2).key();
    let lock = bench.lock(&key);
    let alive = bench.work(&key, &[("a", "one")]);

    assert_eq!(bench.cache.remove_stale_work().unwrap(), 1);

    assert!(!dead.exists());
    let published =
        bench.cache.publish(&lock, alive, Bench::ports(), Bench::manifest(&parts(2))).unwrap();
    drop(lock);
    assert_eq!(bench.found(&key), Some(published));
}

/// What was not made to survive a loss of power is read in full after another start of the machine,
/// and then trusted.
#[test]
fn result_of_another_start_is_read_before_it_is_trusted() {
    let bench = Bench::new();
    let cheap = Manifest { seconds: 0.5, ..Bench::manifest(&parts(1)) };
    let key = parts(1).key();
    let (lock, work) = (bench.lock(&key), bench.work(&key, &[("a", "one")]));
    let published = bench.cache.publish(&lock, work, Bench::ports(), cheap).unwrap();
    let dear = bench.publish(&parts(2), &[("b", "two")]);
    let next_start = Cache { boot: "another".into(), ..bench.cache.clone() };
    let found = |key: &Key| match next_start.lookup(key).unwrap() {
        Lookup::Hit(manifest) => manifest.boot,
        other => panic!("{other:?}"),
    };

    assert_eq!((published.boot.as_deref(), dear.boot), (Some(&*bench.cache.boot), None));
    assert_eq!(found(&key), None);
    assert_eq!(next_start.read_manifest(&key).unwrap().boot, None);

    // The disk lost what was in the file, but not how long it was and when it was written.
    let lost = Manifest { boot: Some("a third".to_owned()), ..published };
    let blob = blob_of(&bench, &lost, "a");
    tamper(&blob, "\0\0\0");
    let mut lost = lost;
    lost.outputs.get_mut("features").unwrap().files[0].identity = FileIdentity::of(&blob).unwrap();
    bench.cache.write_manifest(&lost).unwrap();

    assert_eq!(bench.damage(&key), "the kept `features/a` has been changed");
}

#[test]
fn manifest_of_another_version_is_no_damage() {
    let bench = Bench::new();
    let published = bench.publish(&parts(1), &[("a", "one")]);
    let other = Manifest { version: Manifest::version() + 1, ..published };

    bench.cache.write_manifest(&other).unwrap();

    assert_eq!(bench.found(&parts(1).key()), None);
    assert_eq!(bench.quarantined(), 0);
}
