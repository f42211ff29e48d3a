//! Results that machines take from each other.

use std::fs;
use std::path::{Path, PathBuf};

use crate::small::{SMALL, small, states, write_script};
use crate::workplace::{Workplace, said};

/// The folder that is shared, and another machine's workplace with the same pipeline.
fn shared() -> (Workplace, Workplace, String) {
    let (one, other) = (small(), small());
    let address = one.path("shared").display().to_string();
    (one, other, address)
}

/// The files in a folder of the shared cache.
fn files(folder: &Path) -> Vec<PathBuf> {
    let inner = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        inner.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn other_machine_takes_what_one_has_made() {
    let (one, other, address) = shared();
    one.run(&["--remote", &address]).done();

    let taken = other.run(&["--remote", &address]);
    let offline = small().run(&["--remote", &address, "--offline"]).done();

    assert_eq!(states(&taken.done()), ["cached"; 4]);
    assert!(taken.stderr.contains("last         fetched 1 files, "), "{}", taken.stderr);
    let text =
        |workplace: &Workplace| fs::read(workplace.path("artifacts/small/last/out/text")).unwrap();
    assert_eq!(text(&one), text(&other));
    assert_eq!(states(&other.run(&["--offline"]).done()), ["cached"; 4]);
    assert_eq!(states(&offline), ["ran"; 4]);
}

/// The address may stand in the pipeline, or in a profile of it.
#[test]
fn pipeline_says_where_the_shared_cache_is() {
    let (one, other, address) = shared();
    let text = format!("{SMALL}profiles:\n  team:\n    cache: {address}\n");
    fs::write(one.path("pipeline.yaml"), &text).unwrap();
    fs::write(other.path("pipeline.yaml"), format!("cache: {address}\n{SMALL}")).unwrap();
    one.run(&["--profile", "team"]).done();

    assert_eq!(states(&other.run(&[]).done()), ["cached"; 4]);
    assert_eq!(states(&small().run(&[]).done()), ["ran"; 4]);
}

#[test]
fn results_are_pushed_and_pulled_by_command() {
    let (one, other, address) = shared();
    one.run(&["--until", "both"]).done();
    let command = |verb: &'static str| ["cache", verb, "pipeline.yaml", "--remote", &*address];

    let pushed = said(&one, &command("push"));
    let again = said(&one, &command("push"));
    let pulled = said(&other, &command("pull"));

    assert!(
        pushed.starts_with("3 results are in both caches, 1 are not here; sent 3 files"),
        "{pushed}"
    );
    assert!(again.contains("sent 0 files, 0 B"), "{again}");
    assert!(
        pulled.starts_with("3 results are in both caches, 1 are not there; fetched 3 files"),
        "{pulled}"
    );
    assert!(!other.path("artifacts").exists());
    assert_eq!(states(&other.run(&[]).done()), ["cached", "cached", "cached", "ran"]);
    let nowhere = other.command(&["cache", "pull", "pipeline.yaml"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&nowhere.stderr);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr.contains("`cache:`") && stderr.contains("`--remote`"), "{stderr}");
}

/// What is damaged in the shared cache is found out, made anew, and put right for the next machine.
#[test]
fn damage_in_the_shared_cache_reaches_nobody() {
    for kind in ["cas", "ac"] {
        for damage in ["", "other content"] {
            let (one, other, address) = shared();
            one.run(&["--remote", &address]).done();
            for file in files(&one.path("shared").join(kind)) {
                fs::write(file, damage).unwrap();
            }

            let run = other.run(&["--remote", &address]);
            let next = small().run(&["--remote", &address]).done();

            assert!(run.stderr.contains("does not trust its result"), "{}", run.stderr);
            assert_eq!(states(&run.done())[0], "ran", "{kind}");
            let text = fs::read_to_string(other.path("artifacts/small/left/out/text")).unwrap();
            assert_eq!(text, "left 1\n");
            assert_eq!(states(&next), ["cached"; 4], "{kind} {damage}");
        }
    }
}

/// A shared cache that cannot be used costs nothing but a word.
#[test]
fn failing_shared_cache_fails_no_run() {
    let (one, _, address) = shared();
    fs::create_dir(&address).unwrap();
    // Files stand where folders are needed, which holds for whoever runs this.
    for name in ["cas", "ac"] {
        fs::write(Path::new(&address).join(name), "").unwrap();
    }

    let run = one.run(&["--remote", &address]);

    assert_eq!(states(&run.done()), ["ran"; 4]);
    assert_eq!(run.stderr.matches("goes on without the shared cache").count(), 1, "{}", run.stderr);
    let refused = one.run(&["--remote", "ftp://example"]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("`ftp://example` cannot be a shared cache"),
        "{}",
        refused.stderr
    );
}

/// Two machines make different results of the same: the one that came first counts for both.
#[test]
fn result_that_came_first_counts() {
    let (one, other, address) = shared();
    for workplace in [&one, &other] {
        write_script(workplace, "date +%N > $HEIMDALL_OUTPUT_OUT/text");
        workplace.run(&["--offline"]).done();
    }
    let command = ["cache", "push", "pipeline.yaml", "--remote", &*address];
    said(&one, &command);

    let output = other.command(&command).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let next = other.run(&[]).done();

    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("right        is not reproducible"), "{stderr}");
    let text =
        |workplace: &Workplace| fs::read(workplace.path("artifacts/small/right/out/text")).unwrap();
    assert_eq!(states(&next)[1], "cached");
    assert_eq!(text(&one), text(&other));
}
