//! What other runners are known to get wrong, each reproduced and shown to be absent.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};

use crate::small::{SMALL, STAGES, small, states, write_script};
use crate::workplace::{Workplace, ended};

fn last(workplace: &Workplace) -> String {
    fs::read_to_string(workplace.path("artifacts/small/last/out/text")).unwrap()
}

/// What `plan` says of each stage.
fn planned(workplace: &Workplace, arguments: &[&str]) -> BTreeMap<String, String> {
    let mut command = workplace.command(&["plan", "pipeline.yaml", "--json"]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let stages = text.lines().map(|line| {
        let stage: serde_json::Value = serde_json::from_str(line).unwrap();
        let word = |name: &str| stage[name].as_str().unwrap().to_owned();
        (word("stage"), word("forecast"))
    });
    stages.collect()
}

/// A stage fails after a change: neither this run nor the next one takes what was made before the
/// change for what comes after it, and what is there stays until something better is.
#[test]
fn failure_after_a_change_serves_nothing_stale_and_deletes_nothing() {
    let workplace = small();
    workplace.run(&[]).done();
    let before = last(&workplace);
    let mut failing = vec![];

    write_script(&workplace, "echo half > $HEIMDALL_OUTPUT_OUT/text; exit 3");
    for _ in 0..2 {
        let ended = workplace.run(&[]);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        failing.push(ended.json());
        assert_eq!(last(&workplace), before);
    }
    write_script(&workplace, "echo new > $HEIMDALL_OUTPUT_OUT/text");
    let mended = workplace.run(&[]).done();

    for run in &failing {
        assert_eq!(states(run), ["cached", "failed", "skipped", "skipped"]);
        assert_eq!(run.stages["last"].waited_for.as_deref(), Some("right"));
    }
    assert_eq!(states(&mended), ["cached", "ran", "ran", "ran"]);
    assert_eq!(last(&workplace), "1\nnew\n");
}

/// A forecast is never wrong: what it calls cached is cached, what it says would run runs, and it
/// says `maybe` only of what a cutoff may spare.
#[test]
fn plan_is_right_about_what_comes_after_a_change() {
    let workplace = small();
    let changes: [(&str, &[&str]); 11] = [
        ("echo right > $HEIMDALL_OUTPUT_OUT/text", &[]),
        ("echo other > $HEIMDALL_OUTPUT_OUT/text", &[]),
        ("echo other  > $HEIMDALL_OUTPUT_OUT/text", &[]),
        ("echo right > $HEIMDALL_OUTPUT_OUT/text", &["--set", "vars.seed=2"]),
        ("echo third > $HEIMDALL_OUTPUT_OUT/text", &["--until", "both"]),
        ("echo third > $HEIMDALL_OUTPUT_OUT/text", &["--from", "both"]),
        ("echo third > $HEIMDALL_OUTPUT_OUT/text", &["--force", "right"]),
        ("echo third > $HEIMDALL_OUTPUT_OUT/text", &["--only", "last", "--force", "right"]),
        ("echo fourth > $HEIMDALL_OUTPUT_OUT/text", &["--only", "last", "--frozen"]),
        ("echo fourth > $HEIMDALL_OUTPUT_OUT/text", &["--only", "last"]),
        ("", &[]),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (script, arguments) in changes {
        write_script(&workplace, script);
        if script.is_empty() {
            fs::remove_file(workplace.path("right.sh")).unwrap();
        }

        let planned = planned(&workplace, arguments);
        let run = workplace.run(arguments);
        if run.code == 2 {
            // A result that must be there is not, and so the run ends.
            assert_eq!((&*planned["right"], &*planned["both"]), ("fail", "skip"), "{}", run.stderr);
            seen.insert("fail refused".to_owned());
            continue;
        }
        let run = run.json();

        for stage in STAGES {
            let (forecast, state) = (planned[stage].as_str(), run.stages[stage].state.as_str());
            let is_right = match forecast {
                "cached" | "restore" => state == "cached",
                "run" => state == "ran",
                "fail" => state == "failed",
                "skip" => state == "skipped",
                _ => matches!(state, "ran" | "cached"),
            };
            assert!(is_right, "{script} {arguments:?}: {stage} is {state}, not {forecast}");
            seen.insert(format!("{forecast} {state}"));
        }
    }
    // The third script differs, but writes the same: the stages behind it are spared.
    for wanted in [
        "run ran",
        "cached cached",
        "maybe ran",
        "maybe cached",
        "skip skipped",
        "fail failed",
        "fail refused",
    ] {
        assert!(seen.contains(wanted), "no stage was `{wanted}`: {seen:?}");
    }
}

/// New times and other names: none of that is content.
#[test]
fn equal_content_is_not_made_again() {
    let workplace = small();
    workplace.run(&[]).done();

    write_script(&workplace, "echo right > $HEIMDALL_OUTPUT_OUT/text");
    let rewritten = workplace.run(&[]).done();
    let renamed = SMALL.replace("left:\n", "links:\n").replace("left: left", "left: links");
    fs::write(workplace.path("pipeline.yaml"), renamed.replace("name: small", "name: other"))
        .unwrap();
    let renamed = workplace.run(&[]).done();

    assert_eq!(states(&rewritten), ["cached"; 4]);
    assert!(renamed.stages.values().all(|stage| stage.state == "cached"), "{renamed:?}");
    assert_eq!(renamed.stages.len(), 4);
}

/// Killed while a stage works: the next run needs nobody's help, and a run beside one at work waits
/// for it and shares what it makes.
#[test]
fn killed_run_leaves_no_lock_and_a_second_run_waits() {
    let workplace = Workplace::new(
        "name: slow\nstages:\n  a:\n    uses: cmd\n    outputs: { out: files }\n    command: \
         echo $$$$ >> programs; touch started; while [ ! -e go ]; do sleep 0.02; done; echo x > $HEIMDALL_OUTPUT_OUT/x\n",
    );
    let wait_for_start = || {
        while !workplace.path("started").exists() {
            std::thread::yield_now();
        }
        fs::remove_file(workplace.path("started")).unwrap();
    };
    let mut killed = workplace.start(&[]);
    wait_for_start();
    killed.kill().unwrap();
    killed.wait().unwrap();

    let first = workplace.start(&[]);
    wait_for_start();
    // The program of the killed run does not work on beside the new one.
    let programs = fs::read_to_string(workplace.path("programs")).unwrap();
    let alive =
        |id: &str| fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|c| !c.is_empty());
    assert_eq!(programs.lines().map(alive).collect::<Vec<_>>(), [false, true]);
    let mut second = workplace.start(&[]);
    let mut said = BufReader::new(second.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("waits for process") {
        assert_ne!(said.read_line(&mut told).unwrap(), 0, "{told}");
    }
    fs::write(workplace.path("go"), "").unwrap();
    let (first, second) = (ended(first), ended(second));

    let mut states = [&first, &second].map(|run| run.done().stages["a"].state.clone());
    states.sort();
    assert_eq!(states, ["cached", "ran"], "{} {told}", first.stderr);
}
