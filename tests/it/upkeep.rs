//! Beginning with nothing, and looking after what has piled up.

use std::fs;

use crate::small::{small, states};
use crate::workplace::{Workplace, ended, said};

/// The way of a new user, as the README has it.
#[test]
fn beginner_comes_to_a_cached_rerun_and_an_explained_miss() {
    let workplace = Workplace::new("");
    said(&workplace, &["init", "first.yaml"]);
    let again = workplace.command(&["init", "first.yaml"]).output().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = workplace.command(&["run", "first.yaml", "--until", "split"]);
        let output = command.args(arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        told
    };

    let first = run(&[]);
    let second = run(&[]);
    let why = said(&workplace, &["why", "first.yaml", "recordings", "--set", "vars.sessions=61"]);
    let profile = said(&workplace, &["plan", "first.yaml", "--profile", "more"]);

    assert_eq!(again.status.code(), Some(2));
    assert!(first.contains("3 ran"), "{first}");
    assert!(second.contains("3 cached"), "{second}");
    assert!(why.contains("world.sessions: 60 → 61"), "{why}");
    assert!(profile.contains("world.sessions: 60 → 600"), "{profile}");
}

#[test]
fn old_results_go_and_those_of_latest_and_pinned_runs_stay() {
    let workplace = small();
    for seed in 1..=4 {
        workplace.run(&["--set", &format!("vars.seed={seed}")]).done();
        if seed == 2 {
            said(&workplace, &["cache", "pin"]);
        }
    }
    let listed = said(&workplace, &["cache", "ls"]);
    let foreseen = said(&workplace, &["cache", "gc", "--max-age", "0s", "--dry-run"]);
    let before = said(&workplace, &["cache", "ls"]);

    let removed = said(&workplace, &["cache", "gc", "--max-age", "0s"]);
    let state = |seed: usize| {
        let run = workplace.run(&["--set", &format!("vars.seed={seed}")]).done();
        run.stages["left"].state.clone()
    };

    assert_eq!(listed, before);
    assert_eq!(foreseen.replace("would remove", "removed"), removed);
    // `left` was made four times and `both` four times; `right` and `last` are shared by all runs.
    assert!(removed.starts_with("removed 4 results"), "{removed} {listed}");
    assert_eq!([state(4), state(2)], ["cached", "cached"]);
    assert_eq!([state(1), state(3)], ["ran", "ran"]);
}

#[test]
fn results_go_until_the_rest_is_small_enough() {
    let workplace = small();
    for seed in 1..=3 {
        workplace.run(&["--set", &format!("vars.seed={seed}")]).done();
    }

    let nothing = said(&workplace, &["cache", "gc", "--max-size", "1GiB"]);
    let all = said(&workplace, &["cache", "gc", "--max-size", "0"]);

    assert!(nothing.starts_with("removed 0 results"), "{nothing}");
    assert!(all.starts_with("removed 4 results"), "{all}");
    assert_eq!(states(&workplace.run(&["--set", "vars.seed=3"]).done()), ["cached"; 4]);
}

/// Nothing is removed under the hands of a run.
#[test]
fn cache_in_use_is_not_cleaned_up() {
    let workplace = Workplace::new(
        "name: slow\nstages:\n  a:\n    uses: cmd\n    outputs: { out: files }\n    command: \
         touch started; while [ ! -e go ]; do sleep 0.02; done; echo x > $HEIMDALL_OUTPUT_OUT/x\n",
    );
    let run = workplace.start(&[]);
    while !workplace.path("started").exists() {
        std::thread::yield_now();
    }

    let refused = workplace.command(&["cache", "gc"]).output().unwrap();
    fs::write(workplace.path("go"), "").unwrap();

    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("run is under way"));
    ended(run).done();
    said(&workplace, &["cache", "gc"]);
}

/// Something done to a file.
type Harm = fn(&std::path::Path);

fn replace_by_a_folder(path: &std::path::Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

/// Whatever happened to the file of a result, it is found, and the next run makes it again.
#[test]
fn damage_of_every_kind_is_found_and_mended() {
    let harm: [(&str, Harm); 7] = [
        ("corrupted", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[0] ^= 1;
            rewrite(path, &bytes);
        }),
        ("truncated", |path| {
            let bytes = fs::read(path).unwrap();
            rewrite(path, &bytes[..bytes.len() - 1]);
        }),
        ("emptied", |path| rewrite(path, b"")),
        ("swapped", |path| rewrite(path, b"lines of something else\n")),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("replaced by a link", |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/no/such/place", path).unwrap();
        }),
        ("replaced by a folder", replace_by_a_folder),
    ];
    for (name, harm) in harm {
        let workplace = small();
        workplace.run(&[]).done();
        for path in store(&workplace, "cas") {
            harm(&path);
        }

        let verify = workplace.command(&["cache", "verify"]).output().unwrap();
        let run = workplace.run(&[]).done();

        let found = String::from_utf8(verify.stdout).unwrap();
        assert_eq!(verify.status.code(), Some(1), "{name}: {found}");
        assert!(found.contains("left ") && found.contains("faults"), "{name}: {found}");
        assert!(states(&run).contains(&"ran"), "{name}: {:?}", states(&run));
        let text = fs::read_to_string(workplace.path("artifacts/small/last/out/text")).unwrap();
        assert_eq!(text, "1\nright\n", "{name}");
        assert!(said(&workplace, &["cache", "verify"]).contains("all sound"), "{name}");
        assert_eq!(states(&workplace.run(&[]).done()), ["cached"; 4], "{name}");
    }
}

/// So it is with what makes a result valid.
#[test]
fn damaged_manifests_are_found_and_mended() {
    let harm: [(&str, Harm); 4] = [
        ("truncated", |path| rewrite(path, &fs::read(path).unwrap()[..40])),
        ("exchanged", |path| {
            // Every one of them is that of another key.
            let other = store_of(path).into_iter().find(|other| other != path).unwrap();
            rewrite(path, &fs::read(other).unwrap());
        }),
        ("replaced by a link", |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(".", path).unwrap();
        }),
        ("replaced by a folder", replace_by_a_folder),
    ];
    for (name, harm) in harm {
        let workplace = small();
        workplace.run(&[]).done();
        harm(&store(&workplace, "ac")[0]);

        let run = workplace.run(&[]);

        assert!(run.stderr.contains("does not trust its result"), "{name}: {}", run.stderr);
        assert_eq!(
            states(&run.done()).iter().filter(|state| **state == "ran").count(),
            1,
            "{name}"
        );
        assert_eq!(states(&workplace.run(&[]).done()), ["cached"; 4], "{name}");
        assert!(said(&workplace, &["cache", "verify"]).contains("all sound"), "{name}");
    }
}

/// What another version of the program made is nothing to this one, but no damage.
#[test]
fn results_of_other_versions_are_no_damage() {
    let workplace = small();
    workplace.run(&[]).done();
    for path in store(&workplace, "ac") {
        let manifest = r#"{"version":1,"of":"another time"}"#;
        let checksum = blake3::hash(manifest.as_bytes());
        let text = format!("{{\"checksum\":\"{checksum}\",\"manifest\":{manifest}}}\n");
        rewrite(&path, text.as_bytes());
    }

    let verified = said(&workplace, &["cache", "verify"]);
    let plan = said(&workplace, &["plan", "pipeline.yaml"]);
    let removed = said(&workplace, &["cache", "gc"]);

    assert!(verified.contains("all sound"), "{verified}");
    assert!(plan.contains("left         run"), "{plan}");
    // Their files are nobody's here, and go together with them.
    assert!(removed.starts_with("removed 0 results and "), "{removed}");
    assert!(
        fs::read_dir(workplace.path(".heimdall/ac"))
            .unwrap()
            .all(|folder| { fs::read_dir(folder.unwrap().path()).unwrap().next().is_none() })
    );
    assert_eq!(states(&workplace.run(&[]).done()), ["ran"; 4]);
}

/// What was begun, said and remembered goes with age, but for the latest run.
#[test]
fn traces_of_old_runs_go() {
    let workplace = Workplace::new(
        "name: bad\nstages:\n  a:\n    uses: cmd\n    outputs: { out: files }\n    command: \
         echo x > $(dirname $HEIMDALL_CONTEXT)/x; exit 1\n",
    );
    for _ in 0..3 {
        assert_eq!(workplace.run(&[]).code, 1);
    }
    // The best network may be much older than the checkpoint that names it.
    let scratch = workplace.path(".heimdall/scratch").join("f".repeat(64));
    fs::create_dir(&scratch).unwrap();
    for name in ["network", "checkpoint"] {
        fs::write(scratch.join(name), "half").unwrap();
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    fs::File::open(scratch.join("network")).unwrap().set_modified(old).unwrap();
    let count = |folder: &str| {
        let folder = workplace.path(".heimdall").join(folder);
        fs::read_dir(folder).unwrap().count()
    };

    said(&workplace, &["cache", "gc", "--max-age", "1h"]);
    let kept = (count("runs"), count("logs"), scratch.join("network").exists());
    fs::File::open(scratch.join("checkpoint")).unwrap().set_modified(old).unwrap();
    said(&workplace, &["cache", "gc", "--max-age", "1h"]);
    let scratch_after = scratch.exists();
    said(&workplace, &["cache", "gc", "--max-age", "0s"]);

    assert_eq!((kept, scratch_after), ((3, 3, true), false));
    assert_eq!((count("runs"), count("logs"), count("locks")), (1, 1, 1));
}

/// A mode that was changed is no damage, but proves nothing either: the file is read again.
#[test]
fn changed_permissions_are_no_damage() {
    use std::os::unix::fs::PermissionsExt;

    let workplace = small();
    workplace.run(&[]).done();
    for path in store(&workplace, "cas") {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    assert_eq!(states(&workplace.run(&[]).done()), ["cached"; 4]);
}

/// What only saves work can be lost without anybody noticing.
#[test]
fn broken_records_cost_time_and_nothing_else() {
    let harm: [(&str, Harm); 4] = [
        ("garbage", |path| fs::write(path, "{ not a record").unwrap()),
        ("truncated", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("exchanged", |path| {
            let mut others = fs::read_dir(path.parent().unwrap()).unwrap();
            let other = others.find_map(|e| Some(e.unwrap().path()).filter(|other| other != path));
            if let Some(other) = other {
                fs::copy(other, path).unwrap();
            }
        }),
    ];
    for (name, harm) in harm {
        let workplace = small();
        workplace.run(&[]).done();
        workplace.run(&[]).done();
        for folder in ["runs", "stat", "copies"] {
            for entry in fs::read_dir(workplace.path(".heimdall").join(folder)).unwrap() {
                harm(&entry.unwrap().path());
            }
        }

        let run = workplace.run(&[]).done();

        assert_eq!(states(&run), ["cached"; 4], "{name}");
        let text = fs::read_to_string(workplace.path("artifacts/small/last/out/text")).unwrap();
        assert_eq!(text, "1\nright\n", "{name}");
        let last = said(&workplace, &["show", "--json"]);
        assert!(last.contains("\"done\""), "{name}: {last}");
    }
}

fn store(workplace: &Workplace, folder: &str) -> Vec<std::path::PathBuf> {
    let folder = workplace.path(".heimdall").join(folder);
    let (mut files, mut folders) = (Vec::new(), vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() >= 3, "{files:?}");
    files
}

/// The manifests of the cache that one of them is in.
fn store_of(manifest: &std::path::Path) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(manifest.parent().unwrap().parent().unwrap()).unwrap();
    let folders = folders.map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
    folders.flatten().map(|entry| entry.unwrap().path()).collect()
}

fn rewrite(path: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;

    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}
