//! What the page of an evaluation says of data that is not as it was in training.

use heimdall_train::{DataShift, Evaluation, ShiftComparison, ShiftQuantity};

use super::super::page::Page;
use super::table::{km, percent, row, shown};

/// Comparisons that are listed, the most different first.
const COMPARISONS: usize = 10;

/// Adds what is known about shift: the test of it, another world, and a receiver less.
pub(super) fn add(page: &mut Page, evaluation: &Evaluation) {
    if let Some(shift) = &evaluation.shift {
        page.heading("Does the test data look like the training data?");
        page.paragraph(&outcome(shift));
        page.table(&comparisons(shift));
        page.note(&statement(shift));
    }
    if let Some(other) = &evaluation.new_world {
        page.heading("The same world and a new one");
        if let Some(warning) = shift_warning(other.shift.as_ref()) {
            page.paragraph(&warning);
        }
        page.table(&worlds(evaluation));
        page.note(
            "What was learned and what was calibrated in one world, on events of another: other \
            hills, gains and detours at the same receivers. The other methods learned from the same \
            training events.",
        );
    }
    if !evaluation.without_receiver.is_empty() {
        page.heading("Without one receiver");
        page.table(&losses(evaluation));
        page.note(
            "The test events that a receiver detects, with it and as if it had recorded nothing. The \
            network was not trained again.",
        );
    }
}

/// Says plainly that events are strange, if they are.
pub(super) fn shift_warning(shift: Option<&DataShift>) -> Option<String> {
    let shift = shift.filter(|shift| shift.differs || !shift.lost_receivers.is_empty())?;
    Some(format!(
        "The test events do not look like the training events. {} What was learned and what was \
         calibrated need not hold here.",
        findings(shift).join(" ")
    ))
}

/// What was found, in sentences.
fn findings(shift: &DataShift) -> Vec<String> {
    let mut sentences = Vec::new();
    for comparison in shift.comparisons.iter().filter(|comparison| comparison.differs) {
        let &ShiftComparison { training_median, test_median, .. } = comparison;
        sentences.push(match comparison.quantity {
            ShiftQuantity::NearestDifferenceDb => format!(
                "The levels of a test event differ by {test_median:.1} dB from those of the most \
                 similar training event (median), those of a training event by \
                 {training_median:.1} dB."
            ),
            ShiftQuantity::HearingReceivers => format!(
                "A test event is heard by {test_median:.0} receivers, a training event by \
                 {training_median:.0} (median)."
            ),
            ShiftQuantity::LevelResidualDb => format!(
                "What {} hears is {:+.1} dB from what it heard at the same distance in training.",
                comparison.receiver.as_deref().unwrap_or("a receiver"),
                test_median - training_median
            ),
            ShiftQuantity::NoiseDb => format!(
                "The noise of {} is {:+.1} dB from what it was in training.",
                comparison.receiver.as_deref().unwrap_or("a receiver"),
                test_median - training_median
            ),
        });
    }
    if !shift.lost_receivers.is_empty() {
        let names = shift.lost_receivers.join(", ");
        sentences.push(format!("No test event is heard by {names}, unlike training events."));
    }
    sentences
}

fn outcome(shift: &DataShift) -> String {
    let differing = shift.comparisons.iter().filter(|comparison| comparison.differs).count();
    let count = shift.comparisons.len();
    let mut text = match differing {
        0 => format!("None of {count} comparisons tells the test events from the training events."),
        _ => format!(
            "{differing} of {count} comparisons tell the test events from the training events."
        ),
    };
    if !shift.lost_receivers.is_empty() {
        text += &format!(" Not heard of in the test: {}.", shift.lost_receivers.join(", "));
    }
    text
}

fn statement(shift: &DataShift) -> String {
    format!(
        "Kolmogorov–Smirnov tests of two samples at {} for all together. Events of one session or one \
         place count as one, so that few of them never differ for certain. Levels beyond path loss are \
         relative to the path loss that fits the training events.",
        percent(shift.significance)
    )
}

fn comparisons(shift: &DataShift) -> Vec<Vec<String>> {
    let mut sorted: Vec<&ShiftComparison> = shift.comparisons.iter().collect();
    let excess = |comparison: &ShiftComparison| comparison.distance / comparison.distance_max;
    // What is of no receiver comes first.
    sorted.sort_by(|a, b| {
        let of_all = a.receiver.is_some().cmp(&b.receiver.is_some());
        of_all.then(excess(b).total_cmp(&excess(a)))
    });
    let mut rows = vec![row([
        "quantity",
        "training",
        "test",
        "groups",
        "distance",
        "differs from",
        "differs",
    ])];
    for comparison in sorted.into_iter().take(COMPARISONS) {
        let name = match (comparison.quantity, comparison.receiver.as_deref()) {
            (ShiftQuantity::NearestDifferenceDb, _) => "most similar event, dB".to_owned(),
            (ShiftQuantity::HearingReceivers, _) => "receivers that hear".to_owned(),
            (ShiftQuantity::LevelResidualDb, receiver) => {
                format!("{} beyond path loss, dB", receiver.unwrap_or_default())
            }
            (ShiftQuantity::NoiseDb, receiver) => {
                format!("noise of {}, dB", receiver.unwrap_or_default())
            }
        };
        rows.push(vec![
            name,
            format!("{:.1}", comparison.training_median),
            format!("{:.1}", comparison.test_median),
            format!("{} / {}", comparison.training_groups, comparison.test_groups),
            format!("{:.2}", comparison.distance),
            format!("{:.2}", comparison.distance_max),
            if comparison.differs { "yes" } else { "no" }.to_owned(),
        ]);
    }
    rows
}

fn worlds(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let mut rows = vec![row(["figure", "same world", "new world"])];
    let mut push = |title: &str, name: &str, format: fn(f64) -> String| {
        let of = |prefix: &str| shown(&evaluation.metrics, &format!("{prefix}{name}"), format);
        rows.push(vec![title.to_owned(), of(""), of("new_world.")]);
    };
    push("events", "events", |count| format!("{count:.0}"));
    push("network, median km", "error_km_median", km);
    push("network, 90 % km", "error_km_p90", km);
    push("nearest fingerprints, median km", "fingerprints.error_km_median", km);
    push("level grid, median km", "level_grid.error_km_median", km);
    push("weighted centroid, median km", "centroid.error_km_median", km);
    push("time differences, median km", "tdoa.error_km_median", km);
    push("90 % covered, before", "coverage_90_uncalibrated", percent);
    push("90 % covered, scaled", "coverage_90", percent);
    push("90 % covered, conformal", "coverage_90_conformal", percent);
    push("negative log-likelihood, nats", "nll", |nats| format!("{nats:.3}"));
    rows
}

fn losses(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let mut rows = vec![row([
        "receiver",
        "events",
        "median km with it",
        "without",
        "90 % covered with it",
        "without",
        "fingerprints' median with it",
        "without",
    ])];
    for loss in &evaluation.without_receiver {
        let pair = |name: &str, format: fn(f64) -> String| {
            [shown(&loss.with, name, format), shown(&loss.without, name, format)]
        };
        let events = shown(&loss.with, "events", |count| format!("{count:.0}"));
        rows.push(
            [loss.receiver.clone(), events]
                .into_iter()
                .chain(pair("error_km_median", km))
                .chain(pair("coverage_90", percent))
                .chain(pair("fingerprints.error_km_median", km))
                .collect(),
        );
    }
    rows
}
