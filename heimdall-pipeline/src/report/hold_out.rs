//! The page of groups that were held out.

use heimdall_train::{HeldOutGroup, HoldOut};

use super::evaluation::table::{km, percent, row, shown};
use super::page::Page;

/// Writes the page of groups that were held out.
pub(crate) fn hold_out_report(pipeline: &str, result: &HoldOut) -> String {
    let mut page = Page::new(&format!("{pipeline}: each {} held out", result.by));
    page.paragraph(&format!(
        "Each of {} groups was held out in turn: a network learned from the others, was recalibrated \
         on a part of them, and located the events of the group.",
        result.groups.len()
    ));
    let strange: Vec<&str> = result
        .groups
        .iter()
        .filter(|group| group.shift.as_ref().is_some_and(|shift| shift.differs))
        .map(|group| group.name.as_str())
        .collect();
    if !strange.is_empty() {
        page.warning(&format!(
            "These groups do not look like the others: {}. What was learned and calibrated without \
             them need not hold for them.",
            strange.join("; ")
        ));
    }
    page.heading("Errors");
    page.table(&errors(result));
    page.note("Medians, and for the network nine of ten, in km along the geodesic.");
    page.heading("How honest the stated uncertainty is");
    page.table(&honesty(result));
    page.note("Share of the truths in the regions of 90 %, before recalibration and after it.");
    page.finish()
}

fn errors(result: &HoldOut) -> Vec<Vec<String>> {
    let mut rows = vec![row([
        "held out",
        "learned from",
        "events",
        "network",
        "90 %",
        "fingerprints",
        "level grid",
        "centroid",
    ])];
    let figures = |metrics| {
        let of = |name: &str, format: fn(f64) -> String| shown(metrics, name, format);
        [
            of("events", |count| format!("{count:.0}")),
            of("error_km_median", km),
            of("error_km_p90", km),
            of("fingerprints.error_km_median", km),
            of("level_grid.error_km_median", km),
            of("centroid.error_km_median", km),
        ]
    };
    for HeldOutGroup { name, training_events, metrics, .. } in &result.groups {
        let start = [name.clone(), training_events.to_string()];
        rows.push(start.into_iter().chain(figures(metrics)).collect());
    }
    let start = ["all".to_owned(), String::new()];
    rows.push(start.into_iter().chain(figures(&result.all)).collect());
    rows
}

fn honesty(result: &HoldOut) -> Vec<Vec<String>> {
    let mut rows = vec![row([
        "held out",
        "before",
        "scaled",
        "95 % interval",
        "conformal",
        "looks different",
    ])];
    for group in &result.groups {
        let of = |name: &str| shown(&group.metrics, name, percent);
        let differs =
            group.shift.as_ref().map_or("–", |shift| if shift.differs { "yes" } else { "no" });
        rows.push(vec![
            group.name.clone(),
            of("coverage_90_uncalibrated"),
            of("coverage_90"),
            format!("{} … {}", of("coverage_90_low"), of("coverage_90_high")),
            of("coverage_90_conformal"),
            differs.to_owned(),
        ]);
    }
    rows
}
