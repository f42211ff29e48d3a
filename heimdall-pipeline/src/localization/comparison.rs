//! Positions beside the truth: how wrong, and how honest.

use std::collections::BTreeMap;
use std::fmt;

use heimdall_data::MeasuredEvent;
use heimdall_geo::{Estimate, LocalFrame, Location};
use heimdall_loss::{CalibrationPoint, DistanceSummary, calibration_curve};
use serde::Serialize;

use super::network::Network;
use crate::PipelineError;

/// Probabilities of the regions that are compared.
const PROBABILITIES: [f64; 4] = [0.5, 0.68, 0.9, 0.95];

/// How the positions of a folder compare with the truth.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    /// All events; none of them may have a known position.
    pub(crate) all: Group,
    /// The same by `set`, where the events have any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sets: BTreeMap<String, Group>,
    /// By event, the places of ambiguous ones beside that of the table, the most likely one first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) alternatives: BTreeMap<String, Vec<Place>>,
}

/// A place that the measurements of an event do not rule out.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Place {
    latitude: f64,
    longitude: f64,
    var_east_km2: f64,
    cov_east_north_km2: f64,
    var_north_km2: f64,
}

/// Events that are counted together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Group {
    /// Events.
    pub(crate) events: usize,
    /// Events with one position.
    pub(crate) fix: usize,
    /// Events with several positions, of which the most likely one counts.
    pub(crate) ambiguous: usize,
    /// Events without a position.
    pub(crate) no_fix: usize,
    /// How many of those have which reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) reasons: BTreeMap<&'static str, usize>,
    /// Events with a position whose true one is known.
    pub(crate) compared: usize,
    /// Their errors along the geodesic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<DistanceSummary>,
    /// Share of the elliptic regions of each probability that hold the truth, with 95 % intervals
    /// by Wilson.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) coverage: Vec<CalibrationPoint>,
}

/// What came of one event.
struct Outcome {
    status: &'static str,
    /// Why there is no position.
    reason: Option<&'static str>,
    /// Error in km, and its square in standard deviations.
    error: Option<(f64, f64)>,
}

impl Comparison {
    pub(super) fn of(
        network: &Network,
        events: &[MeasuredEvent],
        locations: &[Location],
    ) -> Result<Self, PipelineError> {
        let outcomes: Vec<Outcome> = events
            .iter()
            .zip(locations)
            .map(|(event, location)| outcome(network, event, location))
            .collect::<Result<_, _>>()?;
        let mut sets: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
        for (event, outcome) in events.iter().zip(&outcomes) {
            if !event.set.is_empty() {
                sets.entry(event.set.clone()).or_default().push(outcome);
            }
        }
        let sets = sets.into_iter().map(|(set, outcomes)| (set, Group::of(&outcomes)));
        let mut alternatives = BTreeMap::new();
        for (event, location) in events.iter().zip(locations) {
            let others = location.alternatives().iter().map(|other| Place::of(network, other));
            let others: Vec<Place> = others.collect::<Result<_, _>>()?;
            if !others.is_empty() {
                alternatives.insert(event.id.clone(), others);
            }
        }
        Ok(Self {
            all: Group::of(&outcomes.iter().collect::<Vec<_>>()),
            sets: sets.collect(),
            alternatives,
        })
    }
}

impl Place {
    fn of(network: &Network, estimate: &Estimate) -> Result<Self, PipelineError> {
        let (position, covariance) =
            network.frame.carry(&estimate.position, &estimate.covariance)?;
        Ok(Self {
            latitude: position.latitude_deg(),
            longitude: position.longitude_deg(),
            var_east_km2: covariance.east_km2,
            cov_east_north_km2: covariance.east_north_km2,
            var_north_km2: covariance.north_km2,
        })
    }
}

fn outcome(
    network: &Network,
    event: &MeasuredEvent,
    location: &Location,
) -> Result<Outcome, PipelineError> {
    let error = match (location.best(), &event.position) {
        (Some(best), Some(truth)) => {
            let (position, covariance) = network.frame.carry(&best.position, &best.covariance)?;
            let offset = LocalFrame { origin: position }.to_local(truth);
            Some((position.distance_km(truth), covariance.mahalanobis_squared(offset)))
        }
        _ => None,
    };
    let reason = match location {
        Location::NoFix(reason) => Some(reason.kind()),
        Location::Fix(_) | Location::Ambiguous { .. } => None,
    };
    Ok(Outcome { status: location.status(), reason, error })
}

impl Group {
    fn of(outcomes: &[&Outcome]) -> Self {
        let count = |status| outcomes.iter().filter(|outcome| outcome.status == status).count();
        let (errors_km, squares): (Vec<f64>, Vec<f64>) =
            outcomes.iter().filter_map(|outcome| outcome.error).unzip();
        let mut reasons = BTreeMap::new();
        for reason in outcomes.iter().filter_map(|outcome| outcome.reason) {
            *reasons.entry(reason).or_default() += 1;
        }
        Self {
            events: outcomes.len(),
            fix: count("fix"),
            ambiguous: count("ambiguous"),
            no_fix: count("no_fix"),
            reasons,
            compared: errors_km.len(),
            error: DistanceSummary::of(&errors_km),
            coverage: calibration_curve(&squares, &PROBABILITIES),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = ("all", &self.all);
        let groups = || std::iter::once(all).chain(self.sets.iter().map(|(k, g)| (k.as_str(), g)));
        let width = groups().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(5);
        writeln!(f, "{:width$}  events     fix  ambiguous  no_fix", "set")?;
        for (name, group) in groups() {
            let Group { events, fix, ambiguous, no_fix, .. } = group;
            writeln!(f, "{name:width$}  {events:6}  {fix:6}  {ambiguous:9}  {no_fix:6}")?;
        }
        for (reason, events) in &self.all.reasons {
            writeln!(f, "no fix of {events}: {}", reason.replace('_', " "))?;
        }
        if self.all.compared == 0 {
            return Ok(());
        }
        writeln!(f, "\n{:width$}  compared  error km: median    68 %    90 %", "set")?;
        for (name, group) in groups() {
            if let Some(error) = group.error {
                let [median, p68, p90] =
                    [error.median_km, error.p68_km, error.p90_km].map(three_digits);
                let compared = group.compared;
                writeln!(f, "{name:width$}  {compared:8}  {median:>16}  {p68:>6}  {p90:>6}")?;
            }
        }
        writeln!(f, "\n{:width$}  regions  coverage  (95 % interval)", "set")?;
        for (name, group) in groups() {
            for point in &group.coverage {
                let [stated, held, low, high] =
                    [point.probability, point.coverage, point.lower, point.upper]
                        .map(|p| p * 100.0);
                writeln!(
                    f,
                    "{name:width$}  {stated:5.0} %  {held:6.1} %  ({low:.1} to {high:.1})"
                )?;
            }
        }
        Ok(())
    }
}

/// A length with three significant digits.
fn three_digits(length_km: f64) -> String {
    let digits = 2 - length_km.max(1e-6).log10().floor().min(2.0) as i32;
    format!("{length_km:.*}", usize::try_from(digits).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_three_digits() {
        let lengths = [(0.0461, "0.0461"), (1.234, "1.23"), (45.67, "45.7"), (1234.5, "1234")];
        for (length_km, expected) in lengths {
            assert_eq!(three_digits(length_km), expected);
        }
    }

    /// By hand: errors of 1 and 3 km, of which one lies in its region of 90 %.
    #[test]
    fn group_counts_what_there_is() {
        let outcome = |status, error| Outcome { status, reason: None, error };
        let outcomes = [
            outcome("fix", Some((1.0, 1.0))),
            outcome("ambiguous", Some((3.0, 5.0))),
            Outcome { reason: Some("nothing_heard"), ..outcome("no_fix", None) },
            outcome("fix", None),
        ];

        let group = Group::of(&outcomes.iter().collect::<Vec<_>>());

        assert_eq!((group.events, group.compared), (4, 2));
        assert_eq!((group.fix, group.ambiguous, group.no_fix), (2, 1, 1));
        assert_eq!(group.reasons, BTreeMap::from([("nothing_heard", 1)]));
        assert!((group.error.unwrap().median_km - 2.0).abs() < 1e-12);
        let shares: Vec<f64> = group.coverage.iter().map(|point| point.coverage).collect();
        assert_eq!(shares.len(), 4);
        for (share, expected) in shares.iter().zip([0.5, 0.5, 0.5, 1.0]) {
            assert!((share - expected).abs() < 1e-12, "{shares:?}");
        }
    }
}
