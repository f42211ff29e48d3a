//! Catalogs by command: importing, deciding, listing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use heimdall_data::write_npy;
use num_complex::Complex32;

use crate::workplace::{Workplace, said};

/// A folder `in coming/ü` with one recording of each of two receivers.
fn incoming(workplace: &Workplace) -> String {
    let folder = workplace.path("in coming/ü");
    fs::create_dir_all(&folder).unwrap();
    let receivers = "receiver,latitude,longitude\nnorth,46.5,8\neast side,46,9\n";
    fs::write(folder.join("receivers.csv"), receivers).unwrap();
    let sources = "source,frequency_hz,latitude,longitude\nbeacon,145500000,46.2,8.5\n";
    fs::write(folder.join("sources.csv"), sources).unwrap();
    record(&folder, "north", 1);
    record(&folder, "east side", 2);
    folder.display().to_string()
}

/// Writes a recording of one second with its sidecar.
fn record(folder: &Path, name: &str, seed: usize) {
    let samples: Vec<_> =
        (0..1000).map(|n| Complex32::from_polar(0.5, (n * seed) as f32 * 0.1)).collect();
    fs::write(folder.join(format!("{name}.npy")), write_npy(&samples)).unwrap();
    let sidecar = r#"{"sample_rate_hz": 1000, "center_frequency_hz": 145500000,
                      "start": "2024-05-01T12:00:00Z"}"#;
    fs::write(folder.join(format!("{name}.npy.json")), sidecar).unwrap();
}

fn output(workplace: &Workplace, arguments: &[&str]) -> Output {
    workplace.command(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Goes through the life of a catalog: import, decision, listing, growth.
fn catalog_lives(workplace: &Workplace, catalog: &str) {
    let folder = incoming(workplace);
    let import =
        ["import", &folder, "--format", "npy", "--catalog", catalog, "--store", "the store"];
    let first = said(workplace, &import);
    let again = said(workplace, &import);
    let command = |action: &[&str]| {
        let arguments = [&["catalog"], action, &["--catalog", catalog]].concat();
        said(workplace, &arguments)
    };
    let pending = command(&["list"]);
    let unusable = command(&["export"]);
    command(&["approve", "beacon_20240501"]);
    let approved = command(&["list", "--approval", "approved", "--json"]);
    let shown = command(&["show", "beacon_20240501"]);
    let exported = command(&["export"]);
    record(Path::new(&folder), "north_2", 3);
    fs::write(Path::new(&folder).join("east side_2.npy"), "no array").unwrap();
    let sidecar = Path::new(&folder).join("north_2.npy.json");
    let later = fs::read_to_string(&sidecar).unwrap().replace("12:00:00Z", "12:30:00Z");
    fs::write(sidecar, later).unwrap();
    let grown = output(workplace, &import);
    let stats = command(&["stats", "--json"]);

    assert!(
        first.starts_with("2 new recordings of 1 new events; 0 recordings were there"),
        "{first}"
    );
    assert!(first.contains("1 new sessions wait for a decision"), "{first}");
    assert!(
        again.starts_with("0 new recordings of 0 new events; 2 recordings were there"),
        "{again}"
    );
    let lines: Vec<&str> = pending.lines().collect();
    assert!(lines[0].starts_with("session          source  decision"), "{pending}");
    assert!(lines[1].starts_with("beacon_20240501  beacon  pending "), "{pending}");
    assert!(lines.iter().all(|line| line.chars().count() <= 120), "{pending}");
    assert_eq!(unusable, "");
    assert!(approved.contains(r#""approval":"approved""#), "{approved}");
    assert!(shown.contains("beacon at 46.20000, 8.50000"), "{shown}");
    assert!(shown.contains("145.5000  east side  1.00"), "{shown}");
    let event: serde_json::Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(event["recordings"].as_array().unwrap().len(), 2);
    let key = event["recordings"][0]["object"].as_str().unwrap();
    assert!(workplace.path("the store").join(key).is_file(), "{key}");
    let text = String::from_utf8_lossy(&grown.stdout);
    assert_eq!(grown.status.code(), Some(1), "{text}{}", stderr(&grown));
    assert!(
        text.starts_with("1 new recordings of 1 new events; 2 recordings were there"),
        "{text}"
    );
    assert!(text.contains("left out east side_2.npy: "), "{text}");
    assert!(stats.contains(r#""events":2"#) && stats.contains(r#""recordings":3"#), "{stats}");
}

#[test]
fn catalog_in_a_file_lives() {
    let workplace = Workplace::new("");

    catalog_lives(&workplace, "a catalog.db");

    assert!(workplace.path("a catalog.db").is_file());
}

/// Beside a catalog that is a file, objects go where a folder of recordings has them.
#[test]
fn folder_of_recordings_is_a_catalog_with_its_objects() {
    let workplace = Workplace::new("");
    let folder = incoming(&workplace);

    said(
        &workplace,
        &["import", &folder, "--format", "npy", "--catalog", "catalog.db", "--approve"],
    );
    let exported = said(&workplace, &["export-sigmf", ".", "--output", "sigmf"]);

    assert_eq!(exported, "1 collections with 2 recordings\n");
}

#[test]
fn what_cannot_be_is_refused_with_its_name() {
    let workplace = Workplace::new("");
    let folder = incoming(&workplace);
    fs::write(workplace.path("text"), "no database").unwrap();
    said(&workplace, &["import", &folder, "--format", "npy", "--catalog", "catalog.db"]);
    for (arguments, expected) in [
        (&["catalog", "list", "--catalog", "missing.db"][..], "missing.db"),
        (&["catalog", "list", "--catalog", "text"], "not a catalog"),
        (&["catalog", "show", "no such", "--catalog", "catalog.db"], "no session `no such`"),
        (&["catalog", "approve", "no such", "--catalog", "catalog.db"], "no session `no such`"),
        (&["catalog", "list", "--catalog", "mysql://host/x"], "no address of a catalog"),
        (
            &["import", &folder, "--catalog", "catalog.db", "--store", "ftp://x"],
            "no address of a store of objects",
        ),
        (&["import", &folder, "--catalog", "postgres://host/x"], "`--store` must be given"),
    ] {
        let refused = output(&workplace, arguments);

        let stderr = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    assert!(!workplace.path("missing.db").exists());
}

/// Killed at any moment, an import leaves no row without its object, and the next one completes it.
#[test]
fn killed_import_is_resumed() {
    let workplace = Workplace::new("");
    let folder = incoming(&workplace);
    for index in 0..40 {
        record(Path::new(&folder), &format!("north_{index}"), index + 5);
        let sidecar = Path::new(&folder).join(format!("north_{index}.npy.json"));
        let text = fs::read_to_string(&sidecar).unwrap();
        fs::write(sidecar, text.replace("12:00:00", &format!("13:{index:02}:00"))).unwrap();
    }
    let import = ["import", &folder, "--format", "npy", "--catalog", "catalog.db", "--approve"];
    for objects in [1, 7, 20, 41] {
        let mut child =
            workplace.command(&import).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let stored = || fs::read_dir(workplace.path("objects")).map_or(0, Iterator::count);
        while stored() < objects && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if workplace.path("catalog.db").exists() {
            every_row_has_its_object(&workplace);
        }
    }

    said(&workplace, &import);

    assert_eq!(every_row_has_its_object(&workplace), 42);
}

/// Returns how many recordings are listed.
fn every_row_has_its_object(workplace: &Workplace) -> usize {
    let mut recordings = 0;
    // A catalog that was killed before it had its tables is completed.
    for line in said(workplace, &["catalog", "export", "--catalog", "catalog.db"]).lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for recording in event["recordings"].as_array().unwrap() {
            let bytes =
                fs::read(workplace.path("objects").join(recording["object"].as_str().unwrap()));
            assert_eq!(blake3::hash(&bytes.unwrap()).to_hex().as_str(), recording["digest"]);
            recordings += 1;
        }
    }
    recordings
}

/// Two imports of one folder at once add it once.
#[test]
fn two_imports_at_once_add_once() {
    let workplace = Workplace::new("");
    let folder = incoming(&workplace);
    let import = ["import", &folder, "--format", "npy", "--catalog", "catalog.db", "--json"];
    let start = || {
        let mut command = workplace.command(&import);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };

    let outputs = [start(), start(), start()].map(|child| child.wait_with_output().unwrap());

    let added = outputs.map(|output| {
        assert!(output.status.success(), "{}", stderr(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["merged"]["recordings_added"].as_u64().unwrap()
    });
    assert_eq!(added.iter().sum::<u64>(), 2, "{added:?}");
}

/// A disk that is full in the middle loses nothing: what did not fit is told, and comes
/// with the next import.
#[test]
fn full_disk_is_told_and_loses_nothing() {
    let workplace = Workplace::new("");
    let folder = incoming(&workplace);
    let import = ["import", &folder, "--format", "npy", "--catalog", "catalog.db", "--approve"];
    said(&workplace, &import);
    let long: Vec<_> = (0..500_000).map(|n| Complex32::from_polar(0.5, n as f32 * 0.1)).collect();
    record(Path::new(&folder), "north_2", 3);
    let path = Path::new(&folder).join("north_2.npy");
    fs::write(&path, write_npy(&long)).unwrap();
    let sidecar = Path::new(&folder).join("north_2.npy.json");
    let later = fs::read_to_string(&sidecar).unwrap().replace("12:00:00Z", "12:30:00Z");
    fs::write(sidecar, later).unwrap();

    // No file may be longer than 1 MB, as if there were no more room.
    let program = env!("CARGO_BIN_EXE_heimdall-pipeline");
    let full = Command::new("/bin/sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$@\"", "sh", program])
        .args(import)
        .current_dir(workplace.path(""))
        .output()
        .unwrap();

    let text = stderr(&full);
    assert_eq!(full.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot be written") && text.contains("too large"), "{text}");
    assert_eq!(every_row_has_its_object(&workplace), 2);
    let next = said(&workplace, &import);
    assert!(
        next.starts_with("1 new recordings of 1 new events; 2 recordings were there"),
        "{next}"
    );
    assert_eq!(every_row_has_its_object(&workplace), 3);
}

/// A receiver whose clock is ahead by minutes is believed, and one that is ahead by years is not.
#[test]
fn recording_of_the_future_is_left_out() {
    let workplace = Workplace::new("");
    let folder = incoming(&workplace);
    for (name, start) in [("north_2", "2999-01-01T00:00:00Z"), ("north_3", "2024-05-02T00:00:00Z")]
    {
        record(Path::new(&folder), name, name.len());
        let sidecar = Path::new(&folder).join(format!("{name}.npy.json"));
        let text = fs::read_to_string(&sidecar).unwrap().replace("2024-05-01T12:00:00Z", start);
        fs::write(sidecar, text).unwrap();
    }

    let imported =
        output(&workplace, &["import", &folder, "--format", "npy", "--catalog", "catalog.db"]);

    let text = String::from_utf8_lossy(&imported.stdout);
    assert!(text.starts_with("3 new recordings"), "{text}");
    assert!(
        text.contains("left out north_2.npy") && text.contains("2999-01-01T00:00:00"),
        "{text}"
    );
    assert_eq!(imported.status.code(), Some(1));
}

mod with_postgres {
    use super::*;
    use crate::postgres;

    #[test]
    #[ignore = "needs PostgreSQL"]
    fn catalog_in_postgres_lives() {
        let workplace = Workplace::new("");

        catalog_lives(&workplace, &postgres::new_database());
    }
}
