//! Where the delays between the recordings of an event put its transmitter, as one of its features.

use heimdall_features::{
    ClassicalFix, DelayConfig, DelayEstimate, IqRecording, ReceiverScalars, measure_delay,
};
use heimdall_geo::{
    DelaySolverConfig, LocalFrame, LocalPosition, PairDelay, Position, Receiver, Region,
    SPEED_OF_LIGHT_KM_S, locate_by_delays,
};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::stage::locate::DELAY_SLACK_S;

/// How the classical fix of an event is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FixConfig {
    /// How far around the receivers the transmitter is looked for, in km.
    pub margin_km: f64,
    /// How the delay between two recordings is measured.
    pub delay: DelayConfig,
    /// How delays become a position.
    pub solver: DelaySolverConfig,
}

impl Default for FixConfig {
    fn default() -> Self {
        Self {
            margin_km: 50.0,
            delay: DelayConfig::default(),
            solver: DelaySolverConfig::default(),
        }
    }
}

impl FixConfig {
    /// Checks the rules that the types of the fields cannot express.
    pub(crate) fn validate(&self) -> Result<(), PipelineError> {
        self.delay.validate()?;
        self.solver.validate()?;
        if !(self.margin_km > 0.0 && self.margin_km <= 1000.0) {
            return Err(PipelineError::InvalidField {
                field: "fix.margin_km",
                expected: "above 0 and at most 1000",
                actual: self.margin_km,
            });
        }
        Ok(())
    }

    /// Plans the search around the receivers of a network.
    pub(crate) fn solver(
        &self,
        receivers: &[Receiver],
        frame: LocalFrame,
    ) -> Result<FixSolver, PipelineError> {
        let local = receivers.iter().map(|receiver| frame.to_local(&receiver.position));
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for LocalPosition { east_km, north_km } in local {
            for (axis, km) in [east_km, north_km].into_iter().enumerate() {
                low[axis] = low[axis].min(km - self.margin_km);
                high[axis] = high[axis].max(km + self.margin_km);
            }
        }
        let corner =
            |[east_km, north_km]: [f64; 2]| frame.to_position(&LocalPosition { east_km, north_km });
        Ok(FixSolver {
            config: self.clone(),
            receivers: receivers.iter().map(|receiver| receiver.position).collect(),
            region: Region::new(corner(low)?, corner(high)?)?,
            frame,
        })
    }
}

/// Finds the fixes of the events of a network.
#[derive(Clone, Debug)]
pub(crate) struct FixSolver {
    config: FixConfig,
    receivers: Vec<Position>,
    region: Region,
    frame: LocalFrame,
}

impl FixSolver {
    /// Finds where the delays put the transmitter: those of each receiver that detects it against
    /// the one that hears it best. `None` if that is no position, above all if fewer than three
    /// receivers hear it or their clocks are not disciplined.
    ///
    /// # Shapes
    ///
    /// - `recordings`, `scalars`: one entry per receiver of the network
    pub(crate) fn fix(
        &self,
        recordings: &[Option<&IqRecording>],
        scalars: &[Option<ReceiverScalars>],
    ) -> Option<ClassicalFix> {
        let mut hearing: Vec<(usize, &IqRecording, f32)> = recordings
            .iter()
            .zip(scalars)
            .enumerate()
            .filter_map(|(receiver, (recording, scalars))| {
                let scalars = scalars.filter(|scalars| scalars.detected)?;
                Some((receiver, (*recording)?, scalars.snr_db))
            })
            .collect();
        hearing.sort_by(|a, b| b.2.total_cmp(&a.2));
        let (&(first, best, _), others) = hearing.split_first()?;
        let delays: Vec<PairDelay> = others
            .iter()
            .filter_map(|&(second, recording, _)| {
                let distance_km = self.receivers[first].distance_km(&self.receivers[second]);
                let delay_s_max = distance_km / SPEED_OF_LIGHT_KM_S + DELAY_SLACK_S;
                let estimate = measure_delay(best, recording, delay_s_max, &self.config.delay);
                let DelayEstimate { delay_s, sigma_s, .. } = estimate.ok()?;
                Some(PairDelay { first, second, delay_s, sigma_s })
            })
            .collect();

        let Self { config, receivers, region, frame } = self;
        let location = locate_by_delays(receivers, &delays, region, &config.solver).ok()?;
        let fix = location.best()?;
        let local = frame.to_local(&fix.position);
        let covariance = fix.covariance;
        // The plane at the fix and that of the network differ by less than the deviations.
        let fix = ClassicalFix {
            position_km: [local.east_km as f32, local.north_km as f32],
            covariance_km2: [covariance.east_km2, covariance.east_north_km2, covariance.north_km2]
                .map(|km2| km2 as f32),
            ambiguous: !location.alternatives().is_empty(),
        };
        fix.is_valid().then_some(fix)
    }
}

#[cfg(test)]
mod tests {
    use heimdall_features::{FeatureConfig, FeatureExtractor};
    use heimdall_sim::{World, WorldConfig};

    use super::*;

    fn config() -> FixConfig {
        FixConfig {
            solver: DelaySolverConfig { timing_floor_s: 0.3e-6, ..DelaySolverConfig::default() },
            ..FixConfig::default()
        }
    }

    /// In the simulated world clocks are good to 100 ns, which is 30 m. Where four receivers or more
    /// hear a transmission, the delays leave no second place.
    #[test]
    fn delays_find_the_transmitter_that_many_receivers_hear() {
        let world =
            WorldConfig { sessions: 24, events_per_session: 1, seed: 5, ..WorldConfig::default() };
        let world = World::new(&world).unwrap();
        let solver = config().solver(world.receivers(), *world.frame()).unwrap();
        let mut errors_km = Vec::new();
        for index in 0..world.len() {
            let event = world.event(index);
            let recordings: Vec<_> = event.receptions.iter().map(Option::as_ref).collect();
            let rate_hz = recordings.iter().flatten().next().unwrap().sample_rate_hz;
            let extractor = FeatureExtractor::new(&FeatureConfig::default(), rate_hz).unwrap();
            let scalars: Vec<_> = recordings
                .iter()
                .map(|heard| heard.map(|heard| extractor.extract(&heard.samples).unwrap().scalars))
                .collect();
            let hearing = scalars.iter().flatten().filter(|scalars| scalars.detected).count();

            let fix = solver.fix(&recordings, &scalars);

            assert!(fix.is_none() || hearing >= 3, "a fix of {hearing} receivers");
            if let (Some(fix), 4..) = (fix, hearing) {
                let [east_km, north_km] = fix.position_km.map(f64::from);
                let truth = world.frame().to_local(&event.position);
                errors_km.push(truth.distance_km(&LocalPosition { east_km, north_km }));
            }
        }

        errors_km.sort_by(f64::total_cmp);
        assert!(errors_km.len() >= 5, "only {} fixes", errors_km.len());
        assert!(errors_km[errors_km.len() / 2] < 2.0, "{errors_km:?}");
    }

    #[test]
    fn margins_beyond_their_rule_are_refused_by_name() {
        for margin_km in [0.0, -1.0, 1e4, f64::NAN] {
            let error = FixConfig { margin_km, ..config() }.validate().unwrap_err();

            assert!(error.to_string().contains("fix.margin_km"), "{error}");
        }
    }
}
