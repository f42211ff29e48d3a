//! What people get wrong: a clear message, the documented exit code, nothing half-written.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::workplace::{TINY, Workplace};

#[test]
fn wrong_definitions_are_refused_with_their_place() {
    struct Case {
        name: &'static str,
        change: [&'static str; 2],
        told: &'static [&'static str],
    }
    let cases = [
        Case {
            name: "unknown key",
            change: ["batch_size: 4", "batch_sise: 4"],
            told: &["pipeline.yaml:21", "batch_sise", "batch_size"],
        },
        Case {
            name: "unknown kind",
            change: ["uses: extract", "uses: extrakt"],
            told: &["pipeline.yaml:9", "extrakt", "extract"],
        },
        Case {
            name: "unknown port",
            change: ["validation: split.validation", "validation: split.validate"],
            told: &["pipeline.yaml", "validate", "validation"],
        },
        Case {
            name: "missing port",
            change: [
                "{ train: split.train, validation: split.validation }",
                "{ train: split.train }",
            ],
            told: &["pipeline.yaml", "validation"],
        },
        Case {
            name: "cycle",
            change: ["    from: recordings", "    from: split.train"],
            told: &["pipeline.yaml"],
        },
        Case {
            name: "value of another type",
            change: ["batch_size: 4", "batch_size: four"],
            told: &["pipeline.yaml:21"],
        },
        Case {
            name: "value out of bounds",
            change: ["batch_size: 4", "batch_size: 1"],
            told: &["batch_size", "at least 2"],
        },
    ];
    for Case { name, change: [from, to], told } in cases {
        assert!(TINY.contains(from), "{name}: nothing to change");
        let workplace = Workplace::new(&TINY.replacen(from, to, 1));

        let ended = workplace.run(&[]);

        assert_eq!(ended.code, 2, "{name}: {}", ended.stderr);
        for part in told {
            assert!(ended.stderr.contains(part), "{name}: no `{part}` in {}", ended.stderr);
        }
        assert!(!workplace.path("artifacts").exists(), "{name}");
    }
}

/// A database is not a folder of that name, whether it stands in the file or on the command line.
#[test]
fn store_that_is_none_is_refused_with_its_place() {
    let tracking = "tracking:\n  uri: postgresql://user:secret@host/db\n";
    let in_file = Workplace::new(&format!("{TINY}{tracking}")).run(&[]);
    let on_line = Workplace::new(TINY).run(&["--set", "tracking.uri=s3://bucket/runs"]);

    let line = TINY.lines().count() + 2;
    for (ended, place, scheme) in [
        (&in_file, format!("pipeline.yaml:{line}:8:"), "`postgresql:…`"),
        (&on_line, "--set tracking.uri=".to_owned(), "`s3:…`"),
    ] {
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        for part in [place.as_str(), scheme, "expected a folder"] {
            assert!(ended.stderr.contains(part), "no `{part}` in {}", ended.stderr);
        }
    }
}

#[test]
fn database_of_a_store_stands_for_its_folder() {
    let workplace = Workplace::new(TINY);

    workplace.run(&["--set", "tracking.uri=sqlite:///runs/mlflow.db"]).done();

    assert!(workplace.path("runs/mlflow.db").is_file());
}

/// A word that is no filter is refused, rather than taken for another one.
#[test]
fn broken_log_filter_is_refused() {
    let workplace = Workplace::new(TINY);

    let ended = workplace.run(&["--log", "heimdall=loud"]);

    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("heimdall=loud"), "{}", ended.stderr);
}

#[test]
fn missing_pipeline_is_named() {
    let workplace = Workplace::new(TINY);

    let output = workplace.command(&["run", "nowhere.yaml"]).output().unwrap();

    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere.yaml"));
}

/// Root may write everywhere, so a file stands where a folder is needed.
#[test]
fn unwritable_folder_is_named_and_next_run_goes_on() {
    let workplace = Workplace::new(TINY);
    fs::write(workplace.path("artifacts"), "in the way").unwrap();

    let blocked = workplace.run(&["--until", "recordings"]);
    fs::remove_file(workplace.path("artifacts")).unwrap();
    let next = workplace.run(&["--until", "recordings"]);

    assert_eq!(blocked.code, 1, "{}", blocked.stderr);
    assert!(blocked.stderr.contains("artifacts"), "{}", blocked.stderr);
    next.done();
}

#[test]
fn store_that_is_no_database_is_named_and_left_alone() {
    let workplace = Workplace::new(TINY);
    fs::create_dir(workplace.path("mlflow")).unwrap();
    let database = workplace.path("mlflow/mlflow.db");
    fs::write(&database, "these are notes, not a database").unwrap();

    let ended = workplace.run(&[]);

    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("mlflow.db"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&database).unwrap(), "these are notes, not a database");
    assert_eq!(ended.json().stages["export"].state, "ran");
}

/// A catalog in the cache that has been overwritten is noticed, and made again.
#[test]
fn damaged_cache_is_not_trusted() {
    let workplace = Workplace::new(TINY);
    workplace.run(&["--until", "recordings"]).done();
    let mut damaged = 0;
    let mut folders = vec![workplace.path(".heimdall/cas")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(&path).unwrap().starts_with(b"SQLite format 3") {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
                fs::write(&path, "not a database any more").unwrap();
                damaged += 1;
            }
        }
    }

    let again = workplace.run(&["--until", "features"]).done();

    assert_eq!(damaged, 1);
    assert_eq!(again.stages["recordings"].state, "ran");
    assert_eq!(again.stages["features"].state, "ran");
}

/// Whoever edits a readable copy does not change what the next stage reads, and gets it back.
#[test]
fn edited_copy_is_restored() {
    let workplace = Workplace::new(TINY);
    let first = workplace.run(&["--until", "features"]).done();
    let file = first.stages["features"].outputs["features"].join("features.json");
    let original = fs::read(&file).unwrap();
    fs::write(&file, "{}").unwrap();

    let second = workplace.run(&["--until", "split"]).done();

    assert_eq!(second.stages["split"].state, "ran");
    assert_eq!(fs::read(&file).unwrap(), original);
}
