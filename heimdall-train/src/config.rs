//! How a network is trained.

use std::path::PathBuf;

use heimdall_data::Augmentation;
use heimdall_model::{Backbone, CovarianceKind, Stem};
use serde::{Deserialize, Serialize};

use crate::{ClassWeights, LossConfig, OptimizerKind, ScheduleConfig, TrainError};

/// The part of the network that is chosen, not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkChoice {
    /// The part that turns what is known of an event into one vector.
    pub backbone: Backbone,
    /// How a residual network begins.
    pub stem: Stem,
    /// Whether the network sees, beside the levels, the numbers of each receiver, which receivers
    /// there are and where, and the classical fix, of which it then states the correction.
    pub side_inputs: bool,
    /// The shape of the uncertainty.
    pub covariance: CovarianceKind,
    /// Gaussians of which an estimate is the mixture where one or two receivers detect an event; one
    /// for all others. Without side inputs, all events are mixtures.
    pub components: usize,
    /// Width of the hidden layer of each head.
    pub head_width: usize,
}

impl Default for NetworkChoice {
    fn default() -> Self {
        Self {
            backbone: Backbone::default(),
            stem: Stem::default(),
            side_inputs: true,
            covariance: CovarianceKind::default(),
            components: 1,
            head_width: 256,
        }
    }
}

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The network.
    pub model: NetworkChoice,
    /// File of weights from which a residual network starts, one of torchvision's in the safetensors
    /// format; left out, it starts from random ones.
    pub pretrained: Option<PathBuf>,
    /// Learning rate of the residual network, as a share of that of the other parts: 0 freezes its
    /// weights, while its running statistics go on following the data.
    pub backbone_rate_share: f64,
    /// Most epochs; training may stop earlier.
    pub epochs: usize,
    /// Events per step. A remainder of one event joins the batch before it.
    pub batch_size: usize,
    /// Batches whose gradients are averaged before each step.
    pub accumulate_batches: usize,
    /// What the network is told about how wrong it is.
    pub loss: LossConfig,
    /// How the loss of an event depends on how many receivers detect it.
    pub class_weights: ClassWeights,
    /// How a gradient becomes a step.
    pub optimizer: OptimizerKind,
    /// Highest learning rate of the schedule.
    pub learning_rate: f64,
    /// Multiple of each weight by which it decays, biases and normalizations included.
    pub weight_decay: f64,
    /// How the learning rate changes.
    pub schedule: ScheduleConfig,
    /// Epochs without a better validation loss after which training stops; never, if left out.
    pub early_stopping: Option<usize>,
    /// Norm of the gradient of all weights together above which it is scaled down to it; never, if
    /// left out.
    pub gradient_clip: Option<f64>,
    /// How events are changed while the network learns from them.
    pub augmentation: Augmentation,
    /// Networks that are trained one after another, each from a seed of its own, and whose estimates
    /// are mixed.
    pub members: usize,
    /// Seed of the first weights, of the order of events, and of their augmentation.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            model: NetworkChoice::default(),
            pretrained: None,
            backbone_rate_share: 1.0,
            epochs: 100,
            batch_size: 32,
            accumulate_batches: 1,
            loss: LossConfig::default(),
            class_weights: ClassWeights::default(),
            optimizer: OptimizerKind::default(),
            learning_rate: 1e-3,
            weight_decay: 1e-4,
            schedule: ScheduleConfig::default(),
            early_stopping: Some(10),
            gradient_clip: Some(5.0),
            augmentation: Augmentation::default(),
            members: 1,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`TrainError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), TrainError> {
        let invalid =
            |field, expected, actual| Err(TrainError::InvalidConfig { field, expected, actual });
        let counts = [
            ("model.head_width", self.model.head_width, 1, "at least 1"),
            ("model.components", self.model.components, 1, "at least 1"),
            ("accumulate_batches", self.accumulate_batches, 1, "at least 1"),
            ("members", self.members, 1, "at least 1"),
            ("epochs", self.epochs, 1, "at least 1"),
            ("batch_size", self.batch_size, 2, "at least 2, as batch normalization has it"),
            ("early_stopping", self.early_stopping.unwrap_or(1), 1, "at least 1, or left out"),
        ];
        for (field, actual, least, expected) in counts {
            if actual < least {
                return invalid(field, expected, actual as f64);
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return invalid("learning_rate", "finite and above 0", self.learning_rate);
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return invalid("weight_decay", "finite and at least 0", self.weight_decay);
        }
        if let Some(norm) = self.gradient_clip
            && !(norm > 0.0 && norm.is_finite())
        {
            return invalid("gradient_clip", "finite and above 0, or left out", norm);
        }
        if !(0.0..=1.0).contains(&self.backbone_rate_share) {
            let actual = self.backbone_rate_share;
            return invalid("backbone_rate_share", "between 0 and 1", actual);
        }
        self.augmentation.validate()?;
        if self.model.backbone.needs_side_inputs() && !self.model.side_inputs {
            return Err(TrainError::NoSideInputs { backbone: self.model.backbone });
        }
        if self.loss.mean_square_epochs >= self.epochs {
            let actual = self.loss.mean_square_epochs as f64;
            return invalid("loss.mean_square_epochs", "below `epochs`", actual);
        }
        if self.model.backbone.stage_blocks().is_none() {
            self.validate_without_resnet()?;
        }
        self.loss.validate(self.model.components)?;
        self.schedule.validate()
    }

    /// Refuses what only a residual network has.
    fn validate_without_resnet(&self) -> Result<(), TrainError> {
        let fields = [
            ("pretrained", self.pretrained.is_some()),
            ("backbone_rate_share", self.backbone_rate_share < 1.0),
            ("model.stem", self.model.stem != Stem::default()),
        ];
        match fields.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => {
                Err(TrainError::NoResidualNetwork { field, backbone: self.model.backbone })
            }
            None => Ok(()),
        }
    }

    /// The seed of a member, counted from zero: the first has that of the run.
    pub(crate) fn member_seed(&self, member: usize) -> u64 {
        if member == 0 {
            return self.seed;
        }
        let mut hasher = blake3::Hasher::new_derive_key("heimdall member of an ensemble");
        hasher.update(&self.seed.to_le_bytes()).update(&(member as u64).to_le_bytes());
        let digest = hasher.finalize();
        let (words, _) = digest.as_bytes().as_chunks::<8>();
        u64::from_le_bytes(words[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_specification() {
        let config: TrainConfig = serde_json::from_str("{}").unwrap();

        config.validate().unwrap();
        assert_eq!(config, TrainConfig::default());
        assert_eq!((config.epochs, config.batch_size), (100, 32));
        assert_eq!(config.early_stopping, Some(10));
    }

    #[test]
    fn unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<TrainConfig>(r#"{"epoch": 3}"#).unwrap_err();

        assert!(error.to_string().contains("epoch"), "{error}");
    }

    #[test]
    fn fields_beyond_their_rules_are_refused_by_name() {
        let cases = [
            (r#"{"epochs": 0}"#, "epochs"),
            (r#"{"batch_size": 1}"#, "batch_size"),
            (r#"{"learning_rate": 0}"#, "learning_rate"),
            (r#"{"weight_decay": -1}"#, "weight_decay"),
            (r#"{"early_stopping": 0}"#, "early_stopping"),
            (r#"{"gradient_clip": 0}"#, "gradient_clip"),
            (r#"{"model": {"head_width": 0}}"#, "model.head_width"),
            (r#"{"model": {"components": 0}}"#, "model.components"),
            (r#"{"model": {"components": 2}, "loss": {"beta": 0.5}}"#, "loss.beta"),
            (r#"{"accumulate_batches": 0}"#, "accumulate_batches"),
            (r#"{"members": 0}"#, "members"),
            (r#"{"epochs": 3, "loss": {"mean_square_epochs": 3}}"#, "loss.mean_square_epochs"),
            (r#"{"backbone_rate_share": 1.5}"#, "backbone_rate_share"),
            (r#"{"schedule": {"kind": "plateau", "factor": 1.5}}"#, "schedule.factor"),
        ];
        for (text, expected) in cases {
            let config: TrainConfig = serde_json::from_str(text).unwrap();

            let error = config.validate().unwrap_err();

            let TrainError::InvalidConfig { field, .. } = error else { panic!("{error}") };
            assert_eq!(field, expected);
        }
    }

    #[test]
    fn augmentation_beyond_its_rules_is_refused_by_name() {
        let text = r#"{"augmentation": {"gain_deviation_db": -3}}"#;
        let config: TrainConfig = serde_json::from_str(text).unwrap();

        let error = config.validate().unwrap_err().to_string();

        assert!(error.contains("`augmentation.gain_deviation_db`"), "{error}");
    }

    #[test]
    fn backbone_without_any_input_is_refused() {
        let text = r#"{"model": {"backbone": "mlp", "side_inputs": false}}"#;
        let config: TrainConfig = serde_json::from_str(text).unwrap();

        let error = config.validate().unwrap_err();

        assert!(matches!(error, TrainError::NoSideInputs { .. }), "{error}");
        assert!(error.to_string().contains("model.side_inputs"), "{error}");
    }

    #[test]
    fn what_only_residual_networks_have_is_refused_beside_others() {
        for (field, value) in [
            ("pretrained", r#""pretrained": "resnet18.safetensors""#),
            ("backbone_rate_share", r#""backbone_rate_share": 0.1"#),
        ] {
            let text = format!(r#"{{"model": {{"backbone": "mlp"}}, {value}}}"#);
            let config: TrainConfig = serde_json::from_str(&text).unwrap();

            let message = config.validate().unwrap_err().to_string();

            assert!(message.contains(field) && message.contains("mlp"), "{message}");
        }
        let text = r#"{"model": {"backbone": "set", "stem": "narrow"}}"#;
        let config: TrainConfig = serde_json::from_str(text).unwrap();

        let message = config.validate().unwrap_err().to_string();

        assert!(message.contains("model.stem"), "{message}");
    }

    #[test]
    fn stopping_and_clipping_can_be_turned_off() {
        let text = r#"{"early_stopping": null, "gradient_clip": null}"#;

        let config: TrainConfig = serde_json::from_str(text).unwrap();

        config.validate().unwrap();
        assert_eq!((config.early_stopping, config.gradient_clip), (None, None));
    }
}
