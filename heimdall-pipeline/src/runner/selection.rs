//! Which stages a run deals with, and how.

use std::collections::HashSet;

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
            let mut rerun = matching(spec, from)?;
            rerun.extend(graph.descendants_of_any(&rerun));
            for ancestor in graph.ancestors_of_any(&rerun) {
                modes[ancestor] = Mode::FromCache("from");
            }
            for stage in rerun {
                modes[stage] = Mode::Rerun;
            }
        }
        if !options.only.is_empty() {
            let only = all_matching(spec, &options.only)?;
            let mut asked = vec![Mode::Skip; modes.len()];
            for ancestor in graph.ancestors_of_any(&only) {
                asked[ancestor] = Mode::FromCache("only");
            }
            for stage in only {
                asked[stage] = modes[stage];
            }
            modes = asked;
        }
        if let Some(until) = &options.until {
            let mut needed: HashSet<usize> = matching(spec, until)?.into_iter().collect();
            let wanted: Vec<usize> = needed.iter().copied().collect();
            needed.extend(graph.ancestors_of_any(&wanted));
            for (position, mode) in modes.iter_mut().enumerate() {
                if !needed.contains(&position) {
                    *mode = Mode::Skip;
                }
            }
        }
        for forced in all_matching(spec, &options.force)? {
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

fn all_matching(spec: &PipelineSpec, patterns: &[String]) -> Result<Vec<usize>, PipelineError> {
    let mut positions = Vec::new();
    for pattern in patterns {
        positions.extend(matching(spec, pattern)?);
    }
    Ok(positions)
}

/// Returns the stages that a pattern stands for: `*` is any text, `?` any character, and the name of
/// a stage with a matrix stands for all its variants.
fn matching(spec: &PipelineSpec, pattern: &str) -> Result<Vec<usize>, PipelineError> {
    let fits = |name: &str| {
        let base = name.split('[').next().unwrap_or(name);
        matches(pattern, name) || matches(pattern, base)
    };
    let stages = spec.stages.iter().enumerate();
    let found: Vec<usize> =
        stages.filter(|(_, stage)| fits(&stage.name)).map(|(position, _)| position).collect();
    if found.is_empty() {
        return spec.position(pattern).map(|position| vec![position]);
    }
    Ok(found)
}

/// Whether a text is what a pattern stands for.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    // `reach[i]` says whether the pattern so far can stand for the first `i` characters.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for sign in pattern {
        let before = reach.clone();
        for end in 0..=text.len() {
            let one_more = |fits: bool| end > 0 && fits && before[end - 1];
            reach[end] = match sign {
                '*' => before[end] || end > 0 && reach[end - 1],
                '?' => one_more(true),
                plain => one_more(end > 0 && text[end - 1] == plain),
            };
        }
    }
    reach[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name) in [
            ("train", "train"),
            ("tr*", "train"),
            ("*", "train"),
            ("t?ain", "train"),
            ("*a*n", "train"),
            ("train[*]", "train[learning_rate=0.01]"),
            ("*rate=0.0?]", "train[learning_rate=0.01]"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("trai", "train"),
            ("rain", "train"),
            ("t?in", "train"),
            ("", "train"),
            ("*x", "train"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
