//! Stages that run programs of other languages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::workplace::{Ended, Workplace, ended};

/// A pipeline of one `cmd` stage with these further lines.
fn one(lines: &str) -> Workplace {
    Workplace::new(&format!(
        "name: one\nstages:\n  a:\n    uses: cmd\n    outputs: {{ out: files }}\n{lines}"
    ))
}

fn failure(ended: &Ended) -> String {
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    ended.json().stages["a"].error.clone().unwrap()
}

/// Waits until a file is there and has content.
fn content(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(begun.elapsed() < Duration::from_secs(60), "{}", path.display()),
        }
        std::thread::yield_now();
    }
}

/// Whether a process is alive, and not only waiting for its parent to take notice of its end.
fn is_alive(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[test]
fn program_gets_what_is_declared_and_nothing_else() {
    let workplace = Workplace::new(
        "name: two\nstages:\n  first:\n    uses: cmd\n    outputs: { out: files }\n    command: echo 1 > $HEIMDALL_OUTPUT_OUT/x\n  \
         second:\n    uses: cmd\n    from: { in: first }\n    outputs: { table: files, rest: files }\n    env: { LEVEL: 3 }\n    secrets: [SOME_TOKEN]\n    parameters: { depth: 2, name: x }\n    \
         command: [sh, -c, 'env > $HEIMDALL_OUTPUT_TABLE/env; cp $HEIMDALL_CONTEXT $HEIMDALL_OUTPUT_REST/context; echo \"{\\\"metrics\\\": {\\\"score\\\": 0.5}, \\\"headline\\\": \\\"half\\\"}\" > $HEIMDALL_RESULT']\n",
    );
    let mut command = workplace.command(&["run", "pipeline.yaml", "--json"]);
    let output = command.env("SOME_TOKEN", "s3cr3t-token").env("OTHER", "x").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);

    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("half"), "no headline in {stderr}");
    let folder = workplace.path("artifacts/two/second");
    let environment = fs::read_to_string(folder.join("table/env")).unwrap();
    let environment: BTreeMap<&str, &str> =
        environment.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(environment["LEVEL"], "3");
    assert_eq!(environment["SOME_TOKEN"], "s3cr3t-token");
    assert!(environment.contains_key("PATH") && !environment.contains_key("OTHER"));
    // What sorts and writes times does so in the same way on every machine.
    assert_eq!(
        ["LANG", "LC_ALL", "TZ"].map(|name| environment[name]),
        ["C.UTF-8", "C.UTF-8", "UTC"]
    );
    let context = fs::read(folder.join("rest/context")).unwrap();
    let context: serde_json::Value = serde_json::from_slice(&context).unwrap();
    assert_eq!(context["parameters"], serde_json::json!({ "depth": 2, "name": "x" }));
    assert_eq!(context["inputs"]["in"].as_str(), Some(environment["HEIMDALL_INPUT_IN"]));
    assert_eq!(context["outputs"]["table"].as_str(), Some(environment["HEIMDALL_OUTPUT_TABLE"]));
    let json = String::from_utf8(output.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(json["stages"]["second"]["metrics"]["score"], 0.5);
}

/// What decides the result is declared: each part of it runs the program again, and what stands under
/// `run:` or in secrets does not.
#[test]
fn declared_parts_decide_and_nothing_else_does() {
    let lines = "    command: cat a.txt > $HEIMDALL_OUTPUT_OUT/x\n    sources: [a.txt, folder]\n    \
                 env: { LEVEL: 3 }\n    parameters: { depth: 2 }\n    run: { retries: 1 }\n";
    let workplace = one(lines);
    fs::create_dir(workplace.path("folder")).unwrap();
    fs::write(workplace.path("a.txt"), "1").unwrap();
    let text = fs::read_to_string(workplace.path("pipeline.yaml")).unwrap();
    let state = |arguments: &[&str]| workplace.run(arguments).done().stages["a"].state.clone();
    assert_eq!(state(&[]), "ran");

    for (from, to, expected) in [
        ("retries: 1", "retries: 2, timeout: 1h, memory: 1MiB, processors: 1", "cached"),
        ("LEVEL: 3", "LEVEL: 4", "ran"),
        ("depth: 2", "depth: 3", "ran"),
        ("/x\n", "/y\n", "ran"),
        ("{ out: files }", "{ out: files, also: files }", "failed"),
    ] {
        fs::write(workplace.path("pipeline.yaml"), text.replacen(from, to, 1)).unwrap();
        let run = workplace.run(&[]);
        assert_eq!(run.json().stages["a"].state, expected, "{to}: {}", run.stderr);
    }
    fs::write(workplace.path("pipeline.yaml"), &text).unwrap();
    assert_eq!(state(&[]), "cached");
    fs::write(workplace.path("folder/new"), "").unwrap();
    assert_eq!(state(&[]), "ran");
    fs::write(workplace.path("a.txt"), "2").unwrap();
    assert_eq!(state(&[]), "ran");
}

#[test]
fn failing_program_is_told_with_its_code_and_its_log_is_kept() {
    let workplace = one("    command: echo so far; echo went wrong >&2; exit 7\n");

    let run = workplace.run(&[]);
    let logs = workplace.command(&["logs", "a"]).output().unwrap();

    assert!(failure(&run).contains("exit status: 7"), "{}", run.stderr);
    let logs = String::from_utf8(logs.stdout).unwrap();
    assert!(logs.contains("so far") && logs.contains("went wrong"), "{logs}");
    assert!(!workplace.path("artifacts/one").exists());
}

/// What a program makes of one of our kinds is read before anybody relies on it.
#[test]
fn output_of_another_kind_than_declared_is_refused() {
    for (kind, file) in [
        ("features", "features.json"),
        ("recordings", "catalog.db"),
        ("model", "manifest.json"),
        ("evaluation", "evaluation.json"),
        ("hold_out", "hold-out.json"),
        ("fix", "fix.json"),
        ("registration", "registration.json"),
        ("onnx", "other.onnx"),
    ] {
        let workplace = Workplace::new(&format!(
            "name: wrong\nstages:\n  a:\n    uses: cmd\n    outputs: {{ out: {kind} }}\n    \
             command: echo garbage > $HEIMDALL_OUTPUT_OUT/{file}\n"
        ));

        let run = workplace.run(&[]);

        assert_eq!(run.code, 1, "{kind}: {}", run.stderr);
        assert!(run.stderr.contains("its output `out` is no artifact"), "{kind}: {}", run.stderr);
        assert!(!workplace.path("artifacts/wrong").exists(), "{kind}");
    }
}

#[test]
fn program_that_does_not_exist_is_named() {
    let error = failure(&one("    command: [no-such-program]\n").run(&[]));

    assert!(error.contains("no-such-program"), "{error}");
}

/// A time limit ends the program with all that it has started.
#[test]
fn timeout_stops_the_whole_group() {
    let workplace =
        one("    command: sleep 1000 & echo $! > child; wait\n    run: { timeout: 500ms }\n");

    let error = failure(&workplace.run(&[]));

    assert!(error.contains("time limit of 500ms"), "{error}");
    let child = content(&workplace.path("child"));
    assert!(!is_alive(&child), "the child {child} lives on");
}

#[test]
fn interruption_stops_the_whole_group_and_the_next_run_goes_on() {
    let workplace = one(
        "    command: '[ -e go ] || { sleep 1000 & echo $! > child; wait; }; echo x > $HEIMDALL_OUTPUT_OUT/x'\n",
    );
    let run = workplace.start(&[]);
    let child = content(&workplace.path("child"));

    let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let run = ended(run);

    assert_eq!(run.code, 130, "{}", run.stderr);
    assert_eq!(run.json().stages["a"].state, "interrupted");
    assert!(!is_alive(&child), "the child {child} lives on");
    assert!(fs::read_dir(workplace.path(".heimdall/work")).unwrap().next().is_none());
    fs::write(workplace.path("go"), "").unwrap();
    assert_eq!(workplace.run(&[]).done().stages["a"].state, "ran");
}

/// Who is asked to end does so as by Ctrl-C; who is asked twice does not wait for anything, and leaves
/// nothing behind either.
#[test]
fn second_signal_ends_a_program_that_does_not_listen() {
    for signals in [&["-TERM"][..], &["-TERM", "-INT"]] {
        let deaf = signals.len() > 1;
        let trap = if deaf { "trap \"\" TERM; " } else { "" };
        let workplace = one(&format!(
            "    command: '{trap}echo $$$$ > child; while true; do sleep 0.05; done'\n"
        ));
        let run = workplace.start(&[]);
        let child = content(&workplace.path("child"));

        for signal in signals {
            let sent = Command::new("kill").args([signal, &*run.id().to_string()]).status();
            assert!(sent.unwrap().success());
            // One that comes before the first was heard would be the first.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        let run = ended(run);

        assert_eq!(run.code, 130, "{}", run.stderr);
        assert_eq!(run.stdout.is_empty(), deaf, "{}", run.stdout);
        assert!(!is_alive(&child), "the child {child} lives on");
    }
}

/// What a program reads is kept for others, too: one that writes there comes to no result, whether it
/// may write there or not, and the next run is right.
#[test]
fn program_that_writes_into_its_input_has_no_result() {
    let workplace = Workplace::new(
        "name: bad\nstages:\n  a:\n    uses: cmd\n    outputs: { out: files }\n    command: echo good > $HEIMDALL_OUTPUT_OUT/x\n  \
         b:\n    uses: cmd\n    from: { in: a }\n    outputs: { out: files }\n    sources: [b.sh]\n    command: sh -e b.sh\n",
    );
    let copy = "cat $HEIMDALL_INPUT_IN/x > $HEIMDALL_OUTPUT_OUT/x";
    let script = format!("chmod +w $HEIMDALL_INPUT_IN/x; echo bad > $HEIMDALL_INPUT_IN/x; {copy}");
    fs::write(workplace.path("b.sh"), script).unwrap();

    let bad = workplace.run(&[]);
    let has_result = workplace.path("artifacts/bad/b").exists();
    fs::write(workplace.path("b.sh"), copy).unwrap();
    let good = workplace.run(&[]);

    assert_eq!(bad.code, 1, "{}", bad.stderr);
    // Who is no administrator cannot even do it.
    let reasons = ["`in/x` has been changed", "exit status"];
    assert!(reasons.iter().any(|reason| bad.stderr.contains(reason)), "{}", bad.stderr);
    assert!(!has_result);
    good.done();
    assert_eq!(content(&workplace.path("artifacts/bad/b/out/x")), "good");
}

/// Stages of one run that make the same wait for each other, and nobody has to hear of it.
#[test]
fn equal_stages_of_a_run_are_run_once() {
    let workplace = Workplace::new(
        "name: twins\nstages:\n  a:\n    uses: cmd\n    matrix: { parameters.k: [1, 2, 3] }\n    outputs: { out: files }\n    command: echo x > $HEIMDALL_OUTPUT_OUT/x\n  \
         b:\n    uses: cmd\n    from: { in: a }\n    outputs: { out: files }\n    command: echo x >> count; sleep 0.2; echo x > $HEIMDALL_OUTPUT_OUT/x\n",
    );

    for arguments in [&[][..], &["--force", "b*"]] {
        let run = workplace.run(arguments);

        run.done();
        assert!(!run.stderr.contains("waits for"), "{}", run.stderr);
    }

    assert_eq!(fs::read_to_string(workplace.path("count")).unwrap().lines().count(), 2);
}

#[test]
fn secret_that_is_not_there_is_refused() {
    let error = failure(&one("    command: echo $PIN\n    secrets: [PIN]\n").run(&[]));

    assert!(error.contains("`PIN` must be set in the environment"), "{error}");
}

#[test]
fn secret_that_is_too_short_to_be_hidden_is_refused() {
    let workplace = one("    command: echo $PIN\n    secrets: [PIN]\n");

    let output =
        workplace.command(&["run", "pipeline.yaml", "--json"]).env("PIN", "1234").output().unwrap();

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("`PIN` must be a secret with lines of six bytes or more"), "{stderr}");
}

#[test]
fn failing_program_is_tried_again() {
    let lines = "    command: echo x >> tries; [ $(wc -l < tries) -ge 3 ] && echo x > $HEIMDALL_OUTPUT_OUT/x\n";
    let patient = one(&format!("{lines}    run: {{ retries: 2, backoff: 1ms }}\n"));
    let hasty = one(&format!("{lines}    run: {{ retries: 1, backoff: 1ms }}\n"));

    let run = patient.run(&[]);

    run.done();
    assert!(run.stderr.contains("failed 2×, again in 2 ms"), "{}", run.stderr);
    failure(&hasty.run(&[]));
    assert_eq!(fs::read_to_string(hasty.path("tries")).unwrap().lines().count(), 2);
}

/// Each of two stages waits for the other, which only works side by side.
#[test]
fn independent_stages_run_side_by_side() {
    let meet = |mine: &str, other: &str| {
        format!(
            "    uses: cmd\n    outputs: {{ out: files }}\n    run: {{ timeout: 60s }}\n    command: touch {mine}; \
             while [ ! -e {other} ]; do sleep 0.01; done; echo x > $HEIMDALL_OUTPUT_OUT/x\n"
        )
    };
    let (a, b) = (meet("a-is-here", "b-is-here"), meet("b-is-here", "a-is-here"));
    let workplace = Workplace::new(&format!("name: two\nstages:\n  a:\n{a}  b:\n{b}"));

    workplace.run(&["--jobs", "2"]).done();
}

/// Stages that need all of something take turns: two at once would find the folder of the other.
#[test]
fn stages_take_turns_where_resources_end() {
    let alone = "    uses: cmd\n    outputs: { out: files }\n    command: mkdir turn && sleep 0.1 && rmdir turn && echo x > $HEIMDALL_OUTPUT_OUT/x\n";
    let stages = |run: &str| {
        let stage =
            |name: &str| format!("  {name}:\n{alone}    parameters: {{ name: {name} }}\n{run}");
        format!("name: turns\nstages:\n{}{}{}", stage("a"), stage("b"), stage("c"))
    };
    let gpu = "    run: { gpus: 1 }\n";
    let memory = "    run: { memory: 700MiB }\n";

    Workplace::new(&stages("")).run(&["--jobs", "1"]).done();
    Workplace::new(&stages(gpu)).run(&["--jobs", "3"]).done();
    Workplace::new(&stages(memory)).run(&["--jobs", "3", "--memory", "1GiB"]).done();
    let refused = Workplace::new(&stages(memory)).run(&["--memory", "512MiB"]);

    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("needs 700 MiB of memory"), "{}", refused.stderr);
}

/// A planted secret is in no output of any command, and in no file of the cache.
#[test]
fn secret_is_shown_nowhere() {
    // One that is not written as it is in JSON and on pages, and one of two lines.
    let (secret, declared) = ("pl4nted\"<s3cret", "hushed-value\nhushed-too");
    let told = ["pl4nted", "hushed-value", "hushed-too"];
    let workplace = Workplace::new(
        "name: hush\nstages:\n  good:\n    uses: cmd\n    outputs: { out: files }\n    secrets: [HUSH]\n    parameters:\n      token: ${MY_TOKEN}\n    command: echo \"says $HUSH\"; echo x > $HEIMDALL_OUTPUT_OUT/x\n  \
         bad:\n    uses: cmd\n    outputs: { out: files }\n    secrets: [HUSH]\n    env:\n      COPY: ${MY_TOKEN}\n    command:\n      - no-such-program\n      - ${MY_TOKEN}\n",
    );
    let mut said = String::new();
    for arguments in [
        &["run", "pipeline.yaml", "--json", "--events", "ndjson"][..],
        &["run", "pipeline.yaml", "--set", "good.command=exit 1"],
        &["run", "pipeline.yaml"],
        &["plan", "pipeline.yaml"],
        &["plan", "pipeline.yaml", "--set", "good.parameters.token=x", "--json"],
        &["why", "pipeline.yaml", "good"],
        &["why", "pipeline.yaml", "bad", "--json"],
        &["status", "pipeline.yaml"],
        &["graph", "pipeline.yaml", "--format", "html"],
        &["graph", "pipeline.yaml", "--format", "json"],
        &["graph", "pipeline.yaml", "--format", "dot"],
        &["graph", "pipeline.yaml", "--format", "mermaid"],
        &["graph", "pipeline.yaml"],
        &["cache", "push", "pipeline.yaml", "--remote", "shared"],
        &["cache", "pull", "pipeline.yaml", "--remote", "shared"],
        &["cache", "ls"],
        &["cache", "verify"],
        &["cache", "gc"],
        &["logs", "bad"],
        &["lineage", "bad"],
        &["runs"],
        &["runs", "--json"],
        &["show", "--json"],
        &["show"],
        &["diff"],
        &["logs", "good"],
        &["lineage", "good"],
        &["validate", "pipeline.yaml", "--set", "good.sources=pl4nted\"<s3cret"],
    ] {
        let mut command = workplace.command(arguments);
        let output = command.env("HUSH", declared).env("MY_TOKEN", secret).output().unwrap();
        for bytes in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(bytes);
            let is_told = told.iter().any(|part| text.contains(part));
            assert!(!is_told, "{arguments:?}: {text}");
            said += &text;
        }
    }
    assert!(said.contains("says ***"), "{said}");

    let mut folders = vec![workplace.path(".")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                let is_told = told.iter().any(|part| text.contains(part));
                assert!(!is_told, "{}: {text}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 5, "only {files} files");
}
