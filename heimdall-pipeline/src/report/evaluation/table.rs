//! The sentences and tables of an evaluation.

use std::collections::BTreeMap;

use heimdall_train::{EvaluatedEvent, Evaluation, Grouping, Method, REPORTED_PERCENT};

/// Events in the table of the worst.
const WORST: usize = 10;

/// A group of test events: its name and its figures.
pub(super) type Group<'a> = (&'a str, &'a BTreeMap<String, f64>);

/// A number of kilometers with three digits that mean something.
pub(crate) fn km(value: f64) -> String {
    match value {
        value if value >= 9.95 => format!("{value:.1}"),
        value if value >= 0.995 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

/// A figure as text; a dash where there is none.
pub(crate) fn shown(
    figures: &BTreeMap<String, f64>,
    name: &str,
    format: impl Fn(f64) -> String,
) -> String {
    figures.get(name).map_or_else(|| "–".to_owned(), |&value| format(value))
}

pub(crate) fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// The outcome in three sentences.
pub(super) fn verdict(evaluation: &Evaluation) -> String {
    let of = |name: &str, format: fn(f64) -> String| shown(&evaluation.metrics, name, format);
    format!(
        "Half of the {} test events are located within {} km, nine of ten within {} km; the \
         weighted centroid of the receivers reaches {} and {} km. The regions that are stated to \
         hold the truth in 90 % of the cases hold it in {} ({} to {}, at 95 % confidence); before \
         recalibration they held it in {}. Their median area is {} km².",
        evaluation.events.len(),
        of("error_km_median", km),
        of("error_km_p90", km),
        of("centroid.error_km_median", km),
        of("centroid.error_km_p90", km),
        of("coverage_90", percent),
        of("coverage_90_low", percent),
        of("coverage_90_high", percent),
        of("coverage_90_uncalibrated", percent),
        of("region_90_area_km2_median", km),
    )
}

/// How well the test events were known before, in sentences.
pub(super) fn familiarity(evaluation: &Evaluation) -> String {
    let of = |name: &str, format: fn(f64) -> String| shown(&evaluation.metrics, name, format);
    let mut text = format!(
        "No fix is stated for {} of the events: nobody hears them, or the region is too large. For \
         the others the median error is {} km.",
        of("abstention_share", percent),
        of("answered.error_km_median", km),
    );
    if evaluation.metrics.contains_key("training_km_median") {
        text += &format!(
            " A test event is {} km from the nearest training event (median); {} of them are of a \
             source that is in training, too, and {} of such a session.",
            of("training_km_median", km),
            of("seen_source_share", percent),
            of("seen_session_share", percent),
        );
    }
    if evaluation.metrics.contains_key("control.guess_km_median") {
        text += &format!(
            " Control, with positions exchanged between events: the network's median error is {} \
             km, that of fingerprints {} km, and that of a guess {} km.",
            of("control.network.error_km_median", km),
            of("control.fingerprints.error_km_median", km),
            of("control.guess_km_median", km),
        );
    }
    text
}

/// The network beside the other methods, and the bounds.
pub(super) fn methods(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let metrics = &evaluation.metrics;
    let mut rows = vec![row(["method", "events", "median", "68 %", "90 %", "mean"])];
    let mut push = |title: &str, prefix: &str, events: String| {
        if !metrics.contains_key(&format!("{prefix}error_km_median")) {
            return;
        }
        let columns = ["median", "p68", "p90", "mean"]
            .map(|column| shown(metrics, &format!("{prefix}error_km_{column}"), km));
        rows.push([title.to_owned(), events].into_iter().chain(columns).collect());
    };
    push("network", "", evaluation.events.len().to_string());
    for method in Method::ALL {
        let events = shown(metrics, &format!("{method}.events"), |count| format!("{count:.0}"));
        push(method.title(), &format!("{method}."), events);
    }
    push("… of four receivers and more", "tdoa_4_receivers.", String::new());
    for (title, name) in [
        ("bound by levels", "level_bound_km_median"),
        ("bound by times", "arrival_bound_km_median"),
    ] {
        if metrics.contains_key(name) {
            let mut cells = row([title, "", "", "", "", ""]);
            cells[2] = shown(metrics, name, km);
            rows.push(cells);
        }
    }
    rows
}

/// Coverage before recalibration and after each kind of it.
pub(super) fn coverage(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let metrics = &evaluation.metrics;
    let mut rows = vec![row([
        "stated",
        "before",
        "scaled",
        "95 % interval",
        "conformal",
        "conformal, by receivers",
    ])];
    for stated in REPORTED_PERCENT {
        let of = |suffix: &str| shown(metrics, &format!("coverage_{stated}{suffix}"), percent);
        rows.push(vec![
            format!("{stated} %"),
            of("_uncalibrated"),
            of(""),
            format!("{} … {}", of("_low"), of("_high")),
            of("_conformal"),
            of("_conformal_receivers"),
        ]);
    }
    rows
}

/// Scores before and after recalibration.
pub(super) fn scores(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let number = |name: &str| shown(&evaluation.metrics, name, |value| format!("{value:.3}"));
    let mut rows = vec![row(["score", "before", "after"])];
    for (title, name) in [
        ("negative log-likelihood, nats", "nll"),
        ("KS distance of the PIT", "pit_ks"),
        ("normalized calibration error", "ence"),
    ] {
        rows.push(vec![title.to_owned(), number(&format!("{name}_uncalibrated")), number(name)]);
    }
    for (title, name) in [
        ("energy score, km", "energy_score_km"),
        ("CRPS to the east, km", "crps_east_km"),
        ("CRPS to the north, km", "crps_north_km"),
        ("median area of the regions of 90 %, km²", "region_90_area_km2_median"),
        ("factor of the standard deviations", "sigma_scale"),
    ] {
        rows.push(vec![title.to_owned(), String::new(), number(name)]);
    }
    rows
}

/// The groups of a grouping, in the order of the numbers in their names.
pub(super) fn groups(evaluation: &Evaluation, grouping: Grouping) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = evaluation
        .groups
        .get(&grouping)
        .into_iter()
        .flatten()
        .map(|(name, figures)| (name.as_str(), figures))
        .collect();
    let number = |name: &str| {
        let word = name.split(' ').find_map(|word| word.parse::<f64>().ok());
        // What is beyond the last limit comes after it.
        word.map_or(f64::MAX, |word| if name.starts_with("from") { 2.0 * word } else { word })
    };
    groups.sort_by(|a, b| number(a.0).total_cmp(&number(b.0)));
    groups
}

/// The figures of groups that matter most.
pub(super) fn group_rows(groups: &[Group<'_>]) -> Vec<Vec<String>> {
    let mut rows = vec![row([
        "group",
        "events",
        "median km",
        "90 % km",
        "centroid's median",
        "90 % covered",
        "energy score km",
        "region km²",
    ])];
    for (name, figures) in groups {
        let of = |name: &str, format: fn(f64) -> String| shown(figures, name, format);
        rows.push(vec![
            (*name).to_owned(),
            of("events", |count| format!("{count:.0}")),
            of("error_km_median", km),
            of("error_km_p90", km),
            of("centroid.error_km_median", km),
            of("coverage_90", percent),
            of("energy_score_km", km),
            of("region_90_area_km2_median", km),
        ]);
    }
    rows
}

/// The events with the largest errors.
pub(super) fn worst(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let mut sorted: Vec<&EvaluatedEvent> = evaluation.events.iter().collect();
    sorted.sort_by(|a, b| b.error_km.total_cmp(&a.error_km));
    let mut rows =
        vec![row(["event", "receivers", "error km", "centroid's km", "90 % region km²"])];
    for event in sorted.into_iter().take(WORST) {
        let centroid = event.baselines.get(&Method::Centroid);
        rows.push(vec![
            event.event.clone(),
            event.hearing_receivers.to_string(),
            km(event.error_km),
            centroid.map_or_else(|| "–".to_owned(), |centroid| km(centroid.error_km)),
            km(event.region_90_area_km2),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilometers_have_three_digits() {
        assert_eq!([73.26, 9.96, 9.94, 0.2071].map(km), ["73.3", "10.0", "9.94", "0.207"]);
    }
}
