//! The page of an evaluation: how far off, how honest, and what the network saw.

use heimdall_features::FeatureMap;
use heimdall_geo::{Ellipse, Receiver};
use heimdall_loss::CalibrationPoint;
use heimdall_train::{EvaluatedEvent, Evaluation};

use super::chart::{Chart, Series};
use super::map::Map;
use super::page::Page;
use super::spectrogram::spectrogram;
use crate::PipelineError;

/// Corners of a drawn ellipse.
const OUTLINE_POINTS: usize = 48;
/// Events whose ellipse is drawn: more would hide each other.
const ELLIPSES_MAX: usize = 16;
/// Events in the table of the worst.
const WORST: usize = 10;

/// The methods of the comparison: their name, the prefix of their metrics, their error.
type Method = (&'static str, &'static str, fn(&EvaluatedEvent) -> f64);

const METHODS: [Method; 4] = [
    ("network", "", |event| event.error_km),
    ("weighted centroid", "centroid.", |event| event.centroid_error_km),
    ("strongest receiver", "strongest.", |event| event.strongest_error_km),
    ("training mean", "training_mean.", |event| event.training_mean_error_km),
];

/// Writes the page of an evaluation, with the spectrograms of one of its events.
///
/// # Errors
///
/// Those of drawing the ellipses and the pictures.
pub(crate) fn evaluation_page(
    pipeline: &str,
    evaluation: &Evaluation,
    map_events: usize,
    example: (&EvaluatedEvent, &FeatureMap),
) -> Result<String, PipelineError> {
    let mut page = Page::new(&format!("{pipeline}: evaluation"));
    page.paragraph(&verdict(evaluation));
    page.table(&error_table(evaluation));
    page.note(
        "Errors in km along the geodesic, over all test events, those that no receiver hears \
        included. The network has not seen any transmitter of the test set.",
    );

    page.heading("Error distribution");
    page.figure(
        &error_chart(evaluation).to_svg(),
        "Share of the test events whose error is at most \
        the one below.",
    );

    page.heading("How honest the stated uncertainty is");
    page.table(&coverage_table(evaluation));
    page.figure(
        &calibration_chart(evaluation).to_svg(),
        "How often the truth lies in the region \
        that is stated to hold it: on the dashed line, stated and true uncertainty agree. Above it \
        the regions are too large, below it too small.",
    );

    page.heading("Map");
    page.figure(
        &map(evaluation, map_events)?.to_svg(),
        &format!(
            "{} of {} test events: truth (green), estimate (red), the line between them, and for {} \
             of them the ellipse that holds the truth with 90 % probability. Faint: other truths. \
             Triangles: receivers.",
            map_events.min(evaluation.events.len()),
            evaluation.events.len(),
            map_events.min(evaluation.events.len()).min(ELLIPSES_MAX)
        ),
    );

    page.heading("What the network sees of one event");
    let (event, features) = example;
    page.paragraph(&format!(
        "{}, heard by {} receivers, error {:.1} km. Level above the receiver's own noise floor; time \
         runs to the right, frequency upwards.",
        event.event, event.hearing_receivers, event.error_km
    ));
    page.figures(&spectrograms(&evaluation.receivers, features)?);

    page.heading("Worst events");
    page.table(&worst_table(evaluation));
    Ok(page.finish())
}

/// The outcome in two sentences.
fn verdict(evaluation: &Evaluation) -> String {
    let metric = |name: &str| evaluation.metrics.get(name).copied().unwrap_or(f64::NAN);
    format!(
        "Half of the {} test events are located within {:.1} km, nine of ten within {:.1} km; the \
         weighted centroid of the receivers reaches {:.1} and {:.1} km. The regions that are stated \
         to hold the truth in 90 % of the cases hold it in {:.1} % ({:.1} to {:.1} %, at 95 % \
         confidence); their median area is {:.0} km².",
        evaluation.events.len(),
        metric("error_km_median"),
        metric("error_km_p90"),
        metric("centroid.error_km_median"),
        metric("centroid.error_km_p90"),
        100.0 * metric("coverage_90"),
        100.0 * metric("coverage_90_low"),
        100.0 * metric("coverage_90_high"),
        metric("region_90_area_km2_median"),
    )
}

fn error_table(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let columns = ["median", "p68", "p90", "mean"];
    let mut rows = vec![["method", "median", "68 %", "90 %", "mean"].map(str::to_owned).to_vec()];
    for (name, prefix, _) in METHODS {
        let mut row = vec![name.to_owned()];
        for column in columns {
            let value = evaluation.metrics.get(&format!("{prefix}error_km_{column}"));
            row.push(value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}")));
        }
        rows.push(row);
    }
    rows
}

fn coverage_table(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let percent = |name: &str| {
        let value = evaluation.metrics.get(name);
        value.map_or_else(|| "–".to_owned(), |value| format!("{:.1} %", 100.0 * value))
    };
    let header = ["stated", "covered", "95 % interval", "before recalibration"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for stated in [50, 68, 90, 95] {
        rows.push(vec![
            format!("{stated} %"),
            percent(&format!("coverage_{stated}")),
            format!(
                "{} … {}",
                percent(&format!("coverage_{stated}_low")),
                percent(&format!("coverage_{stated}_high"))
            ),
            percent(&format!("coverage_{stated}_uncalibrated")),
        ]);
    }
    rows
}

/// The cumulative distribution of the errors of each method.
fn error_chart(evaluation: &Evaluation) -> Chart {
    let classes = ["estimate", "other", "receiver", "reference dashed"];
    let mut x_max: f64 = 1.0;
    let mut series = Vec::new();
    for ((name, prefix, error_km), class) in METHODS.into_iter().zip(classes) {
        let mut errors: Vec<f64> = evaluation.events.iter().map(error_km).collect();
        errors.sort_by(f64::total_cmp);
        let count = errors.len() as f64;
        let mut points = vec![(0.0, 0.0)];
        for (index, &error) in errors.iter().enumerate() {
            points.push((error, index as f64 / count));
            points.push((error, (index + 1) as f64 / count));
        }
        let p90 = evaluation.metrics.get(&format!("{prefix}error_km_p90"));
        x_max = x_max.max(1.2 * p90.copied().unwrap_or(0.0));
        series.push(Series { name: name.to_owned(), class, points });
    }
    Chart {
        x_label: "error, km".to_owned(),
        y_label: "share".to_owned(),
        x_max,
        y_max: 1.0,
        series,
    }
}

fn calibration_chart(evaluation: &Evaluation) -> Chart {
    let line = |name: &str, class, curve: &[CalibrationPoint]| {
        let inner = curve.iter().map(|point| (point.probability, point.coverage));
        let points = std::iter::once((0.0, 0.0)).chain(inner).chain([(1.0, 1.0)]).collect();
        Series { name: name.to_owned(), class, points }
    };
    Chart {
        x_label: "stated probability".to_owned(),
        y_label: "share covered".to_owned(),
        x_max: 1.0,
        y_max: 1.0,
        series: vec![
            line("honest", "reference dashed", &[]),
            line("before", "other", &evaluation.calibration_curve_uncalibrated),
            line("recalibrated", "estimate", &evaluation.calibration_curve),
        ],
    }
}

/// Events that are spread evenly over the errors, so that the map shows neither the best nor the
/// worst only.
fn chosen(evaluation: &Evaluation, count: usize) -> Vec<&EvaluatedEvent> {
    let mut sorted: Vec<&EvaluatedEvent> = evaluation.events.iter().collect();
    sorted.sort_by(|a, b| a.error_km.total_cmp(&b.error_km));
    let count = count.min(sorted.len());
    (0..count).map(|index| sorted[(2 * index + 1) * sorted.len() / (2 * count)]).collect()
}

fn map(evaluation: &Evaluation, count: usize) -> Result<Map, PipelineError> {
    let shown = chosen(evaluation, count);
    let outlined = chosen(evaluation, ELLIPSES_MAX.min(count));
    let ellipses = outlined.iter().map(|event| {
        Ok(Ellipse::of(&event.covariance, 0.9)?.outline(event.estimate, OUTLINE_POINTS))
    });
    let place = |receiver: &Receiver| evaluation.frame.to_local(&receiver.position);
    Ok(Map {
        receivers: evaluation.receivers.iter().map(|r| (r.name.clone(), place(r))).collect(),
        faint_truths: evaluation.events.iter().map(|event| event.truth).collect(),
        truths: shown.iter().chain(&outlined).map(|event| event.truth).collect(),
        estimates: shown.iter().chain(&outlined).map(|event| event.estimate).collect(),
        errors: shown.iter().chain(&outlined).map(|e| (e.truth, e.estimate)).collect(),
        ellipses: ellipses.collect::<Result<_, PipelineError>>()?,
        shown: Vec::new(),
    })
}

/// One picture for each receiver, all with the same colors.
fn spectrograms(
    receivers: &[Receiver],
    features: &FeatureMap,
) -> Result<Vec<(String, String)>, PipelineError> {
    let shape = features.shape;
    let highest_db = features.levels_db.iter().copied().fold(20.0_f32, f32::max);
    let planes = features.levels_db.chunks_exact(shape.bands * shape.frames);
    let pictures = receivers.iter().zip(planes).zip(&features.scalars).map(
        |((receiver, levels_db), scalars)| {
            let caption = match scalars {
                Some(scalars) => format!(
                    "{}: {:.0} dB SNR{}",
                    receiver.name,
                    scalars.snr_db,
                    if scalars.detected { "" } else { ", not detected" }
                ),
                None => format!("{}: no recording", receiver.name),
            };
            Ok((spectrogram(levels_db, shape.frames, (0.0, highest_db))?, caption))
        },
    );
    pictures.collect()
}

fn worst_table(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let mut sorted: Vec<&EvaluatedEvent> = evaluation.events.iter().collect();
    sorted.sort_by(|a, b| b.error_km.total_cmp(&a.error_km));
    let header = ["event", "receivers", "error km", "centroid's km", "90 % region km²"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for event in sorted.into_iter().take(WORST) {
        rows.push(vec![
            event.event.clone(),
            event.hearing_receivers.to_string(),
            format!("{:.1}", event.error_km),
            format!("{:.1}", event.centroid_error_km),
            format!("{:.0}", event.region_90_area_km2),
        ]);
    }
    rows
}
