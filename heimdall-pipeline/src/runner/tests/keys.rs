//! What decides a result: every field of every kind of stage that is found by asking the types, and
//! nothing else. Below a key that decides about the others only the first level is varied.

use serde_json::{Map, Value, json};

use super::*;
use crate::cache::KeyParts;
use crate::runner::foresee::Failing;
use crate::spec::{Case, Field, Shape};
use crate::stage::{Stage, StageKind};

/// Fields that name files and folders: their content decides, and where they are does not.
const PATHS: [(StageKind, &str); 8] = [
    (StageKind::Import, "path"),
    (StageKind::ImportTables, "path"),
    (StageKind::ImportTables, "test"),
    (StageKind::Simulate, "receivers"),
    (StageKind::SimulateFeatures, "receivers"),
    (StageKind::Train, "pretrained"),
    (StageKind::HoldOut, "train.pretrained"),
    (StageKind::Cmd, "sources"),
];

/// Fields that are text with rules of its own, and what they can be.
const TEXTS: [(&str, &str); 1] = [("datatype", "cf32")];

/// Configurations that differ in one field each, by the path of that field; none for a field that
/// nobody knows how to vary.
fn changes(shape: &Shape, value: &Value) -> Vec<(String, Option<Value>)> {
    let here = |value: Value| vec![(String::new(), Some(value))];
    match (shape, value) {
        (Shape::Struct(fields), Value::Object(values)) => {
            let changed = |field: &Field| -> Vec<(String, Option<Value>)> {
                let before = values.get(&field.name).unwrap_or(&Value::Null);
                let with = |(path, inner): (String, Option<Value>)| {
                    let text = TEXTS.iter().find(|(name, _)| *name == field.name);
                    let inner = text.map(|(_, text)| (*text).into()).or(inner);
                    let point = if path.is_empty() { "" } else { "." };
                    (
                        format!("{}{point}{path}", field.name),
                        inner.map(|inner| with_field(values, &field.name, inner)),
                    )
                };
                changes(&field.shape, before).into_iter().map(with).collect()
            };
            fields.iter().flat_map(changed).collect()
        }
        (Shape::Optional(inner), Value::Null) => here(inner.sample()),
        (Shape::Optional(inner), value) => changes(inner, value),
        (Shape::Bool, Value::Bool(flag)) => here((!flag).into()),
        (Shape::Integer { .. }, value) => here((value.as_i64().unwrap() + 1).into()),
        (Shape::Number, value) => here((value.as_f64().unwrap() * 1.1 + 0.01).into()),
        (Shape::Text, value) => here(format!("{}x", value.as_str().unwrap()).into()),
        (Shape::Choice(choices), value) => {
            let other = |(name, _): &&(&str, Shape)| value != name && value.get(*name).is_none();
            let other = choices.iter().find(other);
            other.map_or_else(left_out, |other| here(Shape::Choice(vec![other.clone()]).sample()))
        }
        (Shape::Tagged(tag, cases), Value::Object(_)) => {
            let (own, others): (Vec<Case>, Vec<Case>) =
                cases.iter().cloned().partition(|case| value[tag] == case.name.as_str());
            let others = others
                .iter()
                .flat_map(|other| here(Shape::Tagged(tag.clone(), vec![other.clone()]).sample()));
            changes(&Shape::Struct(own[0].fields.clone()), value)
                .into_iter()
                .chain(others)
                .collect()
        }
        (Shape::List(item, None), Value::Array(items)) => {
            here([items.as_slice(), &[item.sample()]].concat().into())
        }
        (Shape::List(item, Some(_)), Value::Array(items)) => {
            let (_, first) = changes(item, &items[0]).remove(0);
            first.map_or_else(left_out, |first| here([&[first], &items[1..]].concat().into()))
        }
        (Shape::Mapping(_, inner), Value::Object(entries)) if !entries.is_empty() => {
            let (name, first) = entries.iter().next().unwrap();
            let with = |(path, inner): (String, Option<Value>)| {
                (path, inner.map(|inner| with_field(entries, name, inner)))
            };
            changes(inner, first).into_iter().map(with).collect()
        }
        (Shape::Mapping(keys, inner), Value::Object(_)) => {
            let key = keys.map_or("x", |keys| keys[0]);
            here(json!({ key: inner.sample() }))
        }
        (Shape::Union(_), Value::String(text)) => here(format!("{text}x").into()),
        (Shape::Any | Shape::Union(_), _) => left_out(),
        other => panic!("{other:?}"),
    }
}

/// What stands for a field that is not varied.
fn left_out() -> Vec<(String, Option<Value>)> {
    vec![(String::new(), None)]
}

fn with_field(fields: &Map<String, Value>, name: &str, value: Value) -> Value {
    let mut fields = fields.clone();
    fields.insert(name.to_owned(), value);
    fields.into()
}

/// The smallest configuration of a kind.
fn smallest(kind: StageKind, shape: &Shape) -> Value {
    let mut sample = shape.sample();
    if kind == StageKind::Cmd {
        sample = json!({ "command": "a", "outputs": { "out": "files" }, "env": { "A": "b" } });
    }
    Stage::deserialize(kind, sample).unwrap().parameters()
}

#[test]
fn every_field_of_every_kind_is_in_the_key_but_paths() {
    let (mut checked, mut left_out) = (0, Vec::new());
    for kind in StageKind::ALL {
        let shape = Shape::of(&|probe| Stage::deserialize(kind, probe).map(drop));
        let before = smallest(kind, &shape);
        let stage = |value: &Value| Stage::deserialize::<Value>(kind, value.clone()).unwrap();
        for (path, now) in changes(&shape, &before) {
            let Some(now) = now else {
                left_out.push(format!("{kind}.{path}"));
                continue;
            };
            let (was, is) = (stage(&before), stage(&now));
            let is_path = PATHS.contains(&(kind, path.as_str()));

            let is_same = was.key_parameters() == is.key_parameters();
            assert_eq!(is_same, is_path, "{kind}.{path}: {before} {now}");
            assert_eq!(was.external_inputs() != is.external_inputs(), is_path, "{kind}.{path}");
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} fields");
    assert_eq!(left_out, [""; 0], "fields that are not varied");
}

/// What the key of a stage was made of, in a pipeline with nothing else.
fn parts(bench: &Bench, text: &str) -> Vec<KeyParts> {
    let spec = spec(text);
    let (options, cancel, events) = (bench.options(), Arc::default(), EventSink::new(|_| {}));
    let run = Run::begin(&spec, &options, &cancel, &events).unwrap();
    (0..spec.stages.len()).map(|position| run.key_parts(position).unwrap()).collect()
}

/// A definition with one stage of a kind behind all those that it may need, run in some way.
fn definition(kind: StageKind, name: &str, run: &str, folder: &Path) -> String {
    let folder = folder.display();
    let own = match kind {
        StageKind::Import | StageKind::ImportTables => format!("path: {folder}"),
        StageKind::Register => "from: { onnx: x, evaluation: e.evaluation }, model: m".to_owned(),
        StageKind::Locate => {
            "from: r, region: { south_west: { latitude: 1, longitude: 1 }, north_east: { latitude: 2, longitude: 2 } }"
                .to_owned()
        }
        StageKind::Extract => "from: r".to_owned(),
        StageKind::Split | StageKind::HoldOut => "from: f".to_owned(),
        StageKind::Train => "from: { train: s.train, validation: s.validation }".to_owned(),
        StageKind::Evaluate => {
            "from: { model: t, calibration: s.calibration, test: s.test }".to_owned()
        }
        StageKind::Export => "from: { model: e.model, samples: s.test }".to_owned(),
        StageKind::Cmd => "command: x, outputs: { out: files }".to_owned(),
        StageKind::Simulate | StageKind::SimulateFeatures => "world: { seed: 1 }".to_owned(),
    };
    format!(
        "stages:\n  {name}: {{ uses: {kind}, {own}, run: {{ {run} }} }}\n  r: {{ uses: simulate }}\n  \
         f: {{ uses: extract, from: r }}\n  s: {{ uses: split, from: f }}\n  \
         t: {{ uses: train, from: {{ train: s.train, validation: s.validation }} }}\n  \
         e: {{ uses: evaluate, from: {{ model: t, calibration: s.calibration, test: s.test }} }}\n  \
         x: {{ uses: export, from: {{ model: e.model, samples: s.test }} }}\n"
    )
}

/// Of each kind: its name and how it is run have no part in the key, and what it is made of is: the
/// version of its code, its inputs, and the formats of its outputs.
#[test]
fn names_and_ways_to_run_are_in_no_key() {
    let bench = Bench::new();
    let folder = bench.path("imported");
    fs::create_dir(&folder).unwrap();
    for kind in StageKind::ALL {
        let one = definition(kind, "one", "device: auto", &folder);
        let other = definition(
            kind,
            "other",
            "device: cpu, retries: 3, timeout: 1h, backoff: 2s, processors: 1, memory: 1MiB, gpus: 1",
            &folder,
        );

        let (one, other) = (parts(&bench, &one), parts(&bench, &other));

        assert_eq!(one[0], other[0], "{kind}");
        let names: Vec<&str> = one[0].iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"kind") && names.contains(&"parameters"), "{names:?}");
        let inputs = kind.inputs().iter().filter(|input| input.required);
        for input in inputs {
            assert!(names.contains(&&*format!("input {}", input.name)), "{kind}: {names:?}");
        }
        let value = |name: &str| one[0].iter().find(|part| part.0 == name).map(|part| part.1);
        assert_eq!(value("kind"), Some(&*format!("{kind} {}", kind.cache_version())));
        for output in kind.outputs() {
            let format = value(&format!("output {}", output.name)).expect("every output is in it");
            assert_eq!(format, format!("{} {}", output.kind, output.kind.format_version()));
        }
        assert_eq!(value("tracking").is_some(), kind == StageKind::Register);
        // Each part decides: without it, or with another value, the key is another.
        for (name, value) in one[0].iter() {
            let mut changed = one[0].clone();
            changed.set(name, format!("{value}?"));
            assert_ne!(changed.key(), one[0].key(), "{kind}: {name}");
        }
    }
}

/// Of an input, what was made decides, and not how: the digest of the files is in the key.
#[tokio::test]
async fn content_of_inputs_is_in_the_key() {
    let bench = Bench::new();
    let mut digests = Vec::new();
    for seed in ["seed: 3", "seed: 4"] {
        let spec = spec(&TINY.replace("seed: 3", seed));
        bench.run(&TINY.replace("seed: 3", seed)).await;
        let (options, cancel, events) = (bench.options(), Arc::default(), EventSink::new(|_| {}));
        let run = Run::begin(&spec, &options, &cancel, &events).unwrap();
        run.foresee(0, &mut Failing::default()).await.unwrap();

        let parts = run.key_parts(1).unwrap();

        let made = run.result(0).unwrap().outputs["recordings"].tree.to_string();
        let input = parts.iter().find(|(name, _)| *name == "input recordings");
        assert_eq!(input, Some(("input recordings", &*made)));
        digests.push(made);
    }
    assert_ne!(digests[0], digests[1]);
}

/// The clock of the machine may say anything: what is kept is found, and a file that changed is read.
#[tokio::test]
async fn clock_that_jumps_changes_nothing() {
    let bench = Bench::new();
    bench.run(TINY).await;
    let output = bench.plan_result("features");
    let blob = Cache::open(&bench.path("cache"), None).unwrap().blob(&output);
    for seconds in [0, 4_000_000_000] {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(&blob).unwrap().set_modified(time).unwrap();

        assert_eq!(states(&bench.run(TINY).await), ["cached", "cached"]);
    }
    // After a run in the future, by a clock that was put back since, come those of today.
    let runs = bench.path("cache/runs");
    let id = "29991231T235959.998Z-ffff";
    let record = fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&record).unwrap();
    let old = record.file_stem().unwrap().to_str().unwrap();
    fs::write(runs.join(format!("{id}.json")), text.replace(old, id)).unwrap();
    let again = bench.run(&TINY.replace("seed: 3", "seed: 4")).await;
    let cache = Cache::open(&bench.path("cache"), None).unwrap();

    assert_eq!(states(&again), ["ran", "ran"]);
    assert_eq!(cache.find_run("last").unwrap().run, again.run);
    assert_eq!(cache.find_run("last~1").unwrap().run, id);
    assert_eq!(bench.plan(TINY).await, [Forecast::Restore, Forecast::Restore]);
}
