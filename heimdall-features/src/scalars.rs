//! Noise floor, bandwidth and the other numbers about a whole recording.

use crate::ReceiverScalars;
use crate::moments::SampleMoments;
use crate::transform::hann;

/// The noise is measured outside of the channel, widened by this factor: the skirts of a signal
/// reach a little over its channel.
const NOISE_GUARD: f64 = 4.0 / 3.0;
/// Share of the sample rate in which a receiver's filter passes noise unchanged.
pub(crate) const USABLE_SHARE: f64 = 0.9;
/// Bins count as occupied from this many standard deviations of the noise on.
const OCCUPIED_DEVIATIONS: f64 = 4.0;
/// Share of the power that the bandwidth holds.
const BANDWIDTH_SHARE: f64 = 0.99;
/// Smallest SNR that is reported, in dB: what lies below is noise of the estimate.
const SNR_DB_MIN: f64 = -40.0;
/// Smallest density that is told from zero, in full scale squared per Hz.
pub(crate) const PSD_MIN: f64 = 1e-30;

/// Rows of a spectrum in which the signal is expected, and in which there is only noise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Channel {
    bins: usize,
    bin_width_hz: f64,
    width_hz: f64,
}

impl Channel {
    /// A channel of `width_hz` around the center; [`Self::is_usable`] says whether it can be
    /// measured.
    pub(crate) fn new(width_hz: f64, fft_length: usize, sample_rate_hz: f64) -> Self {
        Self { bins: fft_length, bin_width_hz: sample_rate_hz / fft_length as f64, width_hz }
    }

    /// Whether there are bins in the channel, and bins of noise beside it.
    pub(crate) fn is_usable(&self) -> bool {
        self.signal_rows().next().is_some() && self.noise_rows().nth(3).is_some()
    }

    /// Widest channel that leaves room for noise, in Hz.
    pub(crate) fn width_hz_max(&self) -> f64 {
        self.bins as f64 * self.bin_width_hz * USABLE_SHARE / NOISE_GUARD
    }

    /// Width of the rows in which the signal is expected, in Hz.
    pub(crate) fn signal_width_hz(&self) -> f64 {
        self.signal_rows().count() as f64 * self.bin_width_hz
    }

    /// Width of the rows in which there is only noise, in Hz.
    pub(crate) fn noise_width_hz(&self) -> f64 {
        self.noise_rows().count() as f64 * self.bin_width_hz
    }

    /// Width of a row, in Hz.
    pub(crate) fn bin_width_hz(&self) -> f64 {
        self.bin_width_hz
    }

    fn distance_hz(&self, row: usize) -> f64 {
        (row as f64 - (self.bins / 2) as f64).abs() * self.bin_width_hz
    }

    fn signal_rows(&self) -> impl Iterator<Item = usize> {
        (0..self.bins).filter(|&row| self.distance_hz(row) <= self.width_hz / 2.0)
    }

    fn noise_rows(&self) -> impl Iterator<Item = usize> {
        let outer_hz = self.bins as f64 * self.bin_width_hz * USABLE_SHARE / 2.0;
        let inner_hz = self.width_hz / 2.0 * NOISE_GUARD;
        (0..self.bins).filter(move |&row| {
            let distance_hz = self.distance_hz(row);
            inner_hz <= distance_hz && distance_hz <= outer_hz
        })
    }
}

/// Estimates the power spectral density of the noise: the median of a Welch periodogram beside the
/// channel, divided by what the median of such an estimate is for noise of density one.
///
/// A periodogram of Gaussian noise is exponentially distributed, so its median is `ln 2` of its
/// mean. The mean of `K` independent ones follows a gamma distribution of shape `K` and mean one,
/// whose median rises towards one, so dividing by `ln 2` would overstate the noise by up to 1.6 dB.
///
/// # References
///
/// B. Allen et al., "FINDCHIRP: an algorithm for detection of gravitational waves from inspiraling
/// compact binaries", *Physical Review D* 85, 122006, 2012, appendix B, on the bias of the median,
/// [doi:10.1103/PhysRevD.85.122006](https://doi.org/10.1103/PhysRevD.85.122006).
pub(crate) fn noise_psd(welch: &[f64], channel: &Channel, averages: f64) -> f64 {
    let mut beside: Vec<f64> = channel.noise_rows().map(|row| welch[row]).collect();
    let (count, middle) = (beside.len(), beside.len() / 2);
    let (below, &mut upper, _) = beside.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().fold(f64::MIN, f64::max);
    let median = if count.is_multiple_of(2) { (lower + upper) / 2.0 } else { upper };
    (median / gamma_median(averages)).max(PSD_MIN)
}

/// Computes the median of a gamma distribution of mean one.
///
/// The series is exact to 0.2 % at a shape of 1 (`ln 2`) and gets better with the shape.
///
/// # References
///
/// K. P. Choi, "On the medians of gamma distributions and an equation of Ramanujan", *Proceedings
/// of the American Mathematical Society* 121(1), 1994, theorem 1,
/// [doi:10.1090/S0002-9939-1994-1195477-8](https://doi.org/10.1090/S0002-9939-1994-1195477-8).
fn gamma_median(shape: f64) -> f64 {
    let inverse = 1.0 / shape;
    let terms = [1.0, -1.0 / 3.0, 8.0 / 405.0, 184.0 / 25_515.0, 2_248.0 / 3_444_525.0];
    terms.iter().rev().fold(0.0, |sum, term| sum * inverse + term)
}

/// Computes how many independent periodograms have the variance of an average over `count` Hann
/// windows that overlap.
///
/// # References
///
/// P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra", *IEEE
/// Transactions on Audio and Electroacoustics* 15(2), 1967, section "Consequences",
/// [doi:10.1109/TAU.1967.1161901](https://doi.org/10.1109/TAU.1967.1161901).
pub(crate) fn independent_averages(fft_length: usize, hop_length: usize, count: usize) -> f64 {
    if hop_length == 0 {
        return 1.0;
    }
    let window: Vec<f64> = hann(fft_length).collect();
    let overlap = |shift: usize| -> f64 {
        window[shift..].iter().zip(&window).map(|(weight, other)| weight * other).sum()
    };
    let power = overlap(0);
    let correlated: f64 = (1..count)
        .take_while(|step| step * hop_length < fft_length)
        .map(|step| {
            let correlation = overlap(step * hop_length) / power;
            2.0 * (1.0 - step as f64 / count as f64) * correlation * correlation
        })
        .sum();
    count as f64 / (1.0 + correlated)
}

/// Computes all numbers about a recording, and how far its signal is from the center, in Hz.
///
/// # Shapes
///
/// - `welch`: `[fft_length]`, mean density from `-sample_rate / 2` upwards
pub(crate) fn receiver_scalars(
    moments: &SampleMoments,
    welch: &[f64],
    channel: &Channel,
    averages: f64,
    detection_snr_db: f32,
) -> (ReceiverScalars, Option<f32>) {
    let noise_psd = noise_psd(welch, channel, averages);
    let (rows, density) =
        channel.signal_rows().fold((0, 0.0), |(rows, sum), row| (rows + 1, sum + welch[row]));
    let noise = noise_psd * f64::from(rows);
    let snr_db = (10.0 * (density / noise - 1.0).max(0.0).log10()).max(SNR_DB_MIN);
    // Compared in the precision that is reported.
    let snr_db = snr_db as f32;
    let excess = Excess::new(welch, noise_psd, averages, channel.bin_width_hz);
    let scalars = ReceiverScalars {
        power_db: (10.0 * (density * channel.bin_width_hz).max(PSD_MIN).log10()) as f32,
        noise_psd_db: (10.0 * noise_psd.log10()) as f32,
        snr_db,
        bandwidth_hz: excess.width_hz() as f32,
        kurtosis: moments.kurtosis() as f32,
        detected: snr_db >= detection_snr_db,
    };
    (scalars, excess.middle_hz().map(|offset_hz| offset_hz as f32))
}

/// Power above the noise, bin by bin. Bins that noise alone could reach do not count, nor do those
/// in which a receiver's filter falls off.
struct Excess {
    bins: Vec<f64>,
    bin_width_hz: f64,
}

impl Excess {
    fn new(welch: &[f64], noise_psd: f64, averages: f64, bin_width_hz: f64) -> Self {
        let threshold = noise_psd * (1.0 + OCCUPIED_DEVIATIONS / averages.sqrt());
        let outside = (welch.len() as f64 * (1.0 - USABLE_SHARE) / 2.0) as usize; // Rounded down.
        let usable = &welch[outside..welch.len() - outside];
        let above = |&density: &f64| if density > threshold { density - noise_psd } else { 0.0 };
        Self { bins: usable.iter().map(above).collect(), bin_width_hz }
    }

    /// Computes the width that holds 99 % of the power, half of the rest on each side.
    fn width_hz(&self) -> f64 {
        let left_out = self.bins.iter().sum::<f64>() * (1.0 - BANDWIDTH_SHARE) / 2.0;
        if left_out <= 0.0 {
            return 0.0;
        }
        let lower = bins_until(self.bins.iter(), left_out);
        let upper = bins_until(self.bins.iter().rev(), left_out);
        (self.bins.len() as f64 - lower - upper).max(0.0) * self.bin_width_hz
    }

    /// Computes the frequency with half of the power on each side, from the center; `None` where
    /// there is no power.
    fn middle_hz(&self) -> Option<f64> {
        let half = self.bins.iter().sum::<f64>() / 2.0;
        // A bin reaches half of its width to both sides of its frequency.
        let center = (self.bins.len() / 2) as f64 + 0.5;
        (half > 0.0).then(|| (bins_until(self.bins.iter(), half) - center) * self.bin_width_hz)
    }
}

/// Counts the bins, and the part of the last one, that together hold `power`.
fn bins_until<'a>(excess: impl Iterator<Item = &'a f64>, power: f64) -> f64 {
    let mut sum = 0.0;
    let mut bins = 0.0;
    for &value in excess {
        if sum + value >= power {
            return bins + (power - sum) / value;
        }
        sum += value;
        bins += 1.0;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel of 12 kHz at 24 kHz.
    fn channel() -> Channel {
        Channel::new(12_000.0, 256, 24_000.0)
    }

    #[test]
    fn median_of_one_periodogram_is_ln_2() {
        assert!((gamma_median(1.0) / std::f64::consts::LN_2 - 1.0).abs() < 2e-3);
    }

    #[test]
    fn median_of_two_periodograms_solves_its_equation() {
        // Shape 2: the distribution function is 1 - (1 + x) exp(-x), with x twice the mean-one value.
        let x = 2.0 * gamma_median(2.0);

        assert!((1.0 - (1.0 + x) * (-x).exp() - 0.5).abs() < 1e-4);
    }

    #[test]
    fn median_of_many_periodograms_is_their_mean() {
        assert!((gamma_median(1e6) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn half_overlap_costs_what_welch_says() {
        // Two Hann windows that overlap by half correlate by 1/6: 1 / (1 + 2 / 36) for many.
        let averages = independent_averages(256, 128, 10_000);

        assert!((averages / 10_000.0 - 18.0 / 19.0).abs() < 1e-5, "{averages}");
    }

    #[test]
    fn repeated_frames_count_once() {
        assert!((independent_averages(256, 0, 32) - 1.0).abs() < 1e-12);
        // One sample apart is next to the same.
        assert!(independent_averages(1024, 1, 32) < 1.01);
    }

    #[test]
    fn noise_floor_ignores_the_channel_and_strong_neighbors() {
        let mut welch = vec![2.0; 256];
        welch[64..192].fill(1e6);
        welch[30..40].fill(1e3);

        let noise = noise_psd(&welch, &channel(), 1e6);

        assert!((noise - 2.0).abs() < 1e-5, "{noise}");
    }

    #[test]
    fn bandwidth_of_a_flat_band_is_99_percent_of_its_width() {
        let mut welch = vec![1e-9; 256];
        welch[100..150].fill(1e-3);

        let excess = Excess::new(&welch, 1e-9, 100.0, 10.0);

        let width_hz = excess.width_hz();
        assert!((width_hz - 0.99 * 500.0).abs() < 1e-3, "{width_hz}");
        // Bins 100 to 149 reach from -285 to 215 Hz, half a bin on each side.
        let middle_hz = excess.middle_hz().unwrap();
        assert!((middle_hz + 35.0).abs() < 1e-6, "{middle_hz}");
    }

    #[test]
    fn bandwidth_of_noise_alone_is_zero() {
        let excess = Excess::new(&[1.0; 256], 1.0, 100.0, 10.0);

        assert!(excess.width_hz().abs() < 1e-12);
        assert_eq!(excess.middle_hz(), None);
    }

    #[test]
    fn channel_that_leaves_no_noise_is_not_usable() {
        assert!(channel().is_usable());
        assert!(!Channel::new(20_000.0, 256, 24_000.0).is_usable());
    }
}
