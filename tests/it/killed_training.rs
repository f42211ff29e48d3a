//! Training that is killed without warning goes on as if nothing had happened.

use std::fs;
use std::io::{BufRead, BufReader};

use crate::workplace::{RunJson, TINY, Workplace, ended, said};

/// When a run is killed: after so many finished epochs since its start, and then after as long as it
/// takes to look into a folder so many times, which may be within a batch, a validation, or while a
/// checkpoint is written.
struct Moment {
    epochs: usize,
    looks: usize,
}

const MOMENTS: [Moment; 5] = [
    Moment { epochs: 1, looks: 0 },
    Moment { epochs: 3, looks: 311 },
    Moment { epochs: 2, looks: 1_789 },
    Moment { epochs: 1, looks: 4_001 },
    Moment { epochs: 4, looks: 0 },
];

const ARGUMENTS: [&str; 4] = ["--until", "train", "--set", "vars.epochs=60"];

/// The tiny pipeline with a network whose epochs are short, so that every moment is met.
fn pipeline() -> String {
    TINY.replace(
        "    seed: 11\n",
        "    seed: 11\n    early_stopping: 60\n    model: { backbone: mlp }\n",
    )
}

fn weights(run: &RunJson) -> Vec<u8> {
    fs::read(run.stages["train"].outputs["model"].join("network.bpk")).unwrap()
}

/// Starts the pipeline and kills it with SIGKILL.
fn kill(workplace: &Workplace, moment: &Moment) {
    let mut child = workplace.start(&ARGUMENTS);
    // What is not read any more stays in the pipe, which must not be closed before the kill.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut finished = 0;
    for line in lines.by_ref() {
        if finished == moment.epochs {
            break;
        }
        finished += usize::from(line.unwrap().contains("epoch finished"));
    }
    for _ in 0..moment.looks {
        let _ = fs::read_dir(workplace.path(".")).unwrap().count();
    }
    // On Unix this is SIGKILL, which nothing can catch.
    child.kill().unwrap();
    assert_eq!(ended(child).code, -1, "it ended before it was killed");
}

#[test]
fn killed_training_ends_in_the_weights_of_an_unbroken_one() {
    let unbroken = weights(&Workplace::new(&pipeline()).run(&ARGUMENTS).done());
    let workplace = Workplace::new(&pipeline());

    for moment in &MOMENTS {
        kill(&workplace, moment);
    }
    let last = workplace.run(&ARGUMENTS);

    assert!(last.stderr.contains("goes on after epoch"), "{}", last.stderr);
    let lineage = said(&workplace, &["lineage", "train"]);
    assert!(lineage.contains("went on with the work of run "), "{lineage}");
    assert!(weights(&last.done()) == unbroken, "weights differ from those of an unbroken run");
}
