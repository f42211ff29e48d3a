//! The page of a pipeline: its stages from left to right, in the color of what a run would do.

use std::fmt::Write;

use super::page::{Page, escape};
use crate::{PipelineSpec, PlannedStage};

/// Size of a box and of the space around it, in units of the drawing.
const BOX: [usize; 2] = [150, 44];
const SPACE: [usize; 2] = [60, 20];

/// Returns the page.
pub(crate) fn pipeline_page(spec: &PipelineSpec, planned: &[PlannedStage]) -> String {
    let mut page = Page::new(&spec.name);
    page.figure(&drawing(spec, planned), "Color says what a run would do with the stage.");
    let mut rows = vec![["stage", "kind", "a run would", "because"].map(str::to_owned).to_vec()];
    for (position, stage) in positions(spec, planned) {
        let changes = stage.changes.iter().map(|change| {
            let or_absent = |value: &Option<String>| value.clone().unwrap_or("(absent)".to_owned());
            format!("{}: {} → {}", change.what, or_absent(&change.before), or_absent(&change.now))
        });
        let because: Vec<String> = stage.note.iter().cloned().chain(changes).collect();
        rows.push(vec![
            stage.stage.clone(),
            spec.stages[position].stage.kind().name().to_owned(),
            stage.forecast.name().to_owned(),
            because.join("; "),
        ]);
    }
    page.table(&rows);
    page.finish()
}

/// The stages in running order, with their positions in the definition.
fn positions<'a>(
    spec: &PipelineSpec,
    planned: &'a [PlannedStage],
) -> impl Iterator<Item = (usize, &'a PlannedStage)> {
    spec.graph().order().to_vec().into_iter().zip(planned)
}

/// The graph, with each stage one column behind the last of those that it reads from.
fn drawing(spec: &PipelineSpec, planned: &[PlannedStage]) -> String {
    let mut places = vec![[0, 0]; spec.stages.len()];
    let mut heights: Vec<usize> = Vec::new();
    for &position in spec.graph().order() {
        let wires = spec.graph().inputs(position);
        let column = wires.iter().map(|wire| places[wire.producer][0] + 1).max().unwrap_or(0);
        heights.resize(heights.len().max(column + 1), 0);
        places[position] = [column, heights[column]];
        heights[column] += 1;
    }
    let corner = |position: usize| {
        let place: [usize; 2] = places[position];
        [0, 1].map(|axis| SPACE[axis] / 2 + place[axis] * (BOX[axis] + SPACE[axis]))
    };
    let width = heights.len() * (BOX[0] + SPACE[0]);
    let height = heights.iter().max().unwrap_or(&0) * (BOX[1] + SPACE[1]);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\">");
    for &position in spec.graph().order() {
        for wire in spec.graph().inputs(position) {
            let ([x1, y1], [x2, y2]) = (corner(wire.producer), corner(position));
            let (x1, y1, y2) = (x1 + BOX[0], y1 + BOX[1] / 2, y2 + BOX[1] / 2);
            let middle = usize::midpoint(x1, x2);
            let _ = write!(
                svg,
                "<path class=\"axis\" d=\"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}\">\
                 <title>{} → {}</title></path>",
                escape(&wire.output.name),
                escape(&wire.input.name)
            );
        }
    }
    for (position, stage) in positions(spec, planned) {
        let [x, y] = corner(position);
        let (middle_x, middle_y) = (x + BOX[0] / 2, y + BOX[1] / 2 + 4);
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"{}\"/>\
             <text x=\"{middle_x}\" y=\"{middle_y}\" text-anchor=\"middle\" style=\"fill:#1d2530\">\
             {}</text>",
            BOX[0],
            BOX[1],
            stage.forecast.color(),
            escape(&stage.stage)
        );
    }
    svg + "</svg>"
}
