//! How well the power of a signal and of the noise beside it are known.

use crate::scalars::Channel;

/// Sum of the squared correlations of a bin with all bins, itself included, for noise under a Hann
/// window: 1 + 2 · ((2/3)² + (1/6)²).
const HANN_CORRELATION: f64 = 1.0 + 2.0 * (4.0 / 9.0 + 1.0 / 36.0);

/// How well the scalars of a recording are known, given its length and the configuration of the
/// extractor.
///
/// What the extractor would measure can so be drawn without samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalarAccuracy {
    /// Width in which the signal is measured, in Hz.
    pub channel_width_hz: f64,
    /// Independent values of noise whose mean is the power of the noise in the channel.
    pub channel_averages: f64,
    /// Variance of the noise density over its square.
    pub noise_variance: f64,
}

impl ScalarAccuracy {
    /// Counts what a mean over `averages` independent periodograms knows.
    pub(crate) fn of(channel: &Channel, averages: f64) -> Self {
        let independent =
            |width_hz: f64| averages * width_hz / channel.bin_width_hz() / HANN_CORRELATION;
        let channel_width_hz = channel.signal_width_hz();
        Self {
            channel_width_hz,
            channel_averages: independent(channel_width_hz),
            // A median of many values has π/2 times the variance of their mean.
            noise_variance: std::f64::consts::FRAC_PI_2 / independent(channel.noise_width_hz()),
        }
    }

    /// Variance of the measured power in the channel, over the square of the power of the noise
    /// there, for a signal with this ratio of its power to that of the noise.
    pub fn power_variance(&self, signal_to_noise: f64) -> f64 {
        (1.0 + 2.0 * signal_to_noise) / self.channel_averages
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{carrier, gaussian_noise};
    use crate::{FeatureConfig, FeatureExtractor};

    /// 200 recordings of noise, and of noise with a carrier 10 dB above it: the variance of what is
    /// measured has a standard error of a tenth, and three of them are allowed.
    #[test]
    fn variances_are_those_of_the_measured_scalars() {
        let extractor = FeatureExtractor::new(&FeatureConfig::default(), 24_000.0).unwrap();
        let samples = 4_800;
        let accuracy = extractor.accuracy(samples).unwrap();
        let signal = carrier(samples, 0.03);
        // Noise of power 1 in 24 kHz, so of 1/2 in the channel and of the density 1/24000.
        for amplitude in [0.0, 5_f32.sqrt()] {
            let (mut powers, mut densities) = (Vec::new(), Vec::new());
            for seed in 0..200 {
                let noise = gaussian_noise(samples, seed);
                let recording: Vec<_> =
                    signal.iter().zip(noise).map(|(s, n)| s * amplitude + n).collect();
                let scalars = extractor.extract(&recording).unwrap().scalars;
                powers.push(2.0 * 10_f64.powf(f64::from(scalars.power_db) / 10.0));
                densities.push(24e3 * 10_f64.powf(f64::from(scalars.noise_psd_db) / 10.0));
            }
            let variance = |values: &[f64]| {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64
            };
            let power =
                variance(&powers) / accuracy.power_variance(2.0 * f64::from(amplitude).powi(2));
            let density = variance(&densities) / accuracy.noise_variance;
            assert!((power - 1.0).abs() < 0.3, "{power} at {amplitude}");
            assert!((density - 1.0).abs() < 0.3, "{density} at {amplitude}");
        }
    }
}
