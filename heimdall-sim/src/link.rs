//! Link level: what receivers measure of an event, drawn without samples.

use heimdall_features::{ArrivalTime, FeatureError, FeatureExtractor, ScalarAccuracy, UtcTime};
use heimdall_geo::Position;

use crate::random::RandomStream;
use crate::{CHANNEL_WIDTH_HZ, Clock, EventLatents, LinkLatents, WaveformKind, WorldConfig};

/// Smallest SNR that is reported, in dB, as by the feature extractor.
const SNR_DB_MIN: f64 = -40.0;

/// One transmission at link level, and the truth about it.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkEvent {
    /// Index of the event in its world.
    pub index: usize,
    /// Session that it belongs to; all events of a session have one transmitter at one place.
    pub session: usize,
    /// Where the transmitter was.
    pub position: Position,
    /// Instant of the first sample, as all recordings would be stamped.
    pub start: UtcTime,
    /// Nominal frequency of the carrier, in Hz.
    pub frequency_hz: f64,
    /// Everything else that is true about the event.
    pub latents: EventLatents,
    /// `[receivers]`, in the order of the network; `None` where a receiver was out of order.
    pub measurements: Vec<Option<LinkMeasurement>>,
}

/// What one receiver measures of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkMeasurement {
    /// Power in the channel, noise included, in dB relative to full scale.
    pub power_db: f64,
    /// Power spectral density of the noise, in dB relative to full scale squared per Hz.
    pub noise_psd_db: f64,
    /// Power in the channel above the noise there, in dB.
    pub snr_db: f64,
    /// Whether the signal stands above the detection threshold.
    pub detected: bool,
    /// When the signal arrived; `None` where it was not detected, where the transmission has no
    /// usable correlation, and where clocks mean nothing. Times are after the start of the event.
    pub arrival: Option<ArrivalTime>,
}

/// What receivers measure of recordings of one length: the same estimator as on samples, but its
/// errors are drawn.
#[derive(Clone, Copy, Debug)]
pub struct LinkEstimator {
    accuracy: ScalarAccuracy,
    detection_snr_db: f64,
    duration_s: f64,
    clock: Clock,
}

impl LinkEstimator {
    /// Plans the measurement of recordings of a world, as an extractor would measure them.
    ///
    /// # Errors
    ///
    /// [`FeatureError::TooShort`] if the recordings are shorter than one transform.
    pub fn new(world: &WorldConfig, extractor: &FeatureExtractor) -> Result<Self, FeatureError> {
        Ok(Self {
            accuracy: extractor.accuracy(world.sample_count())?,
            detection_snr_db: f64::from(extractor.config().detection_snr_db),
            duration_s: world.duration_s,
            clock: world.receiver_chain.clock,
        })
    }

    /// Draws what one receiver measures.
    ///
    /// The power is the sum of signal and noise in the channel, and deviates as that of so many
    /// independent values does; so does the noise density, from the values beside the channel.
    /// What leaks out of the channel of a strong signal is left out.
    pub(crate) fn measure(
        &self,
        link: &LinkLatents,
        waveform: WaveformKind,
        random: &mut RandomStream,
    ) -> LinkMeasurement {
        let width_hz = self.accuracy.channel_width_hz;
        let noise = 10_f64.powf(link.noise_dbfs_per_hz / 10.0) * width_hz;
        let signal_to_noise = 10_f64.powf(link.snr_db / 10.0) * CHANNEL_WIDTH_HZ / width_hz;

        // A power cannot be negative, however few values it is the mean of.
        let deviate = |variance: f64, normal: f64| (variance.sqrt() * normal).exp();
        let power_variance =
            self.accuracy.power_variance(signal_to_noise) / (1.0 + signal_to_noise).powi(2);
        let power = noise * (1.0 + signal_to_noise) * deviate(power_variance, random.normal());
        let measured_noise = noise * deviate(self.accuracy.noise_variance, random.normal());
        let excess = (power / measured_noise - 1.0).max(0.0);
        let snr_db = (10.0 * excess.log10()).max(SNR_DB_MIN);
        let detected = snr_db >= self.detection_snr_db;
        LinkMeasurement {
            power_db: 10.0 * power.log10(),
            noise_psd_db: 10.0 * (measured_noise / width_hz).log10(),
            snr_db,
            detected,
            arrival: self
                .arrival_sigma_s(waveform, signal_to_noise)
                .map(|sigma_s| {
                    let time_s = link.stamped_delay_s() + sigma_s * random.normal();
                    let clock_s = match self.clock {
                        Clock::Gps { sigma_s } => sigma_s,
                        Clock::Ntp { .. } | Clock::FreeRunning { .. } => f64::INFINITY,
                    };
                    ArrivalTime { time_s, sigma_s: sigma_s.hypot(clock_s) }
                })
                .filter(|arrival| detected && arrival.sigma_s.is_finite()),
        }
    }

    /// Standard deviation of the time of arrival by noise, in s.
    ///
    /// # References
    ///
    /// S. Stein, "Algorithms for ambiguity function processing", *IEEE Transactions on Acoustics,
    /// Speech, and Signal Processing* 29(3), 1981,
    /// [doi:10.1109/TASSP.1981.1163621](https://doi.org/10.1109/TASSP.1981.1163621), with the
    /// bandwidth of the transmission in place of that of a flat spectrum.
    fn arrival_sigma_s(&self, waveform: WaveformKind, signal_to_noise: f64) -> Option<f64> {
        let spread_rad_s = std::f64::consts::TAU * waveform.rms_bandwidth_hz()?;
        let values = self.accuracy.channel_width_hz * self.duration_s;
        let ratio = (1.0 + 1.0 / signal_to_noise) / (2.0 * values * signal_to_noise);
        Some(ratio.sqrt() / spread_rad_s)
    }
}
