//! The page of a fix: where the transmitter is, on a map, and the delays that say so.

use heimdall_geo::{Ellipse, LocalFrame, LocalPosition, Position};

use super::map::Map;
use super::page::Page;
use crate::PipelineError;
use crate::stage::{LocatedEvent, LocatedFix, MeasuredPair};

/// Corners of a drawn ellipse.
const OUTLINE_POINTS: usize = 72;

/// Writes the page of all events of a pipeline.
///
/// # Errors
///
/// Those of the frames that the maps are drawn in.
pub(crate) fn fix_page(pipeline: &str, events: &[LocatedEvent]) -> Result<String, PipelineError> {
    let mut page = Page::new(&format!("{pipeline}: located from delays"));
    for event in events {
        page.heading(&event.event);
        page.paragraph(&verdict(event));
        page.figure(
            &network_map(event)?.to_svg(),
            "The receivers (triangles), the fix and other positions that the delays allow (red), and \
            the true position (green) where it is known.",
        );
        if let Some(fix) = &event.fix {
            page.figure(
                &near_map(event, fix).to_svg(),
                "The surroundings of the fix, with the ellipse \
                that holds the transmitter with 95 % probability.",
            );
        }
        page.table(&delay_table(&event.pairs));
        page.note(
            "A delay is the arrival at the second receiver minus the arrival at the first. \
            Its sigma is what noise and clocks explain; the ellipse also holds the timing floor of \
            the solver, which stands for propagation.",
        );
    }
    Ok(page.finish())
}

/// The result in sentences.
fn verdict(event: &LocatedEvent) -> String {
    let Some(fix) = &event.fix else {
        return format!("There is no fix: {}.", event.reason.as_deref().unwrap_or_default());
    };
    let Ellipse { semi_major_km, semi_minor_km, azimuth_deg } = fix.region_95;
    let mut text = format!(
        "The transmitter is at {}. The 95 % ellipse has semi-axes of {semi_major_km:.2} and \
         {semi_minor_km:.2} km, the longer one at {azimuth_deg:.0}° from north, and an area of \
         {:.1} km².",
        degrees(&fix.estimate.position),
        fix.region_95.area_km2()
    );
    if let (Some(position), Some(truth)) = (&event.truth, fix.truth) {
        text += &format!(
            " The true position is {}: the fix is {:.2} km off, and the ellipse {} it.",
            degrees(position),
            truth.error_km,
            if truth.in_region_95 { "contains" } else { "does not contain" }
        );
    }
    if !event.alternatives.is_empty() {
        let others: Vec<String> =
            event.alternatives.iter().map(|other| degrees(&other.estimate.position)).collect();
        text += &format!(" The delays fit about as well at {}.", others.join("; "));
    }
    text
}

fn degrees(position: &Position) -> String {
    format!("{:.4}, {:.4}", position.latitude_deg(), position.longitude_deg())
}

/// The receivers, and all positions.
fn network_map(event: &LocatedEvent) -> Result<Map, PipelineError> {
    let positions: Vec<_> = event.receivers.iter().map(|receiver| receiver.position).collect();
    let frame = LocalFrame::centered_on(&positions)?;
    let fixes = || event.fix.iter().chain(&event.alternatives);
    let truth = event.truth.map(|truth| frame.to_local(&truth));
    let best = event.fix.as_ref().map(|fix| frame.to_local(&fix.estimate.position));
    Ok(Map {
        receivers: event
            .receivers
            .iter()
            .map(|receiver| (receiver.name.clone(), frame.to_local(&receiver.position)))
            .collect(),
        truths: truth.into_iter().collect(),
        estimates: fixes().map(|fix| frame.to_local(&fix.estimate.position)).collect(),
        // An ellipse may be smaller than a dot here, but it stands where it is.
        ellipses: fixes()
            .map(|fix| {
                fix.region_95.outline(frame.to_local(&fix.estimate.position), OUTLINE_POINTS)
            })
            .collect(),
        errors: truth.zip(best).into_iter().collect(),
        ..Map::default()
    })
}

/// The surroundings of a fix alone.
fn near_map(event: &LocatedEvent, fix: &LocatedFix) -> Map {
    let frame = LocalFrame { origin: fix.estimate.position };
    let outline = fix.region_95.outline(LocalPosition::default(), OUTLINE_POINTS);
    let truth = event.truth.map(|truth| frame.to_local(&truth));
    Map {
        truths: truth.into_iter().collect(),
        estimates: vec![LocalPosition::default()],
        ellipses: vec![outline.clone()],
        errors: truth.map(|truth| (truth, LocalPosition::default())).into_iter().collect(),
        shown: outline,
        ..Map::default()
    }
}

fn delay_table(pairs: &[MeasuredPair]) -> Vec<Vec<String>> {
    let mut rows = vec![
        ["pair", "delay µs", "sigma µs", "peak ratio", "bandwidth Hz", "correlation", "offset Hz"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for pair in pairs {
        let name = format!("{} → {}", pair.first, pair.second);
        rows.push(match (&pair.delay, &pair.refused) {
            (Some(delay), _) => vec![
                name,
                format!("{:.2}", delay.delay_s * 1e6),
                format!("{:.2}", delay.sigma_s * 1e6),
                format!("{:.2}", delay.peak_ratio),
                format!("{:.0}", delay.bandwidth_hz),
                format!("{:.3}", delay.coherence),
                format!("{:.3}", delay.frequency_difference_hz),
            ],
            (None, reason) => vec![name, reason.clone().unwrap_or_default()],
        });
    }
    rows
}
