//! Where the arithmetic runs, chosen at run time.

use std::fmt;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// A kind of device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// The fastest real device that this build can use; never a GPU that is emulated in software.
    #[default]
    Auto,
    /// The processor.
    Cpu,
}

impl DeviceChoice {
    /// Opens the device.
    pub fn open(self) -> Device {
        match self {
            // The processor is the only device that this build can use.
            Self::Auto | Self::Cpu => Device::flex(),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_is_written_as_it_is_read() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu] {
            let text = format!("\"{choice}\"");

            assert_eq!(serde_json::from_str::<DeviceChoice>(&text).unwrap(), choice);
        }
    }

    #[test]
    fn unknown_device_is_refused_by_name() {
        let error = serde_json::from_str::<DeviceChoice>("\"tpu\"").unwrap_err();

        assert!(error.to_string().contains("tpu"), "{error}");
    }
}
