//! What a run would do, without doing it.

use std::collections::BTreeMap;

use super::{RunOptions, Selection, key_parts};
use crate::PipelineError;
use crate::cache::{Cache, Lookup, Manifest};
use crate::spec::PipelineSpec;

/// What would happen to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// It would run.
    Run,
    /// Its result is in the cache.
    Cached,
    /// It depends on one that would run: if that makes the same as before, its result is cached.
    Maybe,
}

/// Looks up each stage of a pipeline, in running order, without running any.
///
/// # Errors
///
/// An unknown stage in the options, or a cache that cannot be read.
pub fn plan(
    spec: &PipelineSpec,
    options: &RunOptions,
) -> Result<Vec<(String, Planned)>, PipelineError> {
    let selection = Selection::new(spec, options)?;
    let cache = Cache::open(&options.cache)?;
    let mut results: BTreeMap<usize, Manifest> = BTreeMap::new();
    let mut planned = Vec::new();
    for &position in spec.graph().order() {
        if !selection.wanted.contains(&position) {
            continue;
        }
        let wires = spec.graph().inputs(position);
        let known = wires.iter().all(|wire| results.contains_key(&wire.producer));
        let outcome = if selection.forced.contains(&position) {
            Planned::Run
        } else if !known {
            Planned::Maybe
        } else {
            match cache.lookup(&key_parts(spec, position, &results)?.key())? {
                Lookup::Hit(manifest) => {
                    results.insert(position, *manifest);
                    Planned::Cached
                }
                Lookup::Miss | Lookup::Damaged(_) => Planned::Run,
            }
        };
        planned.push((spec.stages[position].name.clone(), outcome));
    }
    Ok(planned)
}
