//! The page of an evaluation: how far off, how honest, and what the network saw.

mod robustness;
pub(super) mod table;

use heimdall_features::FeatureMap;
use heimdall_geo::{Ellipse, Receiver};
use heimdall_loss::CalibrationPoint;
use heimdall_train::{EvaluatedEvent, Evaluation, Grouping, Method};

use super::chart::{Chart, Series};
use super::interval::{IntervalChart, IntervalRow};
use super::map::Map;
use super::page::{Page, standalone_svg};
use super::spectrogram::spectrogram;
use crate::PipelineError;

/// Corners of a drawn ellipse.
const OUTLINE_POINTS: usize = 48;
/// Events whose ellipse is drawn: more would hide each other.
const ELLIPSES_MAX: usize = 16;

/// The page of an evaluation, and its figures as files of their own.
#[derive(Debug)]
pub(crate) struct EvaluationReport {
    /// The page, as one file of HTML.
    pub(crate) html: String,
    /// Names of files and their SVG.
    pub(crate) figures: Vec<(String, String)>,
}

/// A test event with what the network saw of it.
pub(crate) type SeenEvent<'a> = (&'a EvaluatedEvent, FeatureMap);

/// Writes the page of an evaluation, with the spectrograms of some of its events.
///
/// # Errors
///
/// Those of drawing the ellipses and the pictures.
pub(crate) fn evaluation_report(
    pipeline: &str,
    evaluation: &Evaluation,
    map_events: usize,
    seen: &[SeenEvent<'_>],
) -> Result<EvaluationReport, PipelineError> {
    let mut figures = Vec::new();
    let mut page = Page::new(&format!("{pipeline}: evaluation"));
    let mut draw = |page: &mut Page, name: &str, svg: &str, caption: &str| {
        page.figure(svg, caption);
        figures.push((format!("{name}.svg"), standalone_svg(svg)));
    };

    page.paragraph(&table::verdict(evaluation));
    if let Some(warning) = robustness::shift_warning(evaluation.shift.as_ref()) {
        page.warning(&warning);
    }
    page.table(&table::methods(evaluation));
    page.note(
        "Errors in km along the geodesic, over the test events for which a method has an answer. The \
        bound is what no method without a bias can beat, by levels or by times of arrival.",
    );
    page.paragraph(&table::familiarity(evaluation));

    page.heading("Error distribution");
    let caption = "Share of the test events whose error is at most the one below.";
    draw(&mut page, "errors", &error_chart(evaluation).to_svg(), caption);

    page.heading("How honest the stated uncertainty is");
    page.table(&table::coverage(evaluation));
    page.note(
        "Scaled: standard deviations times one factor. Conformal: the region ends at a rank of the \
        calibration events, all of them or those that as many receivers hear.",
    );
    draw(
        &mut page,
        "calibration",
        &calibration_chart(evaluation).to_svg(),
        "How often the truth lies in the region that is stated to hold it: on the dashed line, \
        stated and true uncertainty agree. Above it the regions are too large, below it too small.",
    );
    page.table(&table::scores(evaluation));

    for (grouping, title, name) in [
        (Grouping::Receivers, "By the number of receivers that hear", "receivers"),
        (Grouping::Waveform, "By what was transmitted", "waveforms"),
        (Grouping::TrainingDistance, "By distance to the nearest training event", "distances"),
    ] {
        let groups = table::groups(evaluation, grouping);
        if groups.is_empty() {
            continue;
        }
        page.heading(title);
        page.table(&table::group_rows(&groups));
        draw(
            &mut page,
            &format!("coverage-{name}"),
            &coverage_chart(&groups).to_svg(),
            "Share of the truths in the regions of 90 %, with its 95 % interval.",
        );
    }

    robustness::add(&mut page, evaluation);

    page.heading("Map");
    let shown = chosen(evaluation, map_events);
    let outlined = outlined(&shown);
    draw(
        &mut page,
        "map",
        &map(evaluation, &shown, &outlined)?.to_svg(),
        &format!(
            "{} of {} test events: truth (green), estimate (red), the line between them, and for {} \
             of them the ellipse that holds the truth with 90 % probability. Faint: other truths. \
             Triangles: receivers.",
            shown.len(),
            evaluation.events.len(),
            outlined.len()
        ),
    );

    page.heading("Worst events");
    page.table(&table::worst(evaluation));
    for (event, features) in seen {
        page.paragraph(&format!(
            "{}: heard by {} receivers, error {:.1} km. Level above the receiver's own noise floor; \
             time runs to the right, frequency upwards.",
            event.event, event.hearing_receivers, event.error_km
        ));
        page.figures(&spectrograms(&evaluation.receivers, features)?);
    }
    Ok(EvaluationReport { html: page.finish(), figures })
}

/// The cumulative distribution of the errors of the methods that answer for most events.
fn error_chart(evaluation: &Evaluation) -> Chart {
    type ErrorOf = Box<dyn Fn(&EvaluatedEvent) -> Option<f64>>;
    let baseline = |method: Method| -> ErrorOf {
        Box::new(move |event| Some(event.baselines.get(&method)?.error_km))
    };
    let network: ErrorOf = Box::new(|event| Some(event.error_km));
    let lines: [(&str, &'static str, ErrorOf); 6] = [
        ("network", "estimate", network),
        (Method::Fingerprints.title(), "fourth", baseline(Method::Fingerprints)),
        (Method::LevelGrid.title(), "other", baseline(Method::LevelGrid)),
        (Method::Centroid.title(), "receiver", baseline(Method::Centroid)),
        (Method::Tdoa.title(), "fifth", baseline(Method::Tdoa)),
        (Method::TrainingMean.title(), "reference dashed", baseline(Method::TrainingMean)),
    ];
    let mut x_max: f64 = 0.0;
    let mut series = Vec::new();
    for (name, class, error_km) in lines {
        let mut errors: Vec<f64> = evaluation.events.iter().filter_map(error_km).collect();
        if errors.is_empty() {
            continue;
        }
        errors.sort_by(f64::total_cmp);
        let count = evaluation.events.len() as f64;
        let mut points = vec![(0.0, 0.0)];
        for (index, &error) in errors.iter().enumerate() {
            points.push((error, index as f64 / count));
            points.push((error, (index + 1) as f64 / count));
        }
        // A method that seldom answers does not stretch the axis.
        if 2 * errors.len() > evaluation.events.len() {
            x_max = x_max.max(1.2 * errors[errors.len() * 9 / 10]);
        }
        series.push(Series { name: name.to_owned(), class, points });
    }
    Chart {
        x_label: "error, km".to_owned(),
        y_label: "share of all events".to_owned(),
        // Errors of nothing still need an axis.
        x_max: x_max.max(1e-3),
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

/// Coverage of the regions of 90 % by group.
fn coverage_chart(groups: &[table::Group<'_>]) -> IntervalChart {
    IntervalChart {
        x_label: "share covered at 90 %".to_owned(),
        expected: 0.9,
        rows: groups
            .iter()
            .map(|(name, figures)| IntervalRow {
                name: name.to_string(),
                share: figures["coverage_90"],
                low: figures["coverage_90_low"],
                high: figures["coverage_90_high"],
            })
            .collect(),
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

/// Every so-manieth of the shown events, so that few enough have an ellipse.
fn outlined<'a>(shown: &[&'a EvaluatedEvent]) -> Vec<&'a EvaluatedEvent> {
    let step = shown.len().div_ceil(ELLIPSES_MAX).max(1);
    shown.iter().copied().skip(step / 2).step_by(step).collect()
}

fn map(
    evaluation: &Evaluation,
    shown: &[&EvaluatedEvent],
    outlined: &[&EvaluatedEvent],
) -> Result<Map, PipelineError> {
    let ellipses = outlined.iter().map(|event| {
        Ok(Ellipse::of(&event.covariance, 0.9)?.outline(event.estimate, OUTLINE_POINTS))
    });
    let place = |receiver: &Receiver| evaluation.frame.to_local(&receiver.position);
    Ok(Map {
        receivers: evaluation.receivers.iter().map(|r| (r.name.clone(), place(r))).collect(),
        faint_truths: evaluation.events.iter().map(|event| event.truth).collect(),
        truths: shown.iter().map(|event| event.truth).collect(),
        estimates: shown.iter().map(|event| event.estimate).collect(),
        errors: shown.iter().map(|event| (event.truth, event.estimate)).collect(),
        ellipses: ellipses.collect::<Result<_, PipelineError>>()?,
        shown: Vec::new(),
    })
}

/// One picture for each receiver, all with the same colors; none without levels by band.
fn spectrograms(
    receivers: &[Receiver],
    features: &FeatureMap,
) -> Result<Vec<(String, String)>, PipelineError> {
    let shape = features.shape;
    let highest_db = features.levels_db.iter().copied().fold(20.0_f32, f32::max);
    let planes = features.levels_db.chunks_exact((shape.bands * shape.frames).max(1));
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
