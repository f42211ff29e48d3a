//! What is in a spool stays there, whatever happens in between.

use super::*;

fn run() -> TrackedRun {
    TrackedRun { start_time_ms: 5, ..TrackedRun::new("experiment", "run") }
}

fn tags(value: &str) -> Entry {
    Entry::Tags { tags: BTreeMap::from([("key".to_owned(), value.to_owned())]) }
}

fn entries(spool: &Spool, from: u64) -> Vec<Entry> {
    let read = spool.read(from, 100).unwrap();
    read.into_iter().map(|(_, entry)| entry.unwrap()).collect()
}

#[test]
fn entries_are_read_in_order_from_any_place() {
    let root = tempfile::tempdir().unwrap();
    let (spool, mut writer) = Spool::create(root.path(), "one", "mlflow", &run()).unwrap();
    let metric = |value| Metric { key: "loss".to_owned(), value, step: 1, timestamp_ms: 2 };
    let points = [f64::NAN, f64::NEG_INFINITY, 0.1].map(|value| Point::from(&metric(value)));
    let all = [tags("a\nb"), Entry::Metrics { points: points.to_vec() }, tags("c")];
    for entry in &all {
        writer.push(entry).unwrap();
    }

    assert_eq!(entries(&spool, 0), all);
    let (first, _) = spool.read(0, 1).unwrap()[0];
    assert_eq!(entries(&spool, first), all[1..]);
    let Entry::Metrics { points } = &entries(&spool, 0)[1] else { panic!("the second is metrics") };
    let values: Vec<f64> = points.iter().map(|point| Metric::from(point).value).collect();
    assert!(
        values[0].is_nan() && values[1].is_infinite() && values[2].to_bits() == 0.1_f64.to_bits()
    );
}

/// A process that was killed while it wrote leaves half a line, which nobody takes for an entry.
#[test]
fn half_a_line_is_taken_off() {
    let root = tempfile::tempdir().unwrap();
    let (spool, mut writer) = Spool::create(root.path(), "one", "mlflow", &run()).unwrap();
    writer.push(&tags("a")).unwrap();
    writer.file.write_all(b"{\"kind\": \"ta").unwrap();

    assert_eq!(entries(&spool, 0), [tags("a")]);
    let folder = spool.folder().to_owned();
    drop(spool);
    let spool = Spool::take_over(&folder).unwrap().unwrap();
    spool.writer().unwrap().push(&tags("b")).unwrap();
    assert_eq!(entries(&spool, 0), [tags("a"), tags("b")]);
}

#[test]
fn line_that_is_no_entry_comes_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let (spool, mut writer) = Spool::create(root.path(), "one", "mlflow", &run()).unwrap();
    writer.file.write_all(b"{\"kind\": \"of a newer release\"}\n").unwrap();

    let read = spool.read(0, 5).unwrap();

    assert!(matches!(&read[..], [(_, Err(line))] if line.contains("newer")), "{read:?}");
}

#[test]
fn spool_belongs_to_one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let (spool, _writer) = Spool::create(root.path(), "one", "http://host", &run()).unwrap();
    let folder = spool.folder().to_owned();

    assert!(Spool::take_over(&folder).unwrap().is_none());
    drop(spool);
    let taken = Spool::take_over(&folder).unwrap().unwrap();

    assert_eq!((&*taken.address, &taken.run, &*taken.key), ("http://host", &run(), "one"));
    let progress = Progress { run_id: Some("f00".to_owned()), bytes: 12 };
    assert_eq!(taken.progress().unwrap(), Progress::default());
    taken.note(&progress).unwrap();
    assert_eq!(taken.progress().unwrap(), progress);
    assert_eq!(Spool::all(root.path()).unwrap(), [folder]);
    taken.remove().unwrap();
    assert!(Spool::all(root.path()).unwrap().is_empty());
    assert!(Spool::all(&root.path().join("absent")).unwrap().is_empty());
}

#[test]
fn what_was_refused_outlives_the_spool() {
    let root = tempfile::tempdir().unwrap();
    let (spool, _writer) = Spool::create(root.path(), "one", "mlflow", &run()).unwrap();
    let folder = spool.folder().to_owned();

    spool.refuse(&json!({ "kind": "params" }), "changed").unwrap();
    spool.remove().unwrap();

    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(names, [REFUSED]);
    let line = fs::read_to_string(folder.join(REFUSED)).unwrap();
    assert_eq!(line, "{\"entry\":{\"kind\":\"params\"},\"reason\":\"changed\"}\n");
    // It is nothing to send any more.
    assert!(Spool::all(root.path()).unwrap().is_empty());
}
