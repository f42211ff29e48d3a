//! How the stages of a pipeline are connected.

mod wiring;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::PipelineError;
use crate::artifact::{InputPort, OutputPort};
use crate::spec::{From, Source, StageSpec};

/// An edge: what leaves one stage and arrives at another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Position of the stage that makes it.
    pub producer: usize,
    /// Where it leaves.
    pub output: OutputPort,
    /// Position of the stage that reads it.
    pub consumer: usize,
    /// Where it arrives.
    pub input: InputPort,
}

/// The stages of a pipeline, by their positions in the definition, and the wires between them.
#[derive(Clone, Debug)]
pub struct Graph {
    stages: DiGraph<usize, Wire>,
    order: Vec<usize>,
}

impl Graph {
    /// Connects the stages as their `from:` says.
    pub(crate) fn build(
        source: &Source,
        stages: &[StageSpec],
        wiring: &[From],
    ) -> Result<Self, PipelineError> {
        let mut graph = DiGraph::new();
        for position in 0..stages.len() {
            graph.add_node(position);
        }
        let known = wiring::Stages::new(stages);
        for (consumer, from) in wiring.iter().enumerate() {
            for wire in wiring::connect(source, &known, consumer, from)? {
                let node = NodeIndex::new;
                graph.add_edge(node(wire.producer), node(wire.consumer), wire);
            }
        }
        let order = order(&graph).map_err(|cycle| {
            let mut names: Vec<&str> = cycle.iter().map(|at| stages[*at].name.as_str()).collect();
            names.push(names[0]);
            let message = format!("the stages go round in a circle: {}", names.join(" → "));
            source.diagnostic(Some(stages[cycle[0]].place), message)
        })?;
        Ok(Self { stages: graph, order })
    }

    /// Returns the positions of the stages such that each comes after those that it reads from,
    /// and otherwise in the order of the definition.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Returns what arrives at a stage, in the order of its ports.
    pub fn inputs(&self, stage: usize) -> Vec<Wire> {
        let mut wires: Vec<Wire> = self
            .stages
            .edges_directed(NodeIndex::new(stage), Direction::Incoming)
            .map(|edge| edge.weight().clone())
            .collect();
        wires.sort_by(|one, other| one.input.name.cmp(&other.input.name));
        wires
    }

    /// Returns which stages read from a stage, once for each wire.
    pub fn consumers(&self, stage: usize) -> Vec<usize> {
        self.stages.neighbors(NodeIndex::new(stage)).map(NodeIndex::index).collect()
    }

    /// Returns which stages a stage depends on, near or far, in running order.
    pub fn ancestors(&self, stage: usize) -> Vec<usize> {
        self.reachable(&[stage], Direction::Incoming)
    }

    /// Returns which stages depend on a stage, near or far, in running order.
    pub fn descendants(&self, stage: usize) -> Vec<usize> {
        self.reachable(&[stage], Direction::Outgoing)
    }

    /// Returns which stages at least one of some stages depends on, near or far, in running order.
    pub(crate) fn ancestors_of_any(&self, stages: &[usize]) -> Vec<usize> {
        self.reachable(stages, Direction::Incoming)
    }

    /// Returns which stages depend on at least one of some stages, near or far, in running order.
    pub(crate) fn descendants_of_any(&self, stages: &[usize]) -> Vec<usize> {
        self.reachable(stages, Direction::Outgoing)
    }

    fn reachable(&self, starts: &[usize], direction: Direction) -> Vec<usize> {
        let mut seen = vec![false; self.stages.node_count()];
        let mut open = starts.to_vec();
        while let Some(at) = open.pop() {
            for next in self.stages.neighbors_directed(NodeIndex::new(at), direction) {
                if !std::mem::replace(&mut seen[next.index()], true) {
                    open.push(next.index());
                }
            }
        }
        self.order.iter().copied().filter(|at| seen[*at]).collect()
    }
}

/// Sorts the stages, or returns the positions of a cycle.
fn order(graph: &DiGraph<usize, Wire>) -> Result<Vec<usize>, Vec<usize>> {
    let mut open: Vec<usize> = graph
        .node_indices()
        .map(|at| graph.edges_directed(at, Direction::Incoming).count())
        .collect();
    let mut order = Vec::with_capacity(open.len());
    let mut taken = vec![false; open.len()];
    let mut ready: BinaryHeap<_> =
        (0..open.len()).filter(|at| open[*at] == 0).map(Reverse).collect();
    while let Some(Reverse(next)) = ready.pop() {
        taken[next] = true;
        order.push(next);
        for edge in graph.edges(NodeIndex::new(next)) {
            let consumer = edge.target().index();
            open[consumer] -= 1;
            if open[consumer] == 0 {
                ready.push(Reverse(consumer));
            }
        }
    }
    match taken.iter().position(|taken| !taken) {
        None => Ok(order),
        Some(left) => Err(cycle(graph, &taken, left)),
    }
}

/// Returns a cycle among the stages that could not be sorted. Each of them has one such stage
/// before it, so that walking backwards must come to a stage for the second time.
fn cycle(graph: &DiGraph<usize, Wire>, sorted: &[bool], start: usize) -> Vec<usize> {
    let mut path = vec![start];
    loop {
        let at = *path.last().expect("the path has its start");
        let before = graph
            .neighbors_directed(NodeIndex::new(at), Direction::Incoming)
            .map(NodeIndex::index)
            .filter(|before| !sorted[*before])
            .min()
            .expect("a stage that could not be sorted waits for another");
        if let Some(first) = path.iter().position(|seen| *seen == before) {
            let mut cycle = path.split_off(first);
            cycle.reverse();
            let smallest = (0..cycle.len()).min_by_key(|at| cycle[*at]).unwrap_or(0);
            cycle.rotate_left(smallest);
            return cycle;
        }
        path.push(before);
    }
}
