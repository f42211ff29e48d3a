//! Tests of the posterior by levels: against integrals by brute force, and by simulation.

use LevelObservation::{Absent, Heard, NotHeard};

use super::*;
use crate::LocalPosition;
use crate::PathLoss;
use crate::level::normal::distribution;
use crate::mahalanobis_squared_at;
use crate::random::Random;

fn local(east_km: f64, north_km: f64) -> LocalPosition {
    LocalPosition { east_km, north_km }
}

fn loss() -> PathLoss {
    PathLoss {
        level_1km_db: 55.0,
        exponent: 3.5,
        sigma_db: 6.0,
        threshold_db: Some(3.0),
        outage: 0.05,
    }
}

/// Five receivers in a square of 100 km.
fn model(power_sigma_db: Option<f64>) -> LevelModel {
    let receivers = vec![
        local(10.0, 15.0),
        local(90.0, 20.0),
        local(50.0, 50.0),
        local(20.0, 85.0),
        local(80.0, 90.0),
    ];
    LevelModel::uniform(receivers, loss(), power_sigma_db)
}

fn levels(power_sigma_db: Option<f64>) -> LevelGrid {
    let grid = PlaneGrid::new(local(0.0, 0.0), local(100.0, 100.0), 2.0).unwrap();
    LevelGrid::new(grid, &model(power_sigma_db), &LevelGridConfig::default()).unwrap()
}

/// The likelihood of a place, integrated over the power in steps of 0.02 dB.
fn integral(model: &LevelModel, place: LocalPosition, observations: &[LevelObservation]) -> f64 {
    let at_power = |power_db: f64| -> f64 {
        let prior = model.power_sigma_db.map_or(1.0, |s| (-0.5 * (power_db / s).powi(2)).exp());
        let receivers = observations.iter().enumerate().map(|(receiver, observation)| {
            let loss = &model.path_losses[receiver];
            let expected_db = model.level_db(receiver, place) + power_db;
            match observation {
                Heard(level_db) => {
                    (-0.5 * ((level_db - expected_db) / loss.sigma_db).powi(2)).exp()
                }
                NotHeard => {
                    let below = distribution((3.0 - expected_db) / loss.sigma_db);
                    loss.outage + (1.0 - loss.outage) * below
                }
                Absent => 1.0,
            }
        });
        prior * receivers.product::<f64>()
    };
    (-5000..5000).map(|step| at_power(f64::from(step) * 0.02)).sum()
}

/// The quadrature is off by less than 1 % where the probability is more than a thousandth of the
/// largest one.
#[test]
fn posterior_is_the_integral_over_the_power() {
    for power_sigma_db in [None, Some(8.0)] {
        let (levels, model) = (levels(power_sigma_db), model(power_sigma_db));
        let observations = [Heard(12.0), NotHeard, Heard(20.0), Absent, NotHeard];

        let posterior = levels.posterior(&observations).unwrap();

        let cells = (0..levels.grid().cells()).step_by(37);
        let reference: Vec<(usize, f64)> = cells
            .map(|cell| (cell, integral(&model, levels.grid().center(cell), &observations)))
            .collect();
        let &(top, top_value) = reference.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        for (cell, value) in reference {
            let (expected, actual) =
                (value / top_value, posterior.probability()[cell] / posterior.probability()[top]);
            assert!((actual - expected).abs() < 0.01 * expected + 1e-3, "{actual}, {expected}");
        }
    }
}

/// A receiver that hears nothing pushes the transmitter away from itself.
#[test]
fn silence_counts() {
    let levels = levels(None);
    let silent =
        levels.posterior(&[Heard(15.0), NotHeard, Heard(8.0), NotHeard, NotHeard]).unwrap();
    let absent = levels.posterior(&[Heard(15.0), Absent, Heard(8.0), Absent, Absent]).unwrap();

    let near = |posterior: &GridPosterior, place: LocalPosition| -> f64 {
        let grid = posterior.grid();
        let cells = (0..grid.cells()).filter(|&cell| grid.center(cell).distance_km(&place) < 20.0);
        cells.map(|cell| posterior.probability()[cell]).sum()
    };

    for place in [local(90.0, 20.0), local(80.0, 90.0)] {
        let (with, without) = (near(&silent, place), near(&absent, place));
        assert!(with < 0.5 * without, "{with} is not half of {without}");
    }
    assert!(
        silent.moments().covariance.determinant_km4()
            < absent.moments().covariance.determinant_km4()
    );
}

#[test]
fn unheard_event_has_no_fix() {
    let nothing = levels(Some(8.0)).locate(&[NotHeard, NotHeard, Absent, NotHeard, NotHeard]);
    assert_eq!(nothing, Location::NoFix(NoFix::NothingHeard));
}

/// Squares of a level of 10²⁰⁰ dB are no numbers.
#[test]
fn level_that_is_none_is_told_as_such() {
    for level_db in [f64::NAN, f64::INFINITY, 1e200, -1e7] {
        let observations = [NotHeard, Heard(10.0), Heard(level_db), Absent, Absent];

        let location = levels(None).locate(&observations);

        assert_eq!(location, Location::NoFix(NoFix::InvalidLevel { observation: 2 }));
        assert_eq!(levels(None).posterior(&observations), None);
    }
    let loud = levels(None).locate(&[Heard(1e6), Heard(1e6), Heard(1e6), Absent, Absent]);
    assert!(loud.best().is_some(), "{loud:?}");
}

/// Receivers that never fail are not deaf, all twenty of them, to what the one among them hears at
/// 900 dB.
#[test]
fn levels_that_contradict_silence_are_no_fix() {
    let receivers = (0..21).map(|index| local(40.0 + f64::from(index), 50.0)).collect();
    let model = LevelModel::uniform(receivers, PathLoss { outage: 0.0, ..loss() }, None);
    let grid = PlaneGrid::new(local(0.0, 0.0), local(100.0, 100.0), 10.0).unwrap();
    let levels = LevelGrid::new(grid, &model, &LevelGridConfig::default()).unwrap();
    let mut observations = [NotHeard; 21];
    observations[10] = Heard(900.0);

    let location = levels.locate(&observations);

    assert_eq!(location, Location::NoFix(NoFix::Unexplained));
}

/// Of one receiver and an unknown power nothing follows.
#[test]
fn one_level_of_unknown_power_is_no_fix() {
    let location = levels(None).locate(&[Heard(10.0), Absent, Absent, Absent, Absent]);

    assert!(matches!(location, Location::NoFix(NoFix::TooUncertain { .. })), "{location:?}");
}

/// Events that are drawn from the model itself, 400 of them: the smallest regions of 90 % hold
/// 360 ± 6, the Gaussian ellipses somewhat more or less. The tolerance is four standard deviations.
#[test]
fn regions_hold_what_they_promise() {
    let (levels, model) = (levels(Some(8.0)), model(Some(8.0)));
    let mut random = Random::new(9);
    let (mut events, mut in_region, mut in_ellipse) = (0, 0, 0);
    while events < 400 {
        let place = local(100.0 * random.uniform(), 100.0 * random.uniform());
        let power_db = 8.0 * random.normal();
        let observations: Vec<LevelObservation> = (0..5)
            .map(|receiver| {
                let level_db = model.level_db(receiver, place) + power_db + 6.0 * random.normal();
                if level_db < 3.0 || random.uniform() < 0.05 { NotHeard } else { Heard(level_db) }
            })
            .collect();
        let Some(posterior) = levels.posterior(&observations) else { continue };
        events += 1;
        let nearest = (0..levels.grid().cells())
            .find(|&cell| {
                let center = levels.grid().center(cell);
                (center.east_km - place.east_km).abs() <= 1.0
                    && (center.north_km - place.north_km).abs() <= 1.0
            })
            .unwrap();
        in_region += usize::from(posterior.smallest_region(0.9)[nearest]);
        let estimate = posterior.moments();
        let offset = local(
            place.east_km - estimate.position.east_km,
            place.north_km - estimate.position.north_km,
        );
        in_ellipse += usize::from(
            estimate.covariance.mahalanobis_squared(offset) < mahalanobis_squared_at(0.9),
        );
    }

    assert!((336..=384).contains(&in_region), "{in_region} of 400");
    assert!((330..=390).contains(&in_ellipse), "{in_ellipse} of 400");
}

#[test]
fn senseless_model_is_refused_by_field() {
    let grid = PlaneGrid::new(local(0.0, 0.0), local(10.0, 10.0), 1.0).unwrap();
    let refusal = |change: &dyn Fn(&mut LevelModel)| {
        let mut model = model(None);
        change(&mut model);
        LevelGrid::new(grid, &model, &LevelGridConfig::default()).unwrap_err().to_string()
    };
    let cases = [
        (refusal(&|m| m.path_losses[1].sigma_db = 0.0), "`sigma_db`"),
        (refusal(&|m| m.path_losses[1].exponent = -1.0), "`exponent`"),
        (refusal(&|m| m.path_losses[1].outage = 1.0), "`outage`"),
        (refusal(&|m| m.path_losses[1].level_1km_db = f64::NAN), "`level_1km_db`"),
        (refusal(&|m| m.power_sigma_db = Some(-1.0)), "`power_sigma_db`"),
        (refusal(&|m| m.distance_km_min = 0.0), "`distance_km_min`"),
        (refusal(&|m| m.path_losses.truncate(4)), "`path_losses`"),
        (refusal(&|m| m.receivers[2].north_km = f64::NAN), "`receivers.north_km`"),
    ];
    for (message, field) in cases {
        assert!(message.contains(field), "{message} does not name {field}");
    }
    let config = LevelGridConfig { area_share_max: 0.0, ..LevelGridConfig::default() };
    assert!(LevelGrid::new(grid, &model(None), &config).is_err());
}
