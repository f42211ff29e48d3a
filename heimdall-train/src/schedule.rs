//! How the learning rate changes over a run.
//!
//! A rate is a function of the step alone, except on a plateau, whose two numbers of state are part
//! of each checkpoint: so a resumed run sees the same rates.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How the learning rate changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ScheduleConfig {
    /// Up along half a cosine, then down along another: best where the number of epochs is known
    /// and small. The last epochs are the ones that count, so early stopping should not cut it.
    OneCycle(OneCycleConfig),
    /// Down along half a cosine.
    Cosine(CosineConfig),
    /// Down by a factor when the validation loss no longer falls: best with early stopping.
    Plateau(PlateauConfig),
    /// The same all the time, after the warm-up.
    Constant(ConstantConfig),
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::OneCycle(OneCycleConfig::default())
    }
}

/// One cycle of the learning rate.
///
/// # References
///
/// L. N. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large
/// learning rates", 2018, [arXiv:1708.07120](https://arxiv.org/abs/1708.07120); the shape and the
/// defaults are those of PyTorch's `OneCycleLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycleConfig {
    /// Share of the steps in which the rate rises.
    pub warm_up_share: f64,
    /// The first rate, as a share of the highest.
    pub start_share: f64,
    /// The last rate, as a share of the highest.
    pub end_share: f64,
}

impl Default for OneCycleConfig {
    fn default() -> Self {
        Self { warm_up_share: 0.3, start_share: 0.04, end_share: 4e-6 }
    }
}

/// Half a cosine.
///
/// # References
///
/// I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
/// equation 5, without restarts, [arXiv:1608.03983](https://arxiv.org/abs/1608.03983).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CosineConfig {
    /// Epochs, or a part of one, in which the rate rises in a straight line from zero.
    pub warm_up_epochs: f64,
    /// The last rate, as a share of the highest.
    pub end_share: f64,
}

impl Default for CosineConfig {
    fn default() -> Self {
        Self { warm_up_epochs: 1.0, end_share: 0.0 }
    }
}

/// Steps down when the validation loss no longer falls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlateauConfig {
    /// Epochs, or a part of one, in which the rate rises in a straight line from zero.
    pub warm_up_epochs: f64,
    /// Factor by which the rate falls.
    pub factor: f64,
    /// Epochs without a better validation loss after which it falls.
    pub patience: usize,
    /// The lowest rate, as a share of the highest.
    pub end_share: f64,
}

impl Default for PlateauConfig {
    fn default() -> Self {
        Self { warm_up_epochs: 1.0, factor: 0.5, patience: 3, end_share: 1e-3 }
    }
}

/// A rate that stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantConfig {
    /// Epochs, or a part of one, in which the rate rises in a straight line from zero.
    pub warm_up_epochs: f64,
}

impl Default for ConstantConfig {
    fn default() -> Self {
        Self { warm_up_epochs: 1.0 }
    }
}

impl ScheduleConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`TrainError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), TrainError> {
        let share = |field, actual: f64| {
            let expected = "between 0 and 1";
            match (0.0..=1.0).contains(&actual) {
                true => Ok(()),
                false => Err(TrainError::InvalidConfig { field, expected, actual }),
            }
        };
        let warm_up = |actual: f64| {
            let (field, expected) = ("schedule.warm_up_epochs", "finite and at least 0");
            match actual >= 0.0 && actual.is_finite() {
                true => Ok(()),
                false => Err(TrainError::InvalidConfig { field, expected, actual }),
            }
        };
        match self {
            Self::OneCycle(config) => {
                share("schedule.warm_up_share", config.warm_up_share)?;
                share("schedule.start_share", config.start_share)?;
                share("schedule.end_share", config.end_share)
            }
            Self::Cosine(config) => {
                warm_up(config.warm_up_epochs)?;
                share("schedule.end_share", config.end_share)
            }
            Self::Plateau(config) => {
                warm_up(config.warm_up_epochs)?;
                share("schedule.factor", config.factor)?;
                share("schedule.end_share", config.end_share)
            }
            Self::Constant(config) => warm_up(config.warm_up_epochs),
        }
    }
}

/// A schedule of a run of known length.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    config: ScheduleConfig,
    /// Highest rate.
    learning_rate: f64,
    steps_per_epoch: usize,
    steps: usize,
    state: PlateauState,
}

/// What a schedule remembers of the validation losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlateauState {
    /// Share of the highest rate.
    share: f64,
    /// The lowest loss so far.
    loss_best: Option<f64>,
    /// Epochs since the loss or the rate last fell.
    epochs_waited: usize,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self { share: 1.0, loss_best: None, epochs_waited: 0 }
    }
}

impl Schedule {
    /// Plans a run.
    pub(crate) fn new(
        config: &ScheduleConfig,
        learning_rate: f64,
        steps_per_epoch: usize,
        epochs: usize,
        state: PlateauState,
    ) -> Self {
        let steps = steps_per_epoch * epochs;
        Self { config: config.clone(), learning_rate, steps_per_epoch, steps, state }
    }

    /// What must be kept to go on later.
    pub(crate) fn state(&self) -> &PlateauState {
        &self.state
    }

    /// The rate of a step, counted from zero over all epochs.
    pub(crate) fn rate_at(&self, step: usize) -> f64 {
        self.learning_rate * self.share_at(step)
    }

    /// The rate of a step, as a share of the highest.
    fn share_at(&self, step: usize) -> f64 {
        let (step, last) = (step as f64, self.steps.saturating_sub(1) as f64);
        // Steps of a warm-up: the first has a small rate, the one after the last has the full one.
        let warm_up_steps = |epochs: f64| (epochs * self.steps_per_epoch as f64).round();
        let warm_up_share = |steps: f64| ((step + 1.0) / (steps + 1.0)).min(1.0);
        match &self.config {
            ScheduleConfig::OneCycle(config) => {
                let peak = (config.warm_up_share * last).round();
                if step < peak {
                    cosine(config.start_share, 1.0, step / peak)
                } else {
                    cosine(1.0, config.end_share, (step - peak) / (last - peak).max(1.0))
                }
            }
            ScheduleConfig::Cosine(config) => {
                let warm_up = warm_up_steps(config.warm_up_epochs);
                if step < warm_up {
                    warm_up_share(warm_up)
                } else {
                    cosine(1.0, config.end_share, (step - warm_up) / (last - warm_up).max(1.0))
                }
            }
            ScheduleConfig::Plateau(config) => {
                self.state.share * warm_up_share(warm_up_steps(config.warm_up_epochs))
            }
            ScheduleConfig::Constant(config) => warm_up_share(warm_up_steps(config.warm_up_epochs)),
        }
    }

    /// Takes note of the validation loss of an epoch.
    pub(crate) fn observe(&mut self, validation_loss: f64) {
        let ScheduleConfig::Plateau(config) = &self.config else { return };
        if self.state.loss_best.is_none_or(|best| validation_loss < best) {
            self.state.loss_best = Some(validation_loss);
            self.state.epochs_waited = 0;
            return;
        }
        self.state.epochs_waited += 1;
        if self.state.epochs_waited >= config.patience.max(1) {
            self.state.share = (self.state.share * config.factor).max(config.end_share);
            self.state.epochs_waited = 0;
        }
    }
}

/// Goes from `start` to `end` along half a cosine, while `progress` goes from 0 to 1.
fn cosine(start: f64, end: f64, progress: f64) -> f64 {
    end + (start - end) * (1.0 + (PI * progress).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(config: ScheduleConfig) -> Schedule {
        Schedule::new(&config, 0.002, 10, 10, PlateauState::default())
    }

    fn assert_rate(schedule: &Schedule, step: usize, expected: f64) {
        let rate = schedule.rate_at(step);
        assert!((rate - expected).abs() < 1e-12, "{rate} is not {expected} at step {step}");
    }

    /// By hand: of 100 steps the one at 0.3 · 99 = 30 is the highest, and half-way between two ends
    /// the rate is their mean.
    #[test]
    fn one_cycle_rises_and_falls() {
        let schedule = schedule(ScheduleConfig::default());

        assert_rate(&schedule, 0, 0.002 * 0.04);
        assert_rate(&schedule, 15, 0.002 * 0.52);
        assert_rate(&schedule, 30, 0.002);
        assert_rate(&schedule, 99, 0.002 * 4e-6);
    }

    #[test]
    fn cosine_warms_up_and_ends_at_its_share() {
        let config = CosineConfig { warm_up_epochs: 0.9, end_share: 0.1 };
        let schedule = schedule(ScheduleConfig::Cosine(config));

        assert_rate(&schedule, 0, 0.002 * 0.1);
        assert_rate(&schedule, 8, 0.002 * 0.9);
        assert_rate(&schedule, 9, 0.002);
        assert_rate(&schedule, 54, 0.002 * 0.55);
        assert_rate(&schedule, 99, 0.002 * 0.1);
    }

    #[test]
    fn plateau_falls_when_the_loss_does_not() {
        let config =
            PlateauConfig { warm_up_epochs: 0.0, factor: 0.5, patience: 2, end_share: 0.2 };
        let mut schedule = schedule(ScheduleConfig::Plateau(config));

        let mut rates = Vec::new();
        for loss in [5.0, 4.0, 4.0, 4.5, 3.0, 3.5, 3.0, 3.1, 3.2, 3.3, 3.4] {
            schedule.observe(loss);
            rates.push(schedule.rate_at(50) / 0.002);
        }

        let expected = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn state_of_a_plateau_survives() {
        let config = ScheduleConfig::Plateau(PlateauConfig::default());
        let mut first = schedule(config.clone());
        for loss in [5.0, 6.0, 6.0] {
            first.observe(loss);
        }

        let text = serde_json::to_string(first.state()).unwrap();
        let mut second =
            Schedule::new(&config, 0.002, 10, 10, serde_json::from_str(&text).unwrap());
        first.observe(7.0);
        second.observe(7.0);

        assert_eq!(first.state(), second.state());
        assert_rate(&second, 60, 0.001);
    }

    #[test]
    fn schedule_is_chosen_by_kind() {
        let text = r#"{"kind": "cosine", "warm_up_epochs": 2}"#;

        let config: ScheduleConfig = serde_json::from_str(text).unwrap();

        let expected = CosineConfig { warm_up_epochs: 2.0, ..CosineConfig::default() };
        assert_eq!(config, ScheduleConfig::Cosine(expected));
        let error =
            serde_json::from_str::<ScheduleConfig>(r#"{"kind": "cosine", "warm_up_epoch": 2}"#);
        assert!(error.unwrap_err().to_string().contains("warm_up_epoch"));
    }

    proptest! {
        /// Whatever the length of the run, the rate stays between zero and the highest.
        #[test]
        fn rate_stays_within_its_bounds(
            steps_per_epoch in 1_usize..30,
            epochs in 1_usize..20,
            warm_up in 0_f64..1.0,
            kind in 0..4,
        ) {
            let config = match kind {
                0 => ScheduleConfig::OneCycle(OneCycleConfig {
                    warm_up_share: warm_up,
                    ..OneCycleConfig::default()
                }),
                1 => ScheduleConfig::Cosine(CosineConfig {
                    warm_up_epochs: 30.0 * warm_up,
                    end_share: 0.0,
                }),
                2 => ScheduleConfig::Plateau(PlateauConfig::default()),
                _ => ScheduleConfig::Constant(ConstantConfig { warm_up_epochs: 3.0 * warm_up }),
            };
            let schedule =
                Schedule::new(&config, 0.01, steps_per_epoch, epochs, PlateauState::default());

            for step in 0..steps_per_epoch * epochs {
                let rate = schedule.rate_at(step);
                prop_assert!((0.0..=0.01 + 1e-12).contains(&rate), "{} at {}", rate, step);
            }
        }
    }
}
