//! The receivers in the plane, and the events as the methods see them.

use std::collections::HashMap;

use heimdall_data::{MeasuredEvent, Measurement, MeasurementTables};
use heimdall_geo::{
    Arrival, LevelObservation, LevelSample, LocalFrame, LocalPosition, PlaneGrid, Position,
};
use tracing::warn;

use super::{LevelColumn, LocalizationOptions, Method, invalid};
use crate::PipelineError;

/// How far beyond the receivers a transmitter may be, at most, unless an option says more, in km.
const MARGIN_KM_MAX: f64 = 25.0;
/// Distance to the radio horizon of an antenna 1 m above a smooth Earth, in km: it grows with the
/// square root of the height. ITU-R P.528 and most textbooks; refraction makes the Earth look 4/3 as
/// large.
const HORIZON_KM: f64 = 4.12;

/// The receivers of a folder, and where transmitters may be.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) frame: LocalFrame,
    /// Where each receiver stands, in the plane, and with its altitude in m.
    pub(super) places: Vec<LocalPosition>,
    pub(super) positions: Vec<(Position, f64)>,
    /// Lowest level that each receiver reports; none for one that never does.
    pub(super) lowest_db: Vec<Option<f64>>,
    /// The south-west and the north-east corner of the region that is searched.
    pub(super) corners: [LocalPosition; 2],
    column: LevelColumn,
    timing_sigma_s: f64,
    /// For each receiver of the training, the one of the same name here.
    trained: Vec<Option<usize>>,
}

/// An event as the methods see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// What each receiver hears.
    pub(super) levels: Vec<LevelObservation>,
    /// When receivers received it.
    pub(super) arrivals: Vec<Arrival>,
    /// Altitude of the transmitter, where it is known.
    pub(super) altitude_m: Option<f64>,
    /// Where it was, where that is known.
    pub(super) truth: Option<LocalPosition>,
}

impl Observed {
    /// What is known of an event whose place is known.
    pub(super) fn sample(&self) -> Option<LevelSample> {
        let position = self.truth?;
        Some(LevelSample { position, observations: self.levels.clone() })
    }

    /// The arrivals, with this standard deviation.
    pub(super) fn arrivals_with(&self, sigma_s: f64) -> Vec<Arrival> {
        self.arrivals.iter().map(|arrival| Arrival { sigma_s, ..*arrival }).collect()
    }
}

impl Network {
    pub(super) fn new(
        tables: &MeasurementTables,
        training: Option<&MeasurementTables>,
        options: &LocalizationOptions,
    ) -> Result<Self, PipelineError> {
        let positions: Vec<(Position, f64)> =
            tables.receivers.iter().map(|r| (r.position, r.altitude_m)).collect();
        let points: Vec<Position> = positions.iter().map(|(position, _)| *position).collect();
        let frame = LocalFrame::centered_on(&points)?;
        let places: Vec<LocalPosition> = points.iter().map(|p| frame.to_local(p)).collect();
        let names: HashMap<String, usize> =
            tables.receivers.iter().enumerate().map(|(i, r)| (r.name.clone(), i)).collect();
        let trained = training.map_or_else(Vec::new, |training| {
            training.receivers.iter().map(|r| names.get(&r.name).copied()).collect()
        });
        let all = || {
            let own = tables.events.iter().flat_map(|event| &event.measurements);
            own.chain(training.into_iter().flat_map(|t| &t.events).flat_map(|e| &e.measurements))
        };
        let mut network = Self {
            frame,
            corners: [LocalPosition::default(); 2],
            column: options.level.unwrap_or_else(|| column_of(all())),
            timing_sigma_s: options.timing_sigma_s,
            lowest_db: vec![None; places.len()],
            places,
            positions,
            trained,
        };
        network.note_levels(tables, training);
        network.check_measured(tables, options.method)?;
        let known = training.map_or(&[][..], |training| &training.events);
        network.corners = network.region(&tables.events, known, options)?;
        Ok(network)
    }

    /// Takes note of the lowest level of each receiver.
    fn note_levels(&mut self, tables: &MeasurementTables, training: Option<&MeasurementTables>) {
        let own = tables.events.iter().flat_map(|event| &event.measurements).copied();
        let known = training.into_iter().flat_map(|tables| &tables.events);
        let known = known.flat_map(|event| &event.measurements).filter_map(|measurement| {
            Some(Measurement { receiver: self.trained[measurement.receiver]?, ..*measurement })
        });
        let levels: Vec<(usize, f64)> = own
            .chain(known)
            .filter_map(|measurement| Some((measurement.receiver, self.level_db(&measurement)?)))
            .collect();
        for (receiver, level_db) in levels {
            let lowest = &mut self.lowest_db[receiver];
            *lowest = Some(lowest.map_or(level_db, |lowest_db| lowest_db.min(level_db)));
        }
    }

    /// Refuses a folder that has nothing of what a method takes.
    fn check_measured(
        &self,
        tables: &MeasurementTables,
        method: Method,
    ) -> Result<(), PipelineError> {
        let mut own = tables.events.iter().flat_map(|event| &event.measurements);
        let has_levels = own.clone().any(|measurement| self.level_db(measurement).is_some());
        let has_times = own.any(|measurement| measurement.arrival_s.is_some());
        if method == Method::Fusion && has_times != has_levels {
            let (missing, is) = if has_levels {
                ("arrival_time_ns", "`fusion` is `level` without calibrated regions")
            } else {
                ("rss_db` or `snr_db", "`fusion` is `tdoa`")
            };
            warn!("no line of `measurements.csv` has a value of `{missing}`: {is}");
        }
        let is_high = tables.events.iter().any(|event| event.altitude_m.is_some());
        if is_high && has_levels && matches!(method, Method::Level | Method::Fusion) {
            warn!(
                "levels are taken for those of transmitters on the ground: altitudes count for times"
            );
        }
        let missing = match method {
            Method::Tdoa if !has_times => "arrival_time_ns",
            Method::Fusion if !has_times && !has_levels => "rss_db`, `snr_db` or `arrival_time_ns",
            Method::Centroid | Method::Level | Method::Knn if !has_levels => "rss_db` or `snr_db",
            _ => return Ok(()),
        };
        Err(PipelineError::NothingMeasured { method: method.name(), columns: missing })
    }

    /// The level of a measurement, in dB.
    fn level_db(&self, measurement: &Measurement) -> Option<f64> {
        level_db(measurement, self.column)
    }

    /// Whether levels are relative to each receiver's noise.
    pub(super) fn levels_are_above_noise(&self) -> bool {
        self.column == LevelColumn::Snr
    }

    /// The corners of the region that is searched: the receivers with a margin, and all places of
    /// the training. A transmitter at a known altitude may be as far as its horizon.
    fn region(
        &self,
        events: &[MeasuredEvent],
        training: &[MeasuredEvent],
        options: &LocalizationOptions,
    ) -> Result<[LocalPosition; 2], PipelineError> {
        let [south_west, north_east] = bounds(self.places.iter().copied());
        let diagonal_km = south_west.distance_km(&north_east);
        let margin_km = options.margin_km.unwrap_or_else(|| {
            let altitudes_m = events.iter().filter_map(|event| event.altitude_m);
            let highest_m = altitudes_m.fold(0.0, f64::max);
            let near_km = if diagonal_km > 0.0 { diagonal_km / 2.0 } else { MARGIN_KM_MAX };
            match options.method {
                Method::Tdoa | Method::Fusion if highest_m > 0.0 => HORIZON_KM * highest_m.sqrt(),
                _ => near_km.min(MARGIN_KM_MAX),
            }
        });
        let margin = |place: LocalPosition, side: f64| LocalPosition {
            east_km: place.east_km + side * margin_km,
            north_km: place.north_km + side * margin_km,
        };
        let corners = [margin(south_west, -1.0), margin(north_east, 1.0)];
        let known = training.iter().filter_map(|event| event.position);
        let known = known.map(|position| self.frame.to_local(&position));
        let corners = bounds(corners.into_iter().chain(known));
        if corners.iter().any(|corner| !corner.east_km.is_finite() || !corner.north_km.is_finite())
        {
            return Err(invalid("--margin-km", "small enough for a region on the Earth"));
        }
        Ok(corners)
    }

    /// The grid over the region, with this many cells along its longer side.
    pub(super) fn grid(&self, cells: f64) -> Result<PlaneGrid, PipelineError> {
        let [south_west, north_east] = self.corners;
        let side_km = (north_east.east_km - south_west.east_km)
            .max(north_east.north_km - south_west.north_km);
        Ok(PlaneGrid::new(south_west, north_east, side_km / cells)?)
    }

    /// An event of the folder.
    pub(super) fn observe(&self, event: &MeasuredEvent) -> Observed {
        self.observe_as(event, Some)
    }

    /// The events of the training whose places are known.
    pub(super) fn known(&self, events: &[MeasuredEvent]) -> Vec<LevelSample> {
        let observed = events
            .iter()
            .map(|event| self.observe_as(event, |receiver| self.trained[receiver]).sample());
        observed.flatten().collect()
    }

    /// An event whose receivers have other numbers.
    fn observe_as(
        &self,
        event: &MeasuredEvent,
        number: impl Fn(usize) -> Option<usize>,
    ) -> Observed {
        // A receiver that never says a level says nothing by its silence.
        let silence = |lowest_db: &Option<f64>| match lowest_db {
            Some(_) => LevelObservation::NotHeard,
            None => LevelObservation::Absent,
        };
        let mut levels: Vec<LevelObservation> = self.lowest_db.iter().map(silence).collect();
        let mut arrivals = Vec::new();
        for measurement in &event.measurements {
            let Some(receiver) = number(measurement.receiver) else { continue };
            if let Some(level_db) = self.level_db(measurement) {
                levels[receiver] = LevelObservation::Heard(level_db);
            }
            if let Some(time_s) = measurement.arrival_s {
                arrivals.push(Arrival { receiver, time_s, sigma_s: self.timing_sigma_s });
            }
        }
        let truth = event.position.map(|position| self.frame.to_local(&position));
        Observed { levels, arrivals, altitude_m: event.altitude_m, truth }
    }
}

/// The first of the columns that has levels.
fn column_of<'a>(mut measurements: impl Iterator<Item = &'a Measurement>) -> LevelColumn {
    if measurements.any(|measurement| level_db(measurement, LevelColumn::Snr).is_some()) {
        LevelColumn::Snr
    } else {
        LevelColumn::Rss
    }
}

fn level_db(measurement: &Measurement, column: LevelColumn) -> Option<f64> {
    match column {
        LevelColumn::Rss => measurement.rss_db,
        LevelColumn::Snr => {
            measurement.snr_db.or_else(|| Some(measurement.rss_db? - measurement.noise_db?))
        }
    }
}

/// The corners of the smallest rectangle around places, of which there is at least one.
fn bounds(places: impl Iterator<Item = LocalPosition>) -> [LocalPosition; 2] {
    let far = LocalPosition { east_km: f64::INFINITY, north_km: f64::INFINITY };
    let [low, high] = [far, LocalPosition { east_km: -far.east_km, north_km: -far.north_km }];
    places.fold([low, high], |[low, high], place| {
        [
            LocalPosition {
                east_km: low.east_km.min(place.east_km),
                north_km: low.north_km.min(place.north_km),
            },
            LocalPosition {
                east_km: high.east_km.max(place.east_km),
                north_km: high.north_km.max(place.north_km),
            },
        ]
    })
}
