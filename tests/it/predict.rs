//! An exported model on recordings, features and tables: the same positions as in its evaluation.

use std::fs;
use std::path::Path;
use std::process::Output;

use heimdall_geo::{Position, Receiver};
use heimdall_train::Evaluation;
use serde_json::Value;

use crate::locate_tables::write_tables;
use crate::tidy::root;
use crate::workplace::{RunJson, TINY, Workplace, ended, said};

/// The tiny pipeline, whose features have a classical fix.
fn with_fix() -> String {
    let features = "features: { bands: 16, frames: 8, fft_length: 64 }";
    let pipeline = TINY.replace(
        features,
        &format!("{features}\n    fix: {{ solver: {{ timing_floor_s: 3.0e-7 }} }}"),
    );
    assert_ne!(pipeline, TINY);
    pipeline
}

fn evaluation(run: &RunJson) -> Evaluation {
    let folder = &run.stages["evaluate"].outputs["evaluation"];
    serde_json::from_slice(&fs::read(folder.join("evaluation.json")).unwrap()).unwrap()
}

fn predict(workplace: &Workplace, arguments: &[&str]) -> Output {
    workplace.command(&[&["predict", "--json"], arguments].concat()).output().unwrap()
}

/// What `predict` prints, by the name of the event.
fn predicted(workplace: &Workplace, arguments: &[&str]) -> Vec<Value> {
    let output = predict(workplace, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    printed["events"].as_array().unwrap().clone()
}

fn position(value: &Value) -> Position {
    serde_json::from_value(value["fix"]["position"].clone()).unwrap()
}

/// Compares predictions with an evaluation, whose estimates are those of the network itself, and
/// returns how many events were compared.
fn compare(events: &[Value], evaluation: &Evaluation) -> usize {
    let mut compared = 0;
    for expected in &evaluation.events {
        let found: Vec<_> = events.iter().filter(|e| e["event"] == *expected.event).collect();
        let [event] = found[..] else {
            panic!("{} is there {} times", expected.event, found.len())
        };
        assert_eq!(event["hearing_receivers"], expected.hearing_receivers, "{event}");
        if expected.hearing_receivers == 0 {
            assert!(event["fix"].is_null(), "{event}");
            continue;
        }
        let estimate = evaluation.frame.to_position(&expected.estimate).unwrap();
        let off_m = 1000.0 * position(event).distance_km(&estimate);
        assert!(off_m < 1.0, "{}: {off_m} m off", expected.event);
        let error_km = event["error_km"].as_f64().unwrap();
        assert!((error_km - expected.error_km).abs() < 1e-3, "{event}");
        // Planes are tilted against each other by less than a degree.
        let area_km2 = std::f64::consts::PI
            * event["fix"]["region"]["semi_major_km"].as_f64().unwrap()
            * event["fix"]["region"]["semi_minor_km"].as_f64().unwrap();
        assert!((area_km2 / expected.region_90_area_km2 - 1.0).abs() < 1e-3, "{event}");
        compared += 1;
    }
    compared
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// From the recordings of a stage, from SigMF files, from the features of a stage; by the file, its
/// folder, and the registry.
#[test]
fn every_way_to_the_events_and_the_model_gives_the_positions_of_the_evaluation() {
    let workplace = Workplace::new(&with_fix());
    let run = workplace.run(&[]).done();
    let evaluation = evaluation(&run);
    let recordings = &run.stages["recordings"].outputs["recordings"];
    let features = &run.stages["split"].outputs["test"];
    let onnx = &run.stages["export"].outputs["onnx"];
    said(&workplace, &["export-sigmf", path(recordings), "--output", "sigmf"]);
    let file = onnx.join("model.onnx");
    let registered = "models:/tiny-localization@candidate";
    let cases = [
        (path(recordings), path(&file), 40),
        ("sigmf", path(onnx), 40),
        (path(features), registered, 8),
        (path(features), "models:/tiny-localization/1", 8),
    ];
    for (folder, model, events) in cases {
        let found = predicted(&workplace, &[folder, "--model", model]);

        assert_eq!(found.len(), events, "{folder}");
        assert!(compare(&found, &evaluation) >= 5, "{folder}");
    }
    // The fixes are those of the stage.
    let table = said(&workplace, &["predict", "sigmf", "--model", path(&file)]);
    assert!(table.lines().count() == 41 && table.contains("90 % in "), "{table}");
}

#[test]
fn map_has_a_point_and_a_region_for_each_event() {
    let workplace = Workplace::new(TINY);
    let run = workplace.run(&["--until", "export"]).done();
    let features = path(&run.stages["split"].outputs["test"]).to_owned();
    let model = path(&run.stages["export"].outputs["onnx"]).to_owned();

    let arguments = [&features, "--model", &model, "--output", "map.json", "--probability", "0.5"];
    let events = predicted(&workplace, &arguments);

    let map = fs::read(workplace.path("map.json")).unwrap();
    let map: Value = serde_json::from_slice(&map).unwrap();
    assert_eq!(map["type"], "FeatureCollection");
    let features = map["features"].as_array().unwrap();
    for event in events {
        let of_event: Vec<_> =
            features.iter().filter(|f| f["properties"]["event"] == event["event"]).collect();
        if event["fix"].is_null() {
            assert!(of_event.len() == 1 && of_event[0]["geometry"].is_null(), "{of_event:?}");
            continue;
        }
        let [point, region] = of_event[..] else { panic!("{of_event:?}") };
        let place = position(&event);
        let [longitude, latitude] =
            [0, 1].map(|axis| point["geometry"]["coordinates"][axis].as_f64().unwrap());
        assert!((longitude - place.longitude_deg()).abs() < 1e-12, "{point}");
        assert!((latitude - place.latitude_deg()).abs() < 1e-12, "{point}");
        assert_eq!(region["geometry"]["type"], "Polygon", "{region}");
        assert_eq!(region["properties"]["fix"]["probability"], 0.5);
    }
}

/// A network on tables says of tables what the evaluation says, though silence is in no table.
#[test]
fn tables_give_the_positions_of_the_evaluation() {
    let workplace = Workplace::new("");
    write_tables(&workplace.path("own"), 400, 1);
    let pipeline = fs::read_to_string(root().join("pipelines/powder.yaml")).unwrap();
    let export =
        "  export:\n    uses: export\n    from: { model: evaluate.model, samples: split.test }\n";
    let pipeline = format!("{pipeline}\n{export}");
    fs::write(workplace.path("pipeline.yaml"), pipeline).unwrap();
    let settings =
        ["vars.data=own", "split.block_km=4", "vars.epochs=4", "evaluate.shift.block_km=4"];
    let settings: Vec<&str> = settings.iter().flat_map(|value| ["--set", value]).collect();
    let run = ended(workplace.start(&[&["--until", "export"], &settings[..]].concat())).done();
    let onnx = path(&run.stages["export"].outputs["onnx"]).to_owned();

    let found = predicted(&workplace, &["own", "--model", &onnx]);

    assert_eq!(found.len(), 400);
    assert!(compare(&found, &evaluation(&run)) > 20);
}

#[test]
fn what_does_not_fit_the_model_is_told() {
    let workplace = Workplace::new(TINY);
    let run = workplace.run(&[]).done();
    let recordings = path(&run.stages["recordings"].outputs["recordings"]).to_owned();
    let model = path(&run.stages["export"].outputs["onnx"]).to_owned();
    let other = |name: &str, changes: &[&str]| {
        let changes: Vec<&str> = changes.iter().flat_map(|change| ["--set", change]).collect();
        let output = ["--until", "features", "--output", name];
        workplace.run(&[&output[..], &changes].concat()).done().stages
    };
    let bands = other("bands", &["features.features.bands=8"]);
    let reference = other("reference", &["features.features.level=absolute"]);
    let rate = other("rate", &["recordings.world.sample_rate_hz=20000"]);
    let receivers = evaluation(&run).receivers;
    let table = |moved_deg: f64, suffix: &str| {
        let row = |receiver: &Receiver| {
            let Receiver { name, position, .. } = receiver;
            let (latitude, longitude) = (position.latitude_deg(), position.longitude_deg());
            format!("{name}{suffix},{},{longitude}\n", latitude + moved_deg)
        };
        let rows: String = receivers.iter().map(row).collect();
        format!("receiver,latitude,longitude\n{rows}")
    };
    fs::write(workplace.path("moved.csv"), table(0.01, "")).unwrap();
    fs::write(workplace.path("renamed.csv"), table(0.0, "x")).unwrap();
    let moved = other("moved", &["recordings.receivers=moved.csv"]);
    let renamed = other("renamed", &["recordings.receivers=renamed.csv"]);
    let output = |stages: &std::collections::BTreeMap<String, crate::workplace::StageJson>,
                  stage: &str,
                  port: &str| path(&stages[stage].outputs[port]).to_owned();
    write_tables(&workplace.path("tables"), 4, 1);
    fs::create_dir(workplace.path("empty")).unwrap();
    let known = "models:/tiny-localization@candidate";
    let cases = [
        (output(&bands, "features", "features"), &*model, &["`shape`", "\"bands\":8", "16"][..]),
        (output(&reference, "features", "features"), &model, &["`features`", "absolute"]),
        (output(&moved, "recordings", "recordings"), &model, &["receiver `", "it at "]),
        (output(&renamed, "recordings", "recordings"), &model, &["a receiver of event", "only "]),
        (output(&rate, "recordings", "recordings"), &model, &["sample rate", "20000", "16000"]),
        ("tables".to_owned(), known, &["tables of measurements", "recordings"]),
        ("empty".to_owned(), &model, &["empty/receivers.csv"]),
        ("pipeline.yaml".to_owned(), &model, &["a file", "a folder"]),
        (recordings.clone(), "models:/tiny-localization@best", &["no such version", "@candidate"]),
        (recordings.clone(), "models:/unknown/1", &["no such version", "it has none"]),
        (recordings.clone(), "pipeline.yaml", &["ONNX"]),
        (recordings, "nowhere.onnx", &["nowhere.onnx"]),
    ];
    for (folder, model, told) in cases {
        let output = predict(&workplace, &[&folder, "--model", model]);

        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{folder} {model}");
        for part in told {
            assert!(errors.contains(part), "no {part:?} in {errors}");
        }
        assert!(!workplace.path("positions.geojson").exists(), "{folder} {model}");
    }
}

#[test]
fn damaged_file_is_told_from_its_manifest() {
    let workplace = Workplace::new(TINY);
    let run = workplace.run(&["--until", "export"]).done();
    let features = path(&run.stages["split"].outputs["test"]).to_owned();
    fs::create_dir(workplace.path("copy")).unwrap();
    for name in ["model.onnx", "manifest.json"] {
        let from = run.stages["export"].outputs["onnx"].join(name);
        fs::copy(from, workplace.path("copy").join(name)).unwrap();
    }
    let file = workplace.path("copy/model.onnx");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();

    let output = predict(&workplace, &[&features, "--model", "copy"]);

    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("damaged"), "{errors}");
}
