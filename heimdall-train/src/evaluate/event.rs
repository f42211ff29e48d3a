//! What is said of one event, and how well it was known before.

use std::collections::{BTreeMap, HashSet};

use heimdall_data::HeimdallDataset;
use heimdall_geo::{Covariance, Ellipse, GeoError, LocalFrame, LocalPosition};
use heimdall_loss::percentile;
use rayon::prelude::*;

use super::{Judge, Known};
use crate::predict::Prediction;
use crate::{BaselineAnswer, EvaluatedEvent, TrainError};

impl Known {
    /// Puts what is known of each event beside its truth.
    pub(super) fn evaluate(&self, judge: &Judge<'_>) -> Result<Vec<EvaluatedEvent>, TrainError> {
        (0..self.truths.len())
            .into_par_iter()
            .map(|index| {
                self.evaluate_event(index, judge).map_err(|source| {
                    let event = self.set.labels()[index].event.clone();
                    TrainError::Estimate { event, source }
                })
            })
            .collect()
    }

    fn evaluate_event(&self, index: usize, judge: &Judge<'_>) -> Result<EvaluatedEvent, GeoError> {
        let Judge { baselines, recalibration, config, .. } = judge;
        let (truth, features) = (self.truths[index], &self.features[index]);
        let prediction = self.predictions[index];
        let label = self.set.labels()[index].clone();
        let frame = self.set.header().frame;

        let scaled = Prediction {
            covariance: prediction.covariance.scaled(recalibration.sigma_scale.powi(2)),
            ..prediction
        };
        let region_90_area_km2 = region_90_area_km2(&scaled.covariance)?;
        let area_km2_max = config.abstention_area_share * baselines.region_side_km().powi(2);
        let hearing_receivers = features.hearing_receivers();
        let nearest_km = judge.known_positions().iter().map(|place| place.distance_km(&truth));
        let baseline_answers = baselines.locate(features)?.into_iter().map(|(method, position)| {
            let error_km = geodesic_km(&frame, truth, position)?;
            Ok((method, BaselineAnswer { position, error_km }))
        });
        Ok(EvaluatedEvent {
            waveform: label.waveform,
            hearing_receivers,
            timed_receivers: features.arrivals.iter().flatten().count(),
            nearest_training_km: nearest_km.min_by(f64::total_cmp),
            truth,
            estimate: scaled.mean_km,
            covariance: scaled.covariance,
            abstains: hearing_receivers == 0 || region_90_area_km2 > area_km2_max,
            error_km: geodesic_km(&frame, truth, scaled.mean_km)?,
            mahalanobis_squared: scaled.mahalanobis_squared(truth),
            region_90_area_km2,
            baselines: baseline_answers.collect::<Result<_, GeoError>>()?,
            level_bound_km: baselines.level_bound_km(truth, features),
            arrival_bound_km: baselines.arrival_bound_km(truth, features),
            event: label.event,
            session: label.session,
            source: label.source,
        })
    }
}

/// How near the test events are to the training events: figures under flat names.
pub(super) fn familiarity(
    training: &HeimdallDataset,
    events: &[EvaluatedEvent],
) -> BTreeMap<String, f64> {
    let sources: HashSet<&str> = training.labels().iter().map(|l| l.source.as_str()).collect();
    let sessions: HashSet<&str> = training.labels().iter().map(|l| l.session.as_str()).collect();
    let share = |seen: &dyn Fn(&EvaluatedEvent) -> bool| {
        events.iter().filter(|event| seen(event)).count() as f64 / events.len() as f64
    };
    let distances_km: Vec<f64> =
        events.iter().filter_map(|event| event.nearest_training_km).collect();
    let median_km = percentile(&distances_km, 50.0).expect("there are training and test events");
    [
        ("training_km_median", median_km),
        ("seen_source_share", share(&|event| sources.contains(event.source.as_str()))),
        ("seen_session_share", share(&|event| sessions.contains(event.session.as_str()))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Length of the geodesic between two points of the plane, lifted back onto the Earth.
pub(super) fn geodesic_km(
    frame: &LocalFrame,
    from: LocalPosition,
    to: LocalPosition,
) -> Result<f64, GeoError> {
    Ok(frame.to_position(&from)?.distance_km(&frame.to_position(&to)?))
}

/// Area of the smallest region that holds 90 % of a Gaussian.
fn region_90_area_km2(covariance: &Covariance) -> Result<f64, GeoError> {
    Ok(Ellipse::of(covariance, 0.9)?.area_km2())
}
