//! Tests of definitions, sound and broken.

use heimdall_train::DeviceChoice;

use super::*;

/// A sound definition that has every kind of reference.
const SOUND: &str = "\
name: localization
vars: { epochs: 7, rate: 1e-3 }
stages:
  world: { uses: simulate, world: { sessions: 12, seed: 7 } }
  features: { uses: extract, from: world }
  split: { uses: split, from: features }
  train:
    uses: train
    from: { train: split.train, validation: split.validation }
    epochs: ${epochs}
    learning_rate: ${rate}
    run: { device: cpu }
  evaluate: { uses: evaluate, from: { model: train, calibration: split.calibration, test: split.test } }
  export: { uses: export, from: { model: evaluate, samples: split.test } }
  register: { uses: register, from: [export, evaluate], model: net, gate: { coverage_90: [0.8, 0.97] } }
";

fn parse(text: &str, set: &[&str]) -> Result<PipelineSpec, PipelineError> {
    let set = set.iter().map(|text| (*text).to_owned()).collect();
    let environment = [("FROM_OUTSIDE".to_owned(), "11".to_owned())].into();
    PipelineSpec::parse(
        "p.yaml",
        "p",
        text,
        &LoadOptions { set, environment, ..LoadOptions::default() },
    )
}

fn parameter(spec: &PipelineSpec, stage: &str, pointer: &str) -> serde_json::Value {
    let stage = &spec.stages[spec.position(stage).unwrap()];
    stage.stage.parameters().pointer(pointer).unwrap().clone()
}

fn wires(spec: &PipelineSpec, stage: &str) -> Vec<String> {
    let name = |at: usize| spec.stages[at].name.as_str();
    let wires = spec.graph().inputs(spec.position(stage).unwrap());
    wires
        .iter()
        .map(|wire| format!("{}.{} -> {}", name(wire.producer), wire.output.name, wire.input.name))
        .collect()
}

#[test]
fn sound_definition_is_read() {
    let spec = parse(SOUND, &[]).unwrap();

    assert_eq!(spec.name, "localization");
    assert_eq!(spec.tracking, TrackingSpec::default());
    assert_eq!(parameter(&spec, "train", "/epochs"), 7);
    assert_eq!(parameter(&spec, "train", "/learning_rate"), 1e-3);
    assert_eq!(parameter(&spec, "train", "/batch_size"), 32);
    assert_eq!(parameter(&spec, "world", "/world/sessions"), 12);
    assert_eq!(spec.stages[3].run.device, DeviceChoice::Cpu);
    assert_eq!(spec.graph().order(), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn references_find_their_ports() {
    let spec = parse(SOUND, &[]).unwrap();

    assert_eq!(wires(&spec, "features"), ["world.recordings -> recordings"]);
    assert_eq!(wires(&spec, "train"), ["split.train -> train", "split.validation -> validation"]);
    // A stage with two outputs is told apart by what the input takes.
    assert_eq!(wires(&spec, "export"), ["evaluate.model -> model", "split.test -> samples"]);
    assert_eq!(
        wires(&spec, "register"),
        ["evaluate.evaluation -> evaluation", "evaluate.model -> model", "export.onnx -> onnx"]
    );
}

#[test]
fn relatives_come_in_running_order() {
    let spec = parse(SOUND, &[]).unwrap();
    let evaluate = spec.position("evaluate").unwrap();

    assert_eq!(spec.graph().ancestors(evaluate), [0, 1, 2, 3]);
    assert_eq!(spec.graph().descendants(evaluate), [5, 6]);
}

#[test]
fn definition_may_stand_in_any_order() {
    let text = "stages:\n  b: { uses: extract, from: a }\n  a: { uses: simulate }\n";

    let spec = parse(text, &[]).unwrap();

    assert_eq!(spec.graph().order(), [1, 0]);
    assert_eq!(spec.name, "p");
}

#[test]
fn variables_cover_the_environment_and_the_command_line_covers_both() {
    let text = "\
vars: { epochs: 7 }
stages:
  world: { uses: simulate }
  features: { uses: extract, from: world }
  split: { uses: split, from: features }
  train:
    uses: train
    from: { train: split.train, validation: split.validation }
    epochs: ${epochs}
    seed: ${FROM_OUTSIDE}
    batch_size: ${ABSENT:-64}
";

    let plain = parse(text, &[]).unwrap();
    let set = parse(text, &["vars.epochs=3"]).unwrap();

    assert_eq!(parameter(&plain, "train", "/epochs"), 7);
    assert_eq!(parameter(&plain, "train", "/seed"), 11);
    assert_eq!(parameter(&plain, "train", "/batch_size"), 64);
    assert_eq!(parameter(&set, "train", "/epochs"), 3);
}

#[test]
fn profiles_cover_what_the_definition_says() {
    let text = "\
vars: { sessions: 3, seed: 1 }
tracking: { uri: here, experiment: usual }
profiles:
  large: { vars: { sessions: 600 }, tracking: { uri: there } }
  other: { vars: { sessions: 7 } }
stages:
  world:
    uses: simulate
    world:
      sessions: ${sessions}
      seed: ${seed}
";
    let parse = |profiles: &[&str], set: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let options =
            LoadOptions { set: owned(set), profiles: owned(profiles), ..LoadOptions::default() };
        PipelineSpec::parse("p.yaml", "p", text, &options)
    };
    let sessions = |profiles: &[&str], set: &[&str]| {
        parameter(&parse(profiles, set).unwrap(), "world", "/world/sessions")
    };

    assert_eq!(sessions(&[], &[]), 3);
    assert_eq!(sessions(&["large"], &[]), 600);
    assert_eq!(sessions(&["large", "other"], &[]), 7);
    assert_eq!(sessions(&["large"], &["vars.sessions=9"]), 9);
    let tracking = parse(&["large"], &[]).unwrap().tracking;
    assert_eq!((tracking.uri.as_str(), tracking.experiment.as_deref()), ("there", Some("usual")));
    let error = parse(&["larg"], &[]).unwrap_err().to_string();
    assert!(error.contains("no profile `larg`") && error.contains("`large`?"), "{error}");
}

#[test]
fn assignments_are_typed_and_later_ones_win() {
    let set = [
        "train.epochs=5",
        "train.epochs=6",
        "world.world.sessions=3",
        "register.model=2024",
        "register.gate.error_km_median=[0, 60]",
        "train.run.device=auto",
        "tracking.uri=elsewhere",
    ];

    let spec = parse(SOUND, &set).unwrap();

    assert_eq!(parameter(&spec, "train", "/epochs"), 6);
    assert_eq!(parameter(&spec, "world", "/world/sessions"), 3);
    assert_eq!(parameter(&spec, "world", "/world/seed"), 7);
    assert_eq!(parameter(&spec, "register", "/model"), "2024");
    assert_eq!(parameter(&spec, "register", "/gate/error_km_median/1"), 60.0);
    assert_eq!(spec.stages[3].run.device, DeviceChoice::Auto);
    assert_eq!(spec.tracking.uri, "elsewhere");
}

#[test]
fn broken_assignment_is_refused_with_a_suggestion() {
    struct Case {
        set: &'static str,
        message: &'static str,
        help: Option<&'static str>,
    }
    let cases = [
        Case {
            set: "train.epoch=5",
            message: "unknown key `epoch`",
            help: Some("did you mean `epochs`?"),
        },
        Case {
            set: "world.wrld.sessions=5",
            message: "unknown key `wrld`",
            help: Some("did you mean `world`?"),
        },
        Case {
            set: "trian.epochs=5",
            message: "the pipeline has no stage `trian`",
            help: Some("did you mean `train`?"),
        },
        Case {
            set: "vars.epoch=5",
            message: "the definition has no variable `epoch`",
            help: Some("did you mean `epochs`?"),
        },
        Case {
            set: "train.epochs=many",
            message: "invalid type: string \"many\", expected usize",
            help: None,
        },
        Case { set: "train.epochs.max=1", message: "there is no `max` within 7", help: None },
        Case {
            set: "epochs",
            message: "expected `STAGE.FIELD=VALUE` or `vars.NAME=VALUE`",
            help: None,
        },
    ];
    for Case { set, message, help } in cases {
        let error = parse(SOUND, &[set]).unwrap_err();

        let PipelineError::Definition(diagnostic) = &error else { panic!("{set}: {error}") };
        assert_eq!((diagnostic.message(), diagnostic.help()), (message, help), "{set}");
        assert_eq!(error.exit_code(), 2);
    }
}

/// A broken definition, and what must be said about it.
struct Broken {
    text: &'static str,
    place: Option<(usize, usize)>,
    message: &'static str,
    help: Option<&'static str>,
}

#[test]
fn broken_definition_is_refused_with_its_place() {
    let cases = [
        Broken { text: "", place: None, message: "the definition is empty", help: None },
        Broken {
            text: "# nothing yet\n",
            place: None,
            message: "the definition is empty",
            help: None,
        },
        Broken {
            text: "stages: {}\n",
            place: None,
            message: "the definition has no stages",
            help: None,
        },
        Broken {
            text: "stges:\n  a: { uses: simulate }\n",
            place: Some((1, 1)),
            message: "unknown key `stges`",
            help: Some("did you mean `stages`?"),
        },
        Broken {
            text: "name: x\n",
            place: None,
            message: "the definition has no stages",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: simulat }\n",
            place: Some((2, 14)),
            message: "there is no kind of stage `simulat`",
            help: Some("did you mean `simulate`?"),
        },
        Broken {
            text: "stages:\n  a: { world: { seed: 1 } }\n",
            place: Some((2, 8)),
            message: "the key `uses` is missing",
            help: None,
        },
        Broken {
            text: "stages:\n  a:\n    uses: simulate\n    wrld: { seed: 1 }\n",
            place: Some((4, 5)),
            message: "unknown key `wrld`",
            help: Some("did you mean `world`?"),
        },
        Broken {
            text: "stages:\n  a:\n    uses: simulate\n    world: { sead: 1 }\n",
            place: Some((4, 14)),
            message: "unknown key `sead`",
            help: Some("did you mean `seed`?"),
        },
        Broken {
            text: "stages:\n  a:\n    uses: simulate\n    runs: { device: cpu }\n",
            place: Some((4, 5)),
            message: "unknown key `runs`",
            help: Some("did you mean `run`?"),
        },
        Broken {
            text: "stages:\n  a:\n    uses: simulate\n    run: { device: gpu }\n",
            place: Some((4, 20)),
            message: "unknown value `gpu`",
            help: Some("did you mean `cpu`?"),
        },
        Broken {
            text: "stages:\n  a: { uses: simulate }\n  a: { uses: simulate }\n",
            place: Some((3, 3)),
            message: "the key `a` is there twice",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: simulate, world: { seed: many } }\n",
            place: Some((2, 39)),
            message: "this is not an integer",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: simulate }\n  b: { uses: extract, from: aa }\n",
            place: Some((3, 29)),
            message: "there is no stage `aa`",
            help: Some("did you mean `a`?"),
        },
        Broken {
            text: "stages:\n  a: { uses: simulate }\n  b: { uses: extract, from: a.recording }\n",
            place: Some((3, 29)),
            message: "stage `a` has no output `recording`",
            help: Some("did you mean `recordings`?"),
        },
        Broken {
            text: "stages:\n  a: { uses: simulate }\n  b: { uses: extract, from: { recording: a } }\n",
            place: Some((3, 31)),
            message: "`extract` has no input `recording`",
            help: Some("did you mean `recordings`?"),
        },
        Broken {
            text: "stages:\n  a: { uses: simulate }\n  b: { uses: extract }\n",
            place: Some((3, 3)),
            message: "stage `b` needs `recordings: Recordings`, but nothing is connected to it",
            help: Some("connect it in `from:` to `a.recordings`"),
        },
        Broken {
            text: "stages:\n  a: { uses: simulate }\n  b: { uses: split, from: { features: a } }\n",
            place: Some((3, 39)),
            message: "`a` is `Recordings`, but `features` takes `Features`",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: simulate }\n  b: { uses: split, from: a }\n",
            place: Some((3, 27)),
            message: "`a` is `Recordings`, but stage `b` still takes `features: Features`, `test: Features`",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: simulate, from: a }\n",
            place: Some((2, 30)),
            message: "stage `a` takes no input",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: split, from: c.train }\n  b: { uses: split, from: a.train }\n  c: { uses: split, from: b.test }\n",
            place: Some((2, 3)),
            message: "the stages go round in a circle: a → b → c → a",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: simulate }\n  b: { uses: extract, from: a }\n  c: { uses: split, from: b }\n  d: { uses: train, from: { train: c, validation: c.validation } }\n",
            place: Some((5, 36)),
            message: "`c` has more than one `Features`",
            help: Some("name one: `c.train`, `c.validation`, `c.calibration`, `c.test`"),
        },
        Broken {
            text: "stages:\n  a:\n    uses: simulate\n    world:\n      seed: ${missing}\n",
            place: Some((5, 13)),
            message: "nothing is known as `${missing}`",
            help: Some(
                "add it to `vars:`, set it with `--set vars.missing=…`, or give a default: \
                 `${missing:-…}`",
            ),
        },
        Broken {
            text: "stages:\n  a:\n    uses: simulate\n    world:\n      seed: ${missing:?the seed of the world}\n",
            place: Some((5, 13)),
            message: "`missing` is needed: the seed of the world",
            help: None,
        },
        Broken {
            text: "stages:\n  a:\n    uses: simulate\n    world:\n      seed: ${a.b}\n",
            place: Some((5, 13)),
            message: "`${a.b}` is not a variable",
            help: Some("the name of a variable has letters, digits and `_` only"),
        },
        Broken {
            text: "vars: { data: here }\nstages:\n  a: { uses: import, path: \"${data}/x\" }\n",
            place: Some((3, 28)),
            message: "`${` within quotes is not replaced",
            help: Some("write the value without quotes, on a line of its own"),
        },
        Broken {
            text: "stages:\n  a: { uses: cmd, command: x, outputs: {} }\n",
            place: Some((2, 3)),
            message: "stage `a`: `outputs` must be at least one port",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: cmd, command: x, outputs: { o: file } }\n",
            place: Some((2, 45)),
            message: "unknown value `file`",
            help: Some("did you mean `files`?"),
        },
        Broken {
            text: "stages:\n  a: { uses: cmd, command: x, outputs: { o: files } }\n  b: { uses: cmd, from: a, command: x, outputs: { o: files } }\n",
            place: Some((3, 25)),
            message: "the inputs of stage `b` have no names",
            help: Some("give each a name: `from: { NAME: a }`"),
        },
        Broken {
            text: "stages:\n  a:\n    uses: simulate\n    run: { timeout: soon }\n",
            place: Some((4, 12)),
            message: "expected a length of time such as `90s`, `15m` or `1h 30m`, but found string \"soon\"",
            help: None,
        },
        Broken {
            text: "tracking: { uri: s3://host }\nstages:\n  a: { uses: simulate }\n",
            place: Some((1, 18)),
            message: "`tracking.uri`: `s3:…` is no tracking store: expected a folder, \
                      `sqlite:///FOLDER/mlflow.db`, or the address of a server, `http://…`",
            help: None,
        },
        Broken {
            text: "vars: { a.b: 1 }\nstages:\n  a: { uses: simulate }\n",
            place: Some((1, 9)),
            message: "`a.b` cannot be a variable, whose name has letters, digits and `_` only",
            help: None,
        },
        Broken {
            text: "stages:\n  a/b: { uses: simulate }\n",
            place: Some((2, 3)),
            message: "the name of a stage has letters, digits, `-` and `_` only, unlike `a/b`",
            help: None,
        },
        Broken {
            text: "stages:\n  vars: { uses: simulate }\n",
            place: Some((2, 3)),
            message: "a stage cannot be called `vars`",
            help: None,
        },
        Broken {
            text: "stages:\n  a: { uses: import }\n",
            place: Some((2, 8)),
            message: "the key `path` is missing",
            help: None,
        },
    ];
    for Broken { text, place, message, help } in cases {
        let error = parse(text, &[]).unwrap_err();

        let PipelineError::Definition(diagnostic) = &error else { panic!("{text}: {error}") };
        let found = diagnostic.place().map(|place| (place.line, place.column));
        assert_eq!(
            (found, diagnostic.message(), diagnostic.help()),
            (place, message, help),
            "{text}\n{diagnostic}"
        );
    }
}

#[test]
fn both_ends_of_a_wrong_wire_are_shown() {
    let text =
        "stages:\n  a: { uses: simulate }\n  b:\n    uses: split\n    from:\n      features: a\n";

    let error = parse(text, &[]).unwrap_err();

    assert_eq!(
        error.to_string(),
        "p.yaml:6:17: `a` is `Recordings`, but `features` takes `Features`\n\
         \x20 |\n6 |       features: a\n\x20 |                 ^\n\
         p.yaml:2:3: stage `a` is here\n\
         \x20 |\n2 |   a: { uses: simulate }\n\x20 |   ^"
    );
}

/// Ten to the eighth texts, where any value may stand: refused before there are as many.
#[test]
fn alias_bomb_is_refused() {
    let mut text = "stages:\n  a:\n    uses: cmd\n    command: x\n    outputs: { out: files }\n    parameters:\n      a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..8 {
        let before = format!("*a{}", level - 1);
        let list = vec![before; 10].join(", ");
        text.push_str(&format!("      a{level}: &a{level} [{list}]\n"));
    }

    let error = parse(&text, &[]).unwrap_err();

    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    assert!(message.contains("p.yaml:11:") && message.contains("too large"), "{message}");
}

#[test]
fn missing_file_is_named_and_its_neighbor_offered() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("localization.yaml"), SOUND).unwrap();

    let error =
        PipelineSpec::load(&folder.path().join("localisation.yaml"), &LoadOptions::default())
            .unwrap_err();

    let text = error.to_string();
    assert!(text.contains("localisation.yaml: cannot read the definition"), "{text}");
    assert!(text.ends_with("= did you mean `localization.yaml`?"), "{text}");
}
