//! Which stages a run deals with, and how.

use super::RunOptions;
use crate::PipelineError;
use crate::spec::PipelineSpec;

/// How a run deals with a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Takes its result if it is there, and runs it if not.
    Run,
    /// Runs it whether its result is there or not.
    Rerun,
    /// Takes its result, which must be there; the option says because of what.
    FromCache(&'static str),
    /// Leaves it out.
    Skip,
}

/// The mode of each stage.
#[derive(Clone, Debug)]
pub(super) struct Selection(Vec<Mode>);

impl Selection {
    pub(super) fn new(spec: &PipelineSpec, options: &RunOptions) -> Result<Self, PipelineError> {
        let graph = spec.graph();
        let mut modes = vec![Mode::Run; spec.stages.len()];
        if let Some(from) = &options.from {
            let from = spec.position(from)?;
            let rerun: Vec<usize> = [from].into_iter().chain(graph.descendants(from)).collect();
            for stage in &rerun {
                for ancestor in graph.ancestors(*stage) {
                    modes[ancestor] = Mode::FromCache("from");
                }
            }
            for stage in rerun {
                modes[stage] = Mode::Rerun;
            }
        }
        if !options.only.is_empty() {
            let only = positions(spec, &options.only)?;
            let needed: Vec<usize> = only.iter().flat_map(|at| graph.ancestors(*at)).collect();
            for (position, mode) in modes.iter_mut().enumerate() {
                if only.contains(&position) {
                    continue;
                }
                let is_needed = needed.contains(&position);
                *mode = if is_needed { Mode::FromCache("only") } else { Mode::Skip };
            }
        }
        if let Some(until) = &options.until {
            let until = spec.position(until)?;
            let needed = graph.ancestors(until);
            for (position, mode) in modes.iter_mut().enumerate() {
                if position != until && !needed.contains(&position) {
                    *mode = Mode::Skip;
                }
            }
        }
        for forced in positions(spec, &options.force)? {
            if modes[forced] != Mode::Skip {
                modes[forced] = Mode::Rerun;
            }
        }
        Ok(Self(modes))
    }

    pub(super) fn mode(&self, position: usize) -> Mode {
        self.0[position]
    }
}

fn positions(spec: &PipelineSpec, names: &[String]) -> Result<Vec<usize>, PipelineError> {
    names.iter().map(|name| spec.position(name)).collect()
}
