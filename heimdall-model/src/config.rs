//! What a network looks like.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{LocalizationNet, ModelError, SideInputConfig, Standardization};

/// The part of the network that turns what is known of an event into one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backbone {
    /// ResNet-18: stages of 2, 2, 2 and 2 blocks.
    #[default]
    #[serde(rename = "resnet18")]
    ResNet18,
    /// ResNet-34: stages of 3, 4, 6 and 3 blocks.
    #[serde(rename = "resnet34")]
    ResNet34,
    /// Fully connected layers on the side inputs, for measurements without a spectrogram.
    Mlp,
    /// One encoder for all receivers and attention between them: a receiver may be added, moved or
    /// lost without training anew.
    Set,
}

impl Backbone {
    /// Name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::Mlp => "mlp",
            Self::Set => "set",
        }
    }

    /// Residual blocks in each of the four stages, if it is a residual network.
    pub fn stage_blocks(self) -> Option<[usize; 4]> {
        match self {
            Self::ResNet18 => Some([2, 2, 2, 2]),
            Self::ResNet34 => Some([3, 4, 6, 3]),
            Self::Mlp | Self::Set => None,
        }
    }

    /// Whether it looks at the levels.
    pub fn takes_levels(self) -> bool {
        self != Self::Mlp
    }

    /// Whether it cannot do without side inputs.
    pub fn needs_side_inputs(self) -> bool {
        matches!(self, Self::Mlp | Self::Set)
    }

    /// Whether it treats all receivers alike: it then has one mean and deviation for all of them,
    /// and takes any number of them.
    pub fn treats_receivers_alike(self) -> bool {
        self == Self::Set
    }
}

/// How a residual network begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// As in torchvision: bands and frames are each reduced to a quarter, so that of 32 frames one is
    /// left in the last stage.
    #[default]
    Standard,
    /// Bands are reduced to a quarter and frames not at all, so that of 32 frames four are left. It
    /// takes about four times the arithmetic; the weights are of the same shapes.
    Narrow,
}

/// The shape of the uncertainty that the network states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CovarianceKind {
    /// One standard deviation along each axis, and no correlation.
    Diagonal,
    /// A full covariance, stated by its Cholesky factor.
    #[default]
    Full,
}

impl CovarianceKind {
    /// Numbers that the uncertainty head states: standard deviations, or a Cholesky factor.
    pub fn head_outputs(self) -> usize {
        match self {
            Self::Diagonal => 2,
            Self::Full => 3,
        }
    }
}

/// Configuration of a [`LocalizationNet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalizationNetConfig {
    /// Channels of the input: the receivers, in the order of the network.
    pub input_channels: usize,
    /// The part that turns what is known of an event into one vector.
    pub backbone: Backbone,
    /// How a residual network begins; other backbones do not have it.
    pub stem: Stem,
    /// What the network must know of the inputs beside the levels; left out, it takes levels alone.
    pub side_inputs: Option<SideInputConfig>,
    /// The shape of the uncertainty.
    pub covariance: CovarianceKind,
    /// Gaussians of which an estimate is the mixture. With side inputs, an event that three receivers
    /// or more detect has one all the same.
    pub components: usize,
    /// Width of the hidden layer of each head.
    pub head_width: usize,
    /// Means and deviations of the training split.
    pub standardization: Standardization,
    /// Seed from which the initial weights are drawn.
    pub seed: u64,
}

impl Default for LocalizationNetConfig {
    fn default() -> Self {
        Self {
            input_channels: 3,
            backbone: Backbone::default(),
            stem: Stem::default(),
            side_inputs: None,
            covariance: CovarianceKind::default(),
            components: 1,
            head_width: 256,
            standardization: Standardization::identity(3),
            seed: 0,
        }
    }
}

impl LocalizationNetConfig {
    /// The preset of three channels: a ResNet-18 on levels alone, with a standard deviation along
    /// each axis. [`LocalizationNet::forward_diagonal`] states both as `[batch, 2]`.
    pub fn specification() -> Self {
        Self { covariance: CovarianceKind::Diagonal, ..Self::default() }
    }

    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`ModelError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), ModelError> {
        for (field, value) in [
            ("input_channels", self.input_channels),
            ("components", self.components),
            ("head_width", self.head_width),
        ] {
            if value == 0 {
                return invalid(field, "at least 1", value);
            }
        }

        let receivers = self.input_channels;
        let rows = if self.backbone.treats_receivers_alike() { 1 } else { receivers };
        self.standardization.validate(rows)?;
        match &self.side_inputs {
            Some(side_inputs) => side_inputs.validate(receivers, rows),
            None if self.backbone.needs_side_inputs() => {
                invalid("side_inputs", "there, as the backbone needs them", "not")
            }
            None => Ok(()),
        }
    }

    /// Makes the network on `device`.
    ///
    /// Weights are drawn from `seed` alone: the same configuration gives the same network, on every
    /// device and beside whatever else the process does.
    ///
    /// # Panics
    ///
    /// If the configuration is not [valid](Self::validate).
    pub fn init(&self, device: &Device) -> LocalizationNet {
        LocalizationNet::new(self, device)
    }
}

pub(crate) fn invalid(
    field: &'static str,
    expected: &str,
    actual: impl std::fmt::Display,
) -> Result<(), ModelError> {
    Err(ModelError::InvalidConfig {
        field,
        expected: expected.to_owned(),
        actual: actual.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LocalizationNetConfig {
        LocalizationNetConfig {
            input_channels: 7,
            standardization: Standardization::identity(7),
            ..LocalizationNetConfig::default()
        }
    }

    #[test]
    fn default_is_valid() {
        LocalizationNetConfig::default().validate().unwrap();
        config().validate().unwrap();
    }

    #[test]
    fn broken_rules_are_refused_by_name() {
        struct Case {
            breaks: fn(&mut LocalizationNetConfig),
            field: &'static str,
        }
        let cases = [
            Case { breaks: |c| c.input_channels = 0, field: "input_channels" },
            Case { breaks: |c| c.input_channels = 6, field: "standardization.level_mean_db" },
            Case { breaks: |c| c.components = 0, field: "components" },
            Case { breaks: |c| c.head_width = 0, field: "head_width" },
            Case {
                breaks: |c| c.standardization.level_deviation_db.truncate(1),
                field: "standardization.level_deviation_db",
            },
            Case {
                breaks: |c| c.standardization.level_mean_db[6] = f32::NAN,
                field: "standardization.level_mean_db",
            },
            Case {
                breaks: |c| c.standardization.level_deviation_db[3] = 0.0,
                field: "standardization.level_deviation_db",
            },
            Case {
                breaks: |c| c.standardization.position_mean_km[1] = f32::INFINITY,
                field: "standardization.position_mean_km",
            },
            Case {
                breaks: |c| c.standardization.position_deviation_km[0] = -1.0,
                field: "standardization.position_deviation_km",
            },
            Case {
                breaks: |c| c.standardization.position_deviation_km[1] = f32::NAN,
                field: "standardization.position_deviation_km",
            },
            Case { breaks: |c| c.backbone = Backbone::Mlp, field: "side_inputs" },
            Case { breaks: |c| c.backbone = Backbone::Set, field: "standardization.level_mean_db" },
            Case {
                breaks: |c| c.side_inputs = Some(SideInputConfig::identity(6, 2)),
                field: "side_inputs.receivers_km",
            },
            Case {
                breaks: |c| c.side_inputs = Some(SideInputConfig::identity(7, 0)),
                field: "side_inputs.scalar_mean",
            },
            Case {
                breaks: |c| {
                    let mut side_inputs = SideInputConfig::identity(7, 2);
                    side_inputs.scalar_deviation[3].pop();
                    c.side_inputs = Some(side_inputs);
                },
                field: "side_inputs.scalar_deviation",
            },
        ];

        for Case { breaks, field: broken } in cases {
            let mut config = config();
            breaks(&mut config);
            let Err(ModelError::InvalidConfig { field, .. }) = config.validate() else {
                panic!("{broken} was not refused");
            };
            assert_eq!(field, broken);
        }
    }

    #[test]
    fn message_says_what_was_expected_and_found() {
        let mut config = config();
        config.input_channels = 3;

        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "`standardization.level_mean_db` must be 3 values, one per input channel, but is \
             7 values"
        );
    }

    #[test]
    fn unknown_backbone_is_refused() {
        assert!(serde_json::from_str::<Backbone>("\"resnet50\"").is_err());
        for backbone in [Backbone::ResNet18, Backbone::ResNet34, Backbone::Mlp, Backbone::Set] {
            assert_eq!(serde_json::to_value(backbone).unwrap(), backbone.name());
        }
    }
}
