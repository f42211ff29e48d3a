//! What the program says about itself: why, status, runs, differences, logs, lineage.

use std::fs;

use heimdall_pipeline::Forecast;
use serde_json::Value;

use crate::small::{small, write_script};
use crate::workplace::{TINY, Workplace, said};

#[test]
fn miss_is_explained_with_old_and_new_values() {
    let workplace = small();
    let first = said(&workplace, &["why", "pipeline.yaml", "left"]);
    workplace.run(&[]).done();

    let hit = said(&workplace, &["why", "pipeline.yaml", "left"]);
    let miss = said(&workplace, &["why", "pipeline.yaml", "left", "--set", "vars.seed=2"]);
    let behind = said(&workplace, &["why", "pipeline.yaml", "last", "--set", "vars.seed=2"]);
    let plan = said(&workplace, &["plan", "pipeline.yaml", "--set", "vars.seed=2"]);
    write_script(&workplace, "echo other > $HEIMDALL_OUTPUT_OUT/text");
    let source = said(&workplace, &["why", "pipeline.yaml", "right"]);

    assert!(first.starts_with("left would run: has no result yet\n"), "{first}");
    assert!(hit.starts_with("left is cached: nothing"), "{hit}");
    assert!(hit.contains("env.SEED: \"1\"") && hit.contains("made by run "), "{hit}");
    assert!(miss.starts_with("left would run"), "{miss}");
    assert!(miss.contains("\n    env.SEED: \"1\" → \"2\"\n"), "{miss}");
    assert!(behind.starts_with("last may run: it depends on what `left`"), "{behind}");
    let lines: Vec<&str> = plan.lines().collect();
    assert!(lines[0].starts_with("left         run"), "{plan}");
    assert_eq!(lines[1], "    env.SEED: \"1\" → \"2\"", "{plan}");
    assert!(lines[2].starts_with("right        cached"), "{plan}");
    assert!(lines[3].starts_with("both         maybe"), "{plan}");
    assert!(source.contains("external right.sh: ") && source.contains(" → "), "{source}");
}

#[test]
fn changed_copy_is_foreseen_and_restored() {
    let workplace = small();
    workplace.run(&[]).done();
    fs::write(workplace.path("artifacts/small/left/out/text"), "tampered").unwrap();

    let plan = said(&workplace, &["plan", "pipeline.yaml"]);
    let run = workplace.run(&[]);

    assert!(plan.starts_with("left         restore"), "{plan}");
    assert!(run.stderr.contains("restores what somebody changed"), "{}", run.stderr);
    let text = fs::read_to_string(workplace.path("artifacts/small/left/out/text")).unwrap();
    assert_eq!(text, "left 1\n");
}

#[test]
fn status_and_runs_tell_how_things_stand() {
    let workplace = small();
    let before = said(&workplace, &["status", "pipeline.yaml"]);
    workplace.run(&[]).done();
    write_script(&workplace, "exit 4");
    let failed = workplace.run(&[]);

    let status = said(&workplace, &["status", "pipeline.yaml"]);
    let runs = said(&workplace, &["runs"]);
    let shown = said(&workplace, &["show"]);
    let earlier: Value =
        serde_json::from_str(&said(&workplace, &["show", "last~1", "--json"])).unwrap();

    assert_eq!(failed.code, 1);
    assert!(before.contains("`small` has not been run"), "{before}");
    let row = |text: &str, stage: &str| {
        text.lines()
            .find(|line| line.starts_with(stage))
            .unwrap_or_else(|| panic!("{text}"))
            .to_owned()
    };
    assert!(row(&status, "left").contains("up to date"), "{status}");
    assert!(row(&status, "right").contains("to be run"), "{status}");
    assert!(row(&status, "right").contains("exit status: 4"), "{status}");
    assert!(row(&status, "both").contains("may be run"), "{status}");
    let states: Vec<&str> =
        runs.lines().skip(1).map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(states, ["failed", "done"], "{runs}");
    assert!(row(&shown, "right").contains("failed"), "{shown}");
    assert_eq!(earlier["state"], "done");
    assert_eq!(earlier["stages"].as_array().unwrap().len(), 4);
}

#[test]
fn differences_of_two_runs_are_listed() {
    let workplace = small();
    workplace.run(&[]).done();
    workplace.run(&["--set", "vars.seed=2"]).done();

    let diff = said(&workplace, &["diff"]);
    let none = said(&workplace, &["diff", "last", "last"]);

    assert!(diff.contains("left: ran"), "{diff}");
    assert!(diff.contains("    env.SEED: \"1\" → \"2\"\n    outputs that differ: out\n"), "{diff}");
    assert!(diff.contains("right: the same result"), "{diff}");
    // The number of lines is the same, and so is everything behind it.
    assert!(diff.contains("both: ran") && diff.contains("outputs: the same"), "{diff}");
    assert!(diff.contains("last: the same result"), "{diff}");
    assert_eq!(none.matches("the same result").count(), 4, "{none}");
}

/// What a program made otherwise of the same is no "same result".
#[test]
fn other_metrics_of_the_same_are_told() {
    let workplace = Workplace::new(
        "name: dice\nstages:\n  a:\n    uses: cmd\n    outputs: { out: files }\n    command: |-\n      \
         echo x >> count; echo x > $HEIMDALL_OUTPUT_OUT/x; printf '{\"metrics\": {\"lines\": %d}}' $(wc -l < count) > $HEIMDALL_RESULT\n",
    );
    workplace.run(&[]).done();
    workplace.run(&["--force", "a"]).done();

    let diff = said(&workplace, &["diff"]);

    assert!(diff.contains("a: another result of the same"), "{diff}");
    assert!(diff.contains("lines:") && diff.contains("1 → 2") && diff.contains("(+1)"), "{diff}");
}

/// Every shell knows every command.
#[test]
fn completions_are_written_for_every_shell() {
    let workplace = small();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = said(&workplace, &["completions", shell]);

        for word in ["plan", "lineage", "--offline"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    said(&workplace, &["reference", "--output", "reference", "--man", "man"]);
    let page = fs::read_to_string(workplace.path("man/heimdall-pipeline-plan.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("offline"), "{page}");
}

/// Runs that were stopped or failed are no news to compare with, unless somebody asks for them.
#[test]
fn runs_that_were_done_are_compared() {
    let workplace = small();
    workplace.run(&[]).done();
    workplace.run(&["--set", "vars.seed=2"]).done();
    assert_eq!(workplace.run(&["--set", "left.command=exit 1"]).code, 1);

    let diff = said(&workplace, &["diff"]);
    let failed = said(&workplace, &["diff", "last~1", "last"]);

    assert!(diff.contains("env.SEED: \"1\" → \"2\""), "{diff}");
    assert!(failed.contains("left: ran") && failed.contains("failed"), "{failed}");
}

#[test]
fn run_that_does_not_exist_is_refused() {
    let workplace = small();
    for (name, reason) in [("last", "lists those"), ("2031", "lists those"), ("last~x", "NUMBER")] {
        let output = workplace.command(&["show", name]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);

        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(name) && stderr.contains(reason), "{stderr}");
    }
}

/// The log of a result is there when the result comes from the cache, too.
#[test]
fn log_is_kept_with_the_result() {
    let workplace = small();
    write_script(&workplace, "echo speaking; echo right > $HEIMDALL_OUTPUT_OUT/text");
    workplace.run(&[]).done();
    let made = said(&workplace, &["logs", "right"]);
    workplace.run(&[]).done();

    let cached = said(&workplace, &["logs", "right"]);
    let silent = workplace.command(&["logs", "left"]).output().unwrap();

    assert!(made.contains("speaking"), "{made}");
    assert_eq!(made, cached);
    assert_eq!(silent.status.code(), Some(2));
}

#[test]
fn lineage_leads_back_to_the_recordings() {
    let workplace = Workplace::new(TINY);
    workplace.run(&["--until", "split"]).done();

    let lineage = said(&workplace, &["lineage", "split"]);

    let order = ["split ", "features:", "features ", "recordings:", "recordings "];
    let places: Vec<usize> = order.iter().map(|part| lineage.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "{lineage}");
    assert!(lineage.contains("simulate · run "), "{lineage}");
}

/// A result that many others were made from is told once.
#[test]
fn lineage_repeats_nothing() {
    let mut text = "name: wide\nstages:\n  s0: { uses: cmd, command: echo 0 > $HEIMDALL_OUTPUT_OUT/x, outputs: { out: files } }\n".to_owned();
    for stage in 1..24 {
        let before = stage - 1;
        text += &format!(
            "  s{stage}: {{ uses: cmd, from: {{ a: s{before}, b: s{before} }}, command: echo {stage} > $HEIMDALL_OUTPUT_OUT/x, outputs: {{ out: files }} }}\n"
        );
    }
    let workplace = Workplace::new(&text);
    workplace.run(&[]).done();

    let lineage = said(&workplace, &["lineage", "s23"]);

    assert_eq!(lineage.matches("  as above").count(), 23, "{lineage}");
    assert_eq!(lineage.matches("  cmd · run ").count(), 24, "{lineage}");
}

/// The manifest says how a result came to be.
#[test]
fn result_says_how_it_came_to_be() {
    let workplace = small();
    write_script(&workplace, "sleep 0.2; echo right > $HEIMDALL_OUTPUT_OUT/text");
    workplace.run(&[]).done();

    let folders = fs::read_dir(workplace.path(".heimdall/ac")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let manifests: Vec<Value> = files
        .map(|file| serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap())
        .collect();

    assert_eq!(manifests.len(), 4);
    for manifest in manifests {
        let made = &manifest["manifest"]["provenance"];
        for field in ["run", "host", "program", "binary", "started", "ended"] {
            assert!(made[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {made}");
        }
        assert!(made["binary"].as_str().unwrap().contains("heimdall-pipeline, "), "{made}");
        assert!(made["started"].as_str() < made["ended"].as_str(), "{made}");
        assert_eq!((&made["pipeline"], &made["attempts"]), (&"small".into(), &1.into()));
        assert!(made.get("resumed_from").is_none(), "{made}");
        let peak_mb = made["memory_peak_bytes"].as_f64().unwrap() / 1e6;
        // A shell takes little; what this program takes is told of stages that start none.
        let limit_mb = if made["stage"] == "right" { 50.0 } else { 2000.0 };
        assert!((0.1..limit_mb).contains(&peak_mb), "{made}");
        assert_eq!(
            made["inputs"].as_object().unwrap().is_empty(),
            made["stage"] == "left" || made["stage"] == "right"
        );
    }
}

#[test]
fn last_result_is_taken_where_it_is_asked_for() {
    let workplace = small();
    workplace.run(&[]).done();
    let changed = ["--from", "last", "--set", "vars.seed=2"];

    let refused = workplace.run(&changed);
    let frozen = workplace.run(&[changed.as_slice(), &["--frozen"]].concat());

    assert_eq!(refused.code, 2);
    for part in ["stage `left`", "`env.SEED` was \"1\" and is \"2\"", "--frozen"] {
        assert!(refused.stderr.contains(part), "no `{part}` in {}", refused.stderr);
    }
    assert_eq!(frozen.done().stages["last"].state, "ran");
    assert!(frozen.stderr.contains("left         frozen"), "{}", frozen.stderr);
}

/// Each event is one line of JSON with its time and its name; the run begins and ends with its own.
#[test]
fn events_are_lines_of_json() {
    let workplace = small();

    let run = workplace.run(&["--events", "ndjson"]);

    let mut lines: Vec<Value> =
        run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let report = lines.pop().unwrap();
    assert_eq!(report["state"], "done");
    let names: Vec<&str> = lines.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("started", "finished"));
    assert_eq!(names.iter().filter(|name| **name == "stage_finished").count(), 4);
    assert!(lines.iter().all(|event| event["time"].as_str().unwrap().ends_with('Z')));
    assert_eq!(lines[names.len() - 1]["report"], report);
}

#[test]
fn graph_is_drawn_in_every_format() {
    let workplace = small();
    workplace.run(&["--until", "both"]).done();

    let drawn = |format: &str| said(&workplace, &["graph", "pipeline.yaml", "--format", format]);

    assert!(
        drawn("ascii").contains("both   left ← left.out, right ← right.out"),
        "{}",
        drawn("ascii")
    );
    assert!(
        drawn("mermaid").contains("s0 -- out --> s2") && drawn("mermaid").contains(":::cached")
    );
    assert!(drawn("dot").contains("\"both\" -> \"last\" [label=\"out\"]"));
    let json: Value = serde_json::from_str(&drawn("json")).unwrap();
    assert_eq!(json["stages"][3]["forecast"], "run");
    assert_eq!(json["wires"].as_array().unwrap().len(), 3);
    // What is there has another color than what would run.
    for color in [Forecast::Cached, Forecast::Run].map(Forecast::color) {
        assert!(drawn("dot").contains(&format!("fillcolor=\"{color}\"")), "{color}");
        assert!(drawn("mermaid").contains(color) && drawn("html").contains(color), "{color}");
    }
    let page = drawn("html");
    assert!(page.contains("<svg") && !page.contains("<script") && !page.contains("http"), "{page}");
}
