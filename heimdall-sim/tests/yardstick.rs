//! The classical methods in the simulated world, beside figures that another simulation of the same
//! world has given.
//!
//! `cargo nextest run --workspace -E 'test(yardstick)' --no-capture` prints the table.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use heimdall_features::{FeatureConfig, FeatureExtractor};
use heimdall_geo::{
    Arrival, ArrivalConfig, ArrivalSolver, FingerprintConfig, Fingerprints, LevelGrid,
    LevelGridConfig, LevelModel, LevelObservation, LevelSample, LocalPosition, PathLoss, PlaneGrid,
    weighted_centroid,
};
use heimdall_sim::{
    CHANNEL_WIDTH_HZ, DETECTION_SNR_DB, LinkEstimator, LinkEvent, LinkGeometry, LinkLatents, World,
    WorldConfig,
};

/// Worlds, each with other hills, gains and detours.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Events that fingerprints are taken from.
const TRAINING: usize = 6000;
/// Events that are located.
const TEST: usize = 700;
/// Test events of the other simulation, in one world.
const THEIR_TEST: f64 = 2000.0;
/// A difference of so many standard deviations is chance in three of a thousand cases.
const DEVIATIONS_MAX: f64 = 3.0;

/// A world at link level.
struct Links {
    world: World,
    events: Vec<LinkEvent>,
    receivers: Vec<LocalPosition>,
    truths: Vec<LocalPosition>,
}

impl Links {
    fn of(seed: u64) -> Self {
        let config = WorldConfig {
            sessions: TRAINING + TEST,
            events_per_session: 1,
            seed,
            duration_s: 4.0,
            ..WorldConfig::default()
        };
        let world = World::new(&config).unwrap();
        let extractor = FeatureExtractor::new(&FeatureConfig::default(), config.sample_rate_hz);
        let estimator = LinkEstimator::new(&config, &extractor.unwrap()).unwrap();
        let events: Vec<_> =
            (0..world.len()).map(|index| world.link_event(index, &estimator)).collect();
        let local = |position| world.frame().to_local(position);
        Self {
            receivers: world.receivers().iter().map(|receiver| local(&receiver.position)).collect(),
            truths: events.iter().map(|event| local(&event.position)).collect(),
            events,
            world,
        }
    }

    fn test(&self) -> std::ops::Range<usize> {
        TRAINING..TRAINING + TEST
    }

    /// Errors of a method over the test events; where it has no answer, an event is left out.
    fn errors_km(&self, locate: impl Fn(usize) -> Option<LocalPosition>) -> Vec<f64> {
        self.test()
            .filter_map(|event| Some(locate(event)?.distance_km(&self.truths[event])))
            .collect()
    }

    /// Where the receivers are in the mean.
    fn middle(&self) -> LocalPosition {
        let levels: Vec<_> = self.receivers.iter().map(|&place| (place, 0.0)).collect();
        weighted_centroid(&levels).unwrap()
    }

    /// The receivers that detect an event, each with a level.
    fn detected(
        &self,
        event: usize,
        level_db: fn(&LinkLatents) -> f64,
    ) -> Vec<(LocalPosition, f64)> {
        let LinkEvent { latents, measurements, .. } = &self.events[event];
        let links = self.receivers.iter().zip(measurements).zip(&latents.links);
        let detected = links.filter(|((_, measured), _)| measured.is_some_and(|m| m.detected));
        detected.map(|((&place, _), link)| (place, level_db(link))).collect()
    }

    /// A grid over the area of the transmitters.
    fn grid(&self, cells: f64) -> PlaneGrid {
        let margin_km = self.world.config().margin_km;
        let side = |of: fn(&LocalPosition) -> f64| {
            let values = self.receivers.iter().map(of);
            values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ((west, east), (south, north)) = (side(|p| p.east_km), side(|p| p.north_km));
        let corner = |east_km, north_km| LocalPosition { east_km, north_km };
        let south_west = corner(west - margin_km, south - margin_km);
        let north_east = corner(east + margin_km, north + margin_km);
        let longer_km = (east - west).max(north - south) + 2.0 * margin_km;
        PlaneGrid::new(south_west, north_east, longer_km / cells).unwrap()
    }

    /// What receivers say of an event, silence included or not.
    fn observations(&self, event: usize, silence: bool) -> Vec<LevelObservation> {
        let measurements = self.events[event].measurements.iter();
        measurements
            .map(|measured| match measured {
                Some(measured) if measured.detected => LevelObservation::Heard(measured.snr_db),
                Some(_) if silence => LevelObservation::NotHeard,
                _ => LevelObservation::Absent,
            })
            .collect()
    }

    /// The law of the world as a straight line over the logarithm of the distance, receiver by
    /// receiver: given, and not learned from events.
    fn given_path_loss(&self, receiver: usize) -> PathLoss {
        let config = self.world.config();
        let station = &config.network.stations()[receiver];
        let noise_dbm = self.events[0].latents.links[receiver].noise_dbm_per_hz
            + 10.0 * CHANNEL_WIDTH_HZ.log10();
        let points: Vec<(f64, f64)> = (0..40)
            .map(|step| {
                let distance_km = 5.0 * 30_f64.powf(f64::from(step) / 39.0);
                let geometry = LinkGeometry {
                    distance_km,
                    frequency_hz: config.frequency_hz,
                    receiver_height_m: station.receiver.antenna_height_m,
                    transmitter_height_m: 2.0,
                };
                // A mobile station, the most frequent transmitter.
                let level_dbm =
                    47.0 + station.antenna_gain_db - config.path_loss.loss_db(&geometry);
                (10.0 * distance_km.log10(), level_dbm - noise_dbm)
            })
            .collect();
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / 40.0;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>()
            / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>();
        PathLoss {
            level_1km_db: y - slope * x,
            exponent: -slope,
            // Shadowing of 6 dB by place and 3 dB by session.
            sigma_db: 6.0_f64.hypot(3.0),
            threshold_db: Some(DETECTION_SNR_DB),
            outage: config.outage_probability,
        }
    }

    /// Errors of the grid of levels whose path loss is given and whose power may be anything.
    fn grid_errors_km(&self, silence: bool) -> Vec<f64> {
        let path_losses = (0..self.receivers.len()).map(|r| self.given_path_loss(r)).collect();
        let model = LevelModel {
            receivers: self.receivers.clone(),
            path_losses,
            power_sigma_db: None,
            distance_km_min: 0.01,
        };
        let grid = LevelGrid::new(self.grid(60.0), &model, &LevelGridConfig::default()).unwrap();
        self.errors_km(|event| {
            let posterior = grid.posterior(&self.observations(event, silence));
            Some(posterior.map_or(self.middle(), |posterior| posterior.moments().position))
        })
    }

    /// Errors of the ten nearest fingerprints by the levels of all receivers that listened, those too
    /// that detected nothing.
    fn fingerprint_errors_km(&self) -> Vec<f64> {
        let levels = |event: usize| -> Vec<LevelObservation> {
            let measurements = self.events[event].measurements.iter();
            measurements
                .map(|measured| match measured {
                    Some(measured) => LevelObservation::Heard(measured.snr_db.max(-17.0)),
                    None => LevelObservation::Absent,
                })
                .collect()
        };
        let samples: Vec<LevelSample> = (0..TRAINING)
            .map(|event| LevelSample { position: self.truths[event], observations: levels(event) })
            .collect();
        let config =
            FingerprintConfig { neighbors: 10, weight_power: 0.0, ..FingerprintConfig::default() };
        let fingerprints = Fingerprints::new(&samples, &config).unwrap();
        self.errors_km(|event| fingerprints.locate(&levels(event)).best().map(|best| best.position))
    }

    /// Errors of least squares over the times of at least four receivers.
    fn arrival_errors_km(&self, arrival: impl Fn(usize, usize) -> Option<Arrival>) -> Vec<f64> {
        let places: Vec<_> =
            self.world.receivers().iter().map(|r| (r.position, r.altitude_m)).collect();
        let config = ArrivalConfig { timing_floor_s: 0.0, ..ArrivalConfig::default() };
        let solver =
            ArrivalSolver::new(*self.world.frame(), &places, self.grid(24.0), &config).unwrap();
        self.errors_km(|event| {
            let arrivals: Vec<Arrival> =
                (0..places.len()).filter_map(|receiver| arrival(event, receiver)).collect();
            let located = (arrivals.len() >= 4).then(|| solver.locate(&arrivals, None).unwrap())?;
            located.best().map(|best| best.position)
        })
    }

    /// The time that a receiver measures on samples of the transmission.
    fn measured_arrival(&self, event: usize, receiver: usize) -> Option<Arrival> {
        let arrival = self.events[event].measurements[receiver]?.arrival?;
        Some(Arrival { receiver, time_s: arrival.time_s, sigma_s: arrival.sigma_s })
    }

    /// The time that only the clock and the detour falsify, with the deviation of both.
    fn ideal_arrival(&self, event: usize, receiver: usize) -> Option<Arrival> {
        let link = &self.events[event].latents.links[receiver];
        let rms_s = self.world.config().multipath.as_ref().unwrap().excess_delay_s;
        // A half-normal delay deviates by √(1 − 2/π) of its root mean square.
        let detour_s = 0.603 * rms_s * (link.distance_km / 10.0).sqrt();
        let sigma_s = 1e-7_f64.hypot(detour_s);
        link.is_heard().then_some(Arrival { receiver, time_s: link.stamped_delay_s(), sigma_s })
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Standard error of a median, by drawing the events again and again.
fn median_error(values: &[f64]) -> f64 {
    let mut state = 7_u64;
    let mut draw = || {
        // The generator of Knuth's MMIX; its upper bits are the good ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        values[(state >> 33) as usize % values.len()]
    };
    let medians: Vec<f64> =
        (0..200).map(|_| median(&values.iter().map(|_| draw()).collect::<Vec<_>>())).collect();
    deviation(&medians)
}

fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// The mean of the medians of the worlds, and the standard deviation of its difference from a median of
/// the other simulation: the errors of sampling events here and there, and what worlds differ by.
fn compared(errors_km: &[Vec<f64>]) -> (f64, f64) {
    let worlds = errors_km.len() as f64;
    let medians: Vec<f64> = errors_km.iter().map(|errors| median(errors)).collect();
    let sampling: f64 =
        errors_km.iter().map(|errors| median_error(errors).powi(2)).sum::<f64>() / worlds;
    // Of their events as large a share has an answer as of ours.
    let theirs = sampling * TEST as f64 / THEIR_TEST;
    let of_worlds = (deviation(&medians).powi(2) - sampling).max(0.0);
    let variance = (sampling + of_worlds) / worlds + theirs + of_worlds;
    (medians.iter().sum::<f64>() / worlds, variance.sqrt())
}

#[test]
#[expect(clippy::print_stdout, reason = "the table is what people run it for")]
fn yardstick_is_reproduced_within_its_sampling_error() {
    let worlds = SEEDS.map(Links::of);
    let of = |errors_km: &dyn Fn(&Links) -> Vec<f64>| {
        compared(&worlds.iter().map(errors_km).collect::<Vec<_>>())
    };
    let strongest = |links: &Links, event: usize| {
        let detected = links.detected(event, |link| link.received_dbm);
        detected.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place)
    };
    let centroid = |links: &Links, level_db| {
        links.errors_km(|event| {
            Some(weighted_centroid(&links.detected(event, level_db)).unwrap_or(links.middle()))
        })
    };
    let grid_center = |links: &Links| {
        let grid = links.grid(2.0);
        let [first, last] = [0, grid.cells() - 1].map(|cell| grid.center(cell));
        LocalPosition {
            east_km: f64::midpoint(first.east_km, last.east_km),
            north_km: f64::midpoint(first.north_km, last.north_km),
        }
    };
    let reproduced = [
        ("region center", 73.3, of(&|l| l.errors_km(|_| Some(grid_center(l))))),
        (
            "strongest receiver, by power",
            49.3,
            of(&|l| l.errors_km(|event| Some(strongest(l, event).unwrap_or(l.middle())))),
        ),
        ("weighted centroid, by power", 41.6, of(&|l| centroid(l, |link| link.received_dbm))),
        ("level grid, path loss given", 47.0, of(&|l| l.grid_errors_km(false))),
        ("k nearest fingerprints", 25.7, of(&Links::fingerprint_errors_km)),
        (
            "TDoA of four and more, clock and detours",
            0.21,
            of(&|l| l.arrival_errors_km(|event, receiver| l.ideal_arrival(event, receiver))),
        ),
    ];
    let beyond = [
        ("weighted centroid, by ratio to noise", 41.6, of(&|l| centroid(l, |link| link.snr_db))),
        ("level grid with non-detections", 34.8, of(&|l| l.grid_errors_km(true))),
        (
            "TDoA of four and more, measured",
            0.21,
            of(&|l| l.arrival_errors_km(|event, receiver| l.measured_arrival(event, receiver))),
        ),
    ];

    println!("{:<42} {:>7} {:>7} {:>10}", "median error, km", "theirs", "ours", "deviation");
    for (name, theirs, (ours, deviation)) in reproduced.iter().chain(&beyond) {
        println!("{name:<42} {theirs:>7} {ours:>7.3} {deviation:>10.3}");
    }
    for (name, theirs, (ours, deviation)) in reproduced {
        let difference = (ours - theirs) / deviation;
        assert!(
            difference.abs() < DEVIATIONS_MAX,
            "{name}: {ours} km is {difference:.1} deviations from {theirs} km"
        );
    }
    let [by_ratio, with_silence, measured] = beyond.map(|(_, _, (ours, _))| ours);
    // Quiet receivers weigh more than near ones do.
    assert!(by_ratio > reproduced[2].2.0, "{by_ratio}");
    // Integrated over the power and with outages, silence says more than it did there.
    assert!(with_silence < 34.8, "{with_silence}");
    // Speech has a tenth of the bandwidth of its channel, and its times are that much worse.
    assert!((0.25..0.36).contains(&measured), "{measured}");
}
