//! Random graphs of programs, changed at random: what comes out is what running everything from
//! scratch would give, and what was forecast is what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use heimdall_pipeline::{
    EventSink, Forecast, LoadOptions, PipelineSpec, RunOptions, StageState, plan, run,
};
use proptest::prelude::*;

/// A stage: a number that it writes, the earlier stages that it reads, and whether it keeps only the
/// length of what it has read, which lets many changes end there.
#[derive(Clone, Debug)]
struct Node {
    number: u8,
    reads: Vec<usize>,
    counts: bool,
}

/// What happens between two runs.
#[derive(Clone, Debug)]
enum Change {
    /// A stage writes another number.
    Number(usize, u8),
    /// A stage begins or ceases to count.
    Counts(usize),
    /// A stage reads other stages.
    Reads(usize, Vec<prop::sample::Index>),
    /// There is one stage more, at the end.
    Added(Node),
    /// The last stage is gone, unless it is the only one.
    Removed,
    /// A file of the store is removed, as if lost by the disk.
    Lost(usize),
    /// A file of the store is overwritten.
    Corrupted(usize),
    /// A readable copy is overwritten.
    Tampered(usize),
    /// Nothing.
    Nothing,
}

fn picks() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..3)
}

/// The earlier stages that a stage reads.
fn reads(position: usize, picks: &[prop::sample::Index]) -> Vec<usize> {
    let picks = picks.iter().filter(|_| position > 0).map(|pick| pick.index(position));
    picks.collect::<BTreeSet<usize>>().into_iter().collect()
}

fn graphs() -> impl Strategy<Value = Vec<Node>> {
    let node = (0_u8..12, picks(), any::<bool>());
    prop::collection::vec(node, 1..6).prop_map(|nodes| {
        let nodes = nodes.into_iter().enumerate();
        let node = |(position, (number, picks, counts)): (usize, (u8, Vec<_>, bool))| Node {
            number,
            reads: reads(position, &picks),
            counts,
        };
        nodes.map(node).collect()
    })
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (0_usize..6, 0_u8..12).prop_map(|(stage, number)| Change::Number(stage, number)),
        1 => (0_usize..6).prop_map(Change::Counts),
        2 => (1_usize..6, picks()).prop_map(|(stage, picks)| Change::Reads(stage, picks)),
        1 => (0_u8..12).prop_map(|number| {
            Change::Added(Node { number, reads: vec![0], counts: false })
        }),
        1 => Just(Change::Removed),
        1 => (0_usize..64).prop_map(Change::Lost),
        1 => (0_usize..64).prop_map(Change::Corrupted),
        1 => (0_usize..6).prop_map(Change::Tampered),
        1 => Just(Change::Nothing),
    ];
    prop::collection::vec(change, 1..5)
}

/// The graph as a definition.
fn definition(nodes: &[Node]) -> String {
    let mut text = "name: random\nstages:\n".to_owned();
    for (position, node) in nodes.iter().enumerate() {
        let ports: Vec<String> =
            node.reads.iter().map(|read| format!("i{read}: s{read}")).collect();
        let inputs: Vec<String> =
            node.reads.iter().map(|read| format!("$HEIMDALL_INPUT_I{read}/text")).collect();
        let read =
            if inputs.is_empty() { String::new() } else { format!("cat {}; ", inputs.join(" ")) };
        let end = if node.counts { "| wc -c " } else { "" };
        text += &format!(
            "  s{position}:\n    uses: cmd\n    outputs: {{ out: files }}\n    parameters: {{ position: {position} }}\n    command: ({read}echo {}) {end}> $HEIMDALL_OUTPUT_OUT/text\n",
            node.number
        );
        if !ports.is_empty() {
            text += &format!("    from: {{ {} }}\n", ports.join(", "));
        }
    }
    text
}

/// What every stage writes if everything is run from scratch, worked out without the runner.
fn from_scratch(nodes: &[Node]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for node in nodes {
        let mut text: String = node.reads.iter().map(|read| texts[*read].as_str()).collect();
        text += &format!("{}\n", node.number);
        texts.push(if node.counts { format!("{}\n", text.len()) } else { text });
    }
    texts
}

fn store(root: &Path) -> Vec<std::path::PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Carries out a change, as far as there is something to change.
fn carry_out(change: &Change, nodes: &mut Vec<Node>, folder: &Path) {
    match change {
        Change::Number(stage, number) => {
            if let Some(node) = nodes.get_mut(*stage) {
                node.number = *number;
            }
        }
        Change::Counts(stage) => {
            if let Some(node) = nodes.get_mut(*stage) {
                node.counts = !node.counts;
            }
        }
        Change::Reads(stage, picks) => {
            if let Some(node) = nodes.get_mut(*stage) {
                node.reads = reads(*stage, picks);
            }
        }
        Change::Added(node) => nodes.push(node.clone()),
        Change::Removed => nodes.truncate((nodes.len() - 1).max(1)),
        Change::Lost(pick) => {
            let files = store(&folder.join("cache/cas"));
            if !files.is_empty() {
                fs::remove_file(&files[pick % files.len()]).unwrap();
            }
        }
        Change::Corrupted(pick) => {
            let files = store(&folder.join("cache/cas"));
            if !files.is_empty() {
                let file = &files[pick % files.len()];
                // Kept files cannot be written to; somebody does so all the same.
                fs::remove_file(file).unwrap();
                fs::write(file, "corrupted").unwrap();
            }
        }
        Change::Tampered(stage) => {
            let copy = folder.join(format!("copies/random/s{stage}/out/text"));
            if copy.exists() {
                fs::write(copy, "tampered").unwrap();
            }
        }
        Change::Nothing => {}
    }
}

/// Runs the pipeline and holds the forecast against it. Where a file was lost that two results had in
/// common, the first stage to run may bring back both.
fn states(nodes: &[Node], options: &RunOptions, is_lost: bool) -> BTreeMap<String, StageState> {
    let text = definition(nodes);
    let spec =
        PipelineSpec::parse("random.yaml", "random", &text, &LoadOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (cancel, events) = (Arc::default(), EventSink::new(|_| {}));
    let planned = runtime.block_on(plan(&spec, options, &events)).unwrap();
    let report = runtime.block_on(run(&spec, options, &cancel, &events)).unwrap();
    let states: BTreeMap<String, StageState> =
        report.stages.iter().map(|(name, stage)| (name.clone(), stage.state)).collect();
    for stage in planned {
        let state = states[&stage.stage];
        let is_right = match stage.forecast {
            Forecast::Cached | Forecast::Restore => state == StageState::Cached,
            // Nothing is shared here, and nothing fails.
            Forecast::Fetch | Forecast::Fail => false,
            Forecast::Run => state == StageState::Ran || is_lost && state == StageState::Cached,
            Forecast::Maybe => matches!(state, StageState::Ran | StageState::Cached),
            Forecast::Skip => state == StageState::Skipped,
        };
        assert!(is_right, "`{}` is {}, but the forecast was {stage:?}", stage.stage, state.name());
    }
    states
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn result_is_that_of_running_everything_from_scratch(
        mut nodes in graphs(),
        changes in changes(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options = RunOptions {
            cache: folder.path().join("cache"),
            output: folder.path().join("copies"),
            ..RunOptions::default()
        };
        for change in [Change::Nothing].iter().chain(&changes) {
            carry_out(change, &mut nodes, folder.path());

            states(&nodes, &options, matches!(change, Change::Lost(_) | Change::Corrupted(_)));

            for (position, expected) in from_scratch(&nodes).iter().enumerate() {
                let copy = folder.path().join(format!("copies/random/s{position}/out/text"));
                prop_assert_eq!(&fs::read_to_string(copy).unwrap(), expected, "s{}", position);
            }
            let again = states(&nodes, &options, false);
            prop_assert!(again.values().all(|state| *state == StageState::Cached), "{:?}", again);
        }
    }
}
