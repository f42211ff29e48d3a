//! `kill -9` at every step from a finished stage to a remembered run.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use clap::ValueEnum;
use heimdall_pipeline::FaultPoint;

use crate::small::{small, states, write_script};
use crate::workplace::{Workplace, said};

const KILLED: i32 = 9;

/// Runs the pipeline, which dies at the point; returns whether it did.
fn dies_at(workplace: &Workplace, point: FaultPoint, arguments: &[&str]) -> bool {
    let name = point.to_possible_value().unwrap();
    let mut command = workplace.command(&["run", "pipeline.yaml", "--json"]);
    command.args(arguments).env("HEIMDALL_FAULT", name.get_name());
    let output = command.output().unwrap();
    output.status.signal() == Some(KILLED)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Whatever the moment, the next run finds nothing half-done, comes to the same result, and the one
/// after it finds everything.
#[test]
fn run_after_a_kill_is_right() {
    let text = |workplace: &Workplace| {
        fs::read_to_string(workplace.path("artifacts/small/last/out/text")).unwrap()
    };
    let whole = small();
    whole.run(&[]).done();
    let expected = text(&whole);

    for &point in FaultPoint::all() {
        let workplace = small();
        assert!(dies_at(&workplace, point, &[]), "{point:?} is never reached");

        let next = workplace.run(&[]).done();
        let last = workplace.run(&[]).done();

        assert_eq!(text(&workplace), expected, "{point:?}");
        assert!(is_empty(&workplace.path(".heimdall/work")), "{point:?}");
        assert_eq!(states(&last), ["cached"; 4], "{point:?}");
        let has_result = point >= FaultPoint::ManifestNamed;
        let first = states(&next)[..2].iter().filter(|state| **state == "cached").count();
        assert_eq!(first > 0, has_result, "{point:?}: {:?}", states(&next));
    }
}

/// What is there already stays whole until there is something better, and is in nobody's way: when a
/// stage comes to another result, when it is made again, and when it is shared.
#[test]
fn kill_while_a_result_is_replaced_leaves_the_old_one_or_the_new_one() {
    for &point in FaultPoint::all() {
        for arguments in [&[][..], &["--force", "right"], &["--remote", "shared"]] {
            let workplace = small();
            fs::create_dir(workplace.path("shared")).unwrap();
            workplace.run(arguments).done();
            write_script(&workplace, "echo other > $HEIMDALL_OUTPUT_OUT/text");
            let copy = workplace.path("artifacts/small/right/out/text");

            assert!(dies_at(&workplace, point, arguments), "{point:?} is never reached");

            let between = fs::read_to_string(&copy).unwrap();
            assert!(["right\n", "other\n"].contains(&&*between), "{point:?}: {between}");
            let verified = said(&workplace, &["cache", "verify"]);
            assert!(verified.contains("all sound"), "{point:?}: {verified}");
            workplace.run(&["--remote", "shared"]).done();
            assert_eq!(fs::read_to_string(&copy).unwrap(), "other\n", "{point:?}");
            let elsewhere = small();
            write_script(&elsewhere, "echo other > $HEIMDALL_OUTPUT_OUT/text");
            let shared = workplace.path("shared").display().to_string();
            elsewhere.run(&["--remote", &shared]).done();
            let copy = elsewhere.path("artifacts/small/last/out/text");
            assert_eq!(fs::read_to_string(copy).unwrap(), "1\nother\n", "{point:?}");
            assert!(is_empty(&workplace.path(".heimdall/work")), "{point:?}");
        }
    }
}

/// Killed again and again, each time one step later, a pipeline still comes to its end.
#[test]
fn kills_in_a_row_do_not_add_up() {
    let workplace = small();
    for &point in FaultPoint::all() {
        dies_at(&workplace, point, &[]);
    }

    workplace.run(&[]).done();

    assert_eq!(states(&workplace.run(&[]).done()), ["cached"; 4]);
    assert!(is_empty(&workplace.path(".heimdall/work")));
}

/// Sixteen at once: every stage is run by one of them, and all have its result.
#[test]
fn sixteen_processes_share_one_pipeline() {
    let workplace = small();

    let children: Vec<_> = (0..16).map(|_| workplace.start(&[])).collect();
    let runs: Vec<_> =
        children.into_iter().map(|child| crate::workplace::ended(child).done()).collect();

    for stage in 0..4 {
        let ran = runs.iter().filter(|run| states(run)[stage] == "ran").count();
        assert_eq!(ran, 1, "stage {stage}");
    }
    assert!(is_empty(&workplace.path(".heimdall/work")));
}

/// Sixteen different pipelines in one cache do not get into each other's way.
#[test]
fn sixteen_processes_with_different_seeds_do_not_block_each_other() {
    let workplace = small();
    let start = |seed: usize| {
        let folder = format!("copies-{seed}");
        workplace.start(&["--set", &format!("vars.seed={seed}"), "--output", &folder])
    };

    let children: Vec<_> = (0..16).map(start).collect();
    for (seed, child) in children.into_iter().enumerate() {
        crate::workplace::ended(child).done();
        let copy = workplace.path(format!("copies-{seed}/small/left/out/text"));
        assert_eq!(fs::read_to_string(copy).unwrap(), format!("left {seed}\n"));
    }
}

/// A file that cannot grow any further is an error that is named, and nothing is kept of the stage.
#[test]
fn full_disk_is_named_and_the_next_run_is_right() {
    let workplace = Workplace::new(
        "name: big\nstages:\n  big:\n    uses: simulate\n    world: { sessions: 3, events_per_session: 1, \
         seed: 1, duration_s: 2 }\n",
    );
    let program = env!("CARGO_BIN_EXE_heimdall-pipeline");
    // The limit is in blocks of 512 bytes; without the trap the first write too many would kill.
    let line = format!("trap '' XFSZ; ulimit -f 200; exec {program} run pipeline.yaml --json");
    let mut command = std::process::Command::new("sh");
    let output = command.current_dir(workplace.path("")).args(["-c", &line]).output().unwrap();

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("File too large"), "{stderr}");
    assert!(!workplace.path("artifacts/big").exists());
    assert_eq!(workplace.run(&[]).done().stages["big"].state, "ran");
    assert!(is_empty(&workplace.path(".heimdall/work")));
}
