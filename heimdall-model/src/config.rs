//! What a network looks like, and how its inputs and outputs are scaled.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{LocalizationNet, ModelError};

/// The part of the network that turns feature maps into one vector per event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Backbone {
    /// ResNet-18: stages of 2, 2, 2 and 2 blocks.
    #[default]
    #[serde(rename = "resnet18")]
    ResNet18,
    /// ResNet-34: stages of 3, 4, 6 and 3 blocks.
    #[serde(rename = "resnet34")]
    ResNet34,
}

impl Backbone {
    /// Residual blocks in each of the four stages.
    pub fn stage_blocks(self) -> [usize; 4] {
        match self {
            Self::ResNet18 => [2, 2, 2, 2],
            Self::ResNet34 => [3, 4, 6, 3],
        }
    }
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

/// Means and deviations of the training split, which the network holds and applies itself.
///
/// Levels go in as they are, positions come out in km: nobody outside of the network has to know
/// these numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardization {
    /// Mean level of each receiver, in dB.
    pub level_mean_db: Vec<f32>,
    /// Standard deviation of the level of each receiver, in dB.
    pub level_deviation_db: Vec<f32>,
    /// Mean of the positions: east and north of the frame's origin, in km.
    pub position_mean_km: [f32; 2],
    /// Standard deviation of the positions to the east and to the north, in km.
    pub position_deviation_km: [f32; 2],
}

impl Standardization {
    /// Makes the standardization that changes nothing, for as many receivers as given.
    pub fn identity(receivers: usize) -> Self {
        Self {
            level_mean_db: vec![0.0; receivers],
            level_deviation_db: vec![1.0; receivers],
            position_mean_km: [0.0; 2],
            position_deviation_km: [1.0; 2],
        }
    }
}

/// Configuration of a [`LocalizationNet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalizationNetConfig {
    /// Channels of the input: the receivers, in the order of the network.
    pub input_channels: usize,
    /// The part that turns feature maps into one vector per event.
    pub backbone: Backbone,
    /// The shape of the uncertainty.
    pub covariance: CovarianceKind,
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
            covariance: CovarianceKind::default(),
            head_width: 256,
            standardization: Standardization::identity(3),
            seed: 0,
        }
    }
}

impl LocalizationNetConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// [`ModelError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), ModelError> {
        for (field, value) in
            [("input_channels", self.input_channels), ("head_width", self.head_width)]
        {
            if value == 0 {
                return invalid(field, "at least 1", value);
            }
        }

        let Standardization {
            level_mean_db,
            level_deviation_db,
            position_mean_km,
            position_deviation_km,
        } = &self.standardization;
        for (field, values) in [
            ("standardization.level_mean_db", level_mean_db),
            ("standardization.level_deviation_db", level_deviation_db),
        ] {
            if values.len() != self.input_channels {
                let expected = format!("{} values, one per input channel", self.input_channels);
                return invalid(field, &expected, format!("{} values", values.len()));
            }
        }
        for (field, values) in [
            ("standardization.level_mean_db", level_mean_db.as_slice()),
            ("standardization.position_mean_km", position_mean_km),
        ] {
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return invalid(field, "finite", value);
            }
        }
        for (field, values) in [
            ("standardization.level_deviation_db", level_deviation_db.as_slice()),
            ("standardization.position_deviation_km", position_deviation_km),
        ] {
            if let Some(value) = values.iter().find(|value| !value.is_normal() || **value < 0.0) {
                return invalid(field, "finite and above zero", value);
            }
        }
        Ok(())
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

fn invalid(
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
        assert_eq!(serde_json::from_str::<Backbone>("\"resnet34\"").unwrap(), Backbone::ResNet34);
    }
}
