//! Figures worked out by hand.

use heimdall_geo::{Covariance, LocalPosition};

use super::*;
use crate::{BaselineAnswer, ConformalLimits};

/// An event with an error of `error_km` to the east, and a round covariance of 2 km.
fn event(error_km: f64) -> EvaluatedEvent {
    let truth = LocalPosition { east_km: 3.0, north_km: 4.0 };
    let answer = |error_km| BaselineAnswer { position: truth, error_km };
    EvaluatedEvent {
        event: String::new(),
        session: String::new(),
        source: String::new(),
        waveform: Some("cw".to_owned()),
        hearing_receivers: 3,
        timed_receivers: 4,
        nearest_training_km: Some(error_km / 10.0),
        truth,
        estimate: LocalPosition { east_km: 3.0 + error_km, ..truth },
        covariance: Covariance::from_cholesky(2.0, 0.0, 2.0),
        abstains: error_km > 50.0,
        error_km,
        mahalanobis_squared: error_km * error_km / 4.0,
        region_90_area_km2: 10.0 * error_km,
        baselines: [
            (Method::Centroid, answer(50.5)),
            (Method::Strongest, answer(2.0 * error_km)),
            (Method::TrainingMean, answer(7.0)),
            (Method::Tdoa, answer(0.1)),
        ]
        .into(),
        level_bound_km: Some(error_km),
        arrival_bound_km: None,
    }
}

fn recalibration(sigma_scale: f64) -> Recalibration {
    // The region of 50 % ends at 1, that of 90 % nowhere.
    let overall = ConformalLimits([Some(1.0), Some(4.0), None, None]);
    let by_receivers = [(3, ConformalLimits([Some(4.0); 4]))].into();
    Recalibration { sigma_scale, overall, by_receivers }
}

fn figures_of(errors_km: std::ops::RangeInclusive<i32>, scale: f64) -> BTreeMap<String, f64> {
    let events: Vec<EvaluatedEvent> = errors_km.map(|km| event(f64::from(km))).collect();
    figures(&events.iter().collect::<Vec<_>>(), &recalibration(scale))
}

fn assert_figure(figures: &BTreeMap<String, f64>, name: &str, expected: f64) {
    let value = figures[name];
    assert!((value - expected).abs() < 1e-9, "`{name}` is {value}, not {expected}");
}

/// Errors of 1 … 101 km have their percentile p at 1 + p; 51 of them abstain.
#[test]
fn errors_are_summarized_beside_those_of_the_other_methods() {
    let figures = figures_of(1..=101, 1.0);

    assert_figure(&figures, "events", 101.0);
    assert_figure(&figures, "error_km_median", 51.0);
    assert_figure(&figures, "error_km_p68", 69.0);
    assert_figure(&figures, "error_km_p90", 91.0);
    assert_figure(&figures, "error_km_mean", 51.0);
    assert_figure(&figures, "strongest.error_km_p90", 182.0);
    assert_figure(&figures, "centroid.error_km_median", 50.5);
    assert_figure(&figures, "training_mean.error_km_mean", 7.0);
    assert_figure(&figures, "tdoa.events", 101.0);
    assert_figure(&figures, "tdoa_4_receivers.error_km_p90", 0.1);
    assert_figure(&figures, "level_bound_km_median", 51.0);
    assert_figure(&figures, "abstention_share", 51.0 / 101.0);
    assert_figure(&figures, "answered.error_km_median", 25.5);
    assert_figure(&figures, "region_90_area_km2_median", 510.0);
    assert_figure(&figures, "better_than_centroid_share", 50.0 / 101.0);
    for missing in ["fingerprints.error_km_median", "arrival_bound_km_median"] {
        assert!(!figures.contains_key(missing), "{missing}");
    }
}

/// By hand, with σ = 2 km: the region of 90 % ends at 2 √4.605 = 4.292 km, so errors of 1 … 4 km
/// are inside and 5 … 10 km outside. Before a scale of 2, σ was 1 km and it ended at 2.146 km.
#[test]
fn coverage_is_reported_before_and_after_recalibration() {
    let figures = figures_of(1..=10, 2.0);

    assert_figure(&figures, "coverage_90", 0.4);
    assert_figure(&figures, "coverage_90_uncalibrated", 0.2);
    // The region of 50 % ends at 2 √1.386 = 2.355 km, and at 1.177 km.
    assert_figure(&figures, "coverage_50", 0.2);
    assert_figure(&figures, "coverage_50_uncalibrated", 0.1);
    assert!(figures["coverage_90_low"] < 0.4 && 0.4 < figures["coverage_90_high"]);
    // The transform of m² is 1 − exp(−m² / 2); 38.5 is the mean of 1, 4, … 100.
    assert_figure(&figures, "nll", 38.5 / 8.0 + 4_f64.ln() + TAU.ln());
    assert_figure(&figures, "nll_uncalibrated", 38.5 / 2.0 + TAU.ln());
    let transforms: Vec<f64> = (1..=10).map(|km| 1.0 - (-f64::from(km * km) / 8.0).exp()).collect();
    assert_figure(&figures, "pit_ks", kolmogorov_smirnov(&transforms).unwrap());
    // m² is 0.25, 1, 2.25, 4, … : two are within 1, four within 4.
    assert_figure(&figures, "coverage_50_conformal", 0.2);
    assert_figure(&figures, "coverage_90_conformal_receivers", 0.4);
    assert!(!figures.contains_key("coverage_90_conformal"));
    // All covariances are equal, so that each of the two bins has RMV 2 (1 before the scale); the
    // root of the mean square of 1 … 5 over two axes is √5.5, of 6 … 10 √33, in one order or the other.
    let both = (5.5_f64.sqrt() + 33_f64.sqrt()) / 2.0;
    assert_figure(&figures, "ence", both / 2.0 - 1.0);
    assert_figure(&figures, "ence_uncalibrated", both - 1.0);
}

/// The miss is to the east alone, so that the score to the north is that of a hit: 2 (√2 − 1) / √π.
#[test]
fn scores_are_means_over_the_events() {
    let figures = figures_of(3..=3, 1.0);

    let hit_km = 2.0 * (2_f64.sqrt() - 1.0) / std::f64::consts::PI.sqrt();
    assert_figure(&figures, "crps_north_km", hit_km);
    assert_figure(&figures, "crps_east_km", gaussian_crps(-3.0, 2.0));
    assert_figure(&figures, "energy_score_km", energy_score([-3.0, 0.0], [4.0, 0.0, 4.0]));
}

#[test]
fn curve_ends_before_certainty() {
    let events: Vec<EvaluatedEvent> = (1..=10).map(|km| event(f64::from(km))).collect();

    let [after, before] = curves(&events.iter().collect::<Vec<_>>(), 2.0);

    assert_eq!((after.len(), before.len()), (19, 19));
    assert!((after[17].probability - 0.9).abs() < 1e-12);
    assert!((after[17].coverage - 0.4).abs() < 1e-12);
    assert!((before[17].coverage - 0.2).abs() < 1e-12);
}

#[test]
fn every_event_is_in_one_group_of_each_grouping() {
    let mut events: Vec<EvaluatedEvent> = (1..=10).map(|km| event(f64::from(km))).collect();
    events[0].hearing_receivers = 1;
    events[1].waveform = None;

    let groups = group_figures(&events, &recalibration(1.0));

    let counts = |grouping| -> Vec<(String, f64)> {
        groups[&grouping].iter().map(|(name, figures)| (name.clone(), figures["events"])).collect()
    };
    assert_eq!(counts(Grouping::Receivers), [("1".to_owned(), 1.0), ("3".to_owned(), 9.0)]);
    assert_eq!(counts(Grouping::Waveform), [("cw".to_owned(), 9.0)]);
    // Distances of 0.1, 0.2 … 1.0 km.
    assert_eq!(
        counts(Grouping::TrainingDistance),
        [
            ("below 0.2 km".to_owned(), 1.0),
            ("below 1 km".to_owned(), 8.0),
            ("below 2 km".to_owned(), 1.0)
        ]
    );
}

#[test]
fn nothing_has_no_figures() {
    assert!(figures(&[], &recalibration(1.0)).is_empty());
}
