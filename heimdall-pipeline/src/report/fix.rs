//! The page of a fix: where the transmitter is, on a map, and the delays that say so.

use heimdall_geo::{Ellipse, LocalFrame, LocalPosition};

use super::map::Map;
use super::page::Page;
use crate::PipelineError;
use crate::stage::{LocatedEvent, MeasuredPair};

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
            &map(event, false)?.to_svg(),
            "The receivers (triangles), the fix (red), and \
            the true position (green) where it is known.",
        );
        page.figure(
            &map(event, true)?.to_svg(),
            "The surroundings of the fix, with the ellipse \
            that holds the transmitter with 95 % probability.",
        );
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
    let (fix, Ellipse { semi_major_km, semi_minor_km, azimuth_deg }) =
        (&event.fix, event.region_95);
    let mut text = format!(
        "The transmitter is at {:.4}, {:.4}. The 95 % ellipse has semi-axes of {semi_major_km:.2} \
         and {semi_minor_km:.2} km, the longer one at {azimuth_deg:.0}° from north, and an area of \
         {:.1} km².",
        fix.position.latitude_deg(),
        fix.position.longitude_deg(),
        event.region_95.area_km2()
    );
    if let Some(truth) = event.truth {
        text += &format!(
            " The true position is {:.4}, {:.4}: the fix is {:.2} km off, and the ellipse {} it.",
            truth.position.latitude_deg(),
            truth.position.longitude_deg(),
            truth.error_km,
            if truth.in_region_95 { "contains" } else { "does not contain" }
        );
    }
    if !fix.alternatives.is_empty() {
        let others: Vec<String> = fix
            .alternatives
            .iter()
            .map(|p| format!("{:.4}, {:.4}", p.latitude_deg(), p.longitude_deg()))
            .collect();
        text += &format!(" The delays fit about as well at {}.", others.join("; "));
    }
    text
}

/// The whole network, or the surroundings of the fix alone.
fn map(event: &LocatedEvent, near: bool) -> Result<Map, PipelineError> {
    let frame = if near {
        LocalFrame { origin: event.fix.position }
    } else {
        let positions: Vec<_> = event.receivers.iter().map(|receiver| receiver.position).collect();
        LocalFrame::centered_on(&positions)?
    };
    let estimate = frame.to_local(&event.fix.position);
    let outline = event.region_95.outline(LocalPosition::default(), OUTLINE_POINTS);
    let truth = event.truth.map(|truth| frame.to_local(&truth.position));
    Ok(Map {
        receivers: if near {
            Vec::new()
        } else {
            let place = |receiver: &heimdall_geo::Receiver| frame.to_local(&receiver.position);
            event.receivers.iter().map(|r| (r.name.clone(), place(r))).collect()
        },
        truths: truth.into_iter().collect(),
        estimates: vec![estimate],
        // In the large map the ellipse may be smaller than a dot, but it stands where it is.
        ellipses: vec![
            outline
                .iter()
                .map(|corner| LocalPosition {
                    east_km: estimate.east_km + corner.east_km,
                    north_km: estimate.north_km + corner.north_km,
                })
                .collect(),
        ],
        errors: truth.map(|truth| (truth, estimate)).into_iter().collect(),
        shown: if near { outline } else { Vec::new() },
        ..Map::default()
    })
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
