//! Delay between two recordings of the same transmission.

use std::f64::consts::TAU;

use num_complex::Complex64;
use rustfft::FftPlanner;
use serde::{Deserialize, Serialize};

use crate::correlate::{CrossSpectrum, Peak};
use crate::frequency_search::FrequencySearch;
use crate::resample::{GridMap, PASSED_SHARE, Resampler};
use crate::stft::check_samples;
use crate::{ClockQuality, FeatureError, IqRecording, Which};

/// How the delay between two recordings is measured; the defaults are for narrow-band FM at VHF.
///
/// For a time signal like DCF77, `band_high_hz: 1000` takes in its phase modulation,
/// `band_low_hz: 20` leaves out its carrier, and receivers whose oscillators are disciplined need
/// no more than `frequency_difference_hz_max: 1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DelayConfig {
    /// Frequency around which the signal lies, in Hz; the center of the first recording where left
    /// out.
    pub frequency_hz: Option<f64>,
    /// Distance from that frequency below which nothing is used, in Hz; takes out a carrier.
    pub band_low_hz: f64,
    /// Distance from that frequency above which nothing is used, in Hz.
    pub band_high_hz: f64,
    /// Largest difference between the receivers' oscillators that is searched for, in Hz.
    pub frequency_difference_hz_max: f64,
    /// Points at which the correlation is looked at, per independent one.
    pub oversampling: usize,
    /// Effective bandwidth below which a signal is taken for a plain carrier, in Hz.
    pub bandwidth_hz_min: f64,
    /// Probability with which noise alone passes for a common signal.
    pub false_alarm_probability: f64,
}

impl Default for DelayConfig {
    fn default() -> Self {
        Self {
            frequency_hz: None,
            band_low_hz: 0.0,
            band_high_hz: 8_000.0,
            frequency_difference_hz_max: 750.0,
            oversampling: 8,
            bandwidth_hz_min: 100.0,
            false_alarm_probability: 1e-3,
        }
    }
}

impl DelayConfig {
    /// Checks the rules that the types of the fields cannot express.
    ///
    /// # Errors
    ///
    /// Returns [`FeatureError::InvalidConfig`] for the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FeatureError> {
        let check = |holds: bool, field, expected: &str, actual| {
            if holds {
                return Ok(());
            }
            Err(FeatureError::InvalidConfig { field, expected: expected.to_owned(), actual })
        };
        let frequency_hz = self.frequency_hz.unwrap_or(0.0);
        check(frequency_hz.is_finite(), "frequency_hz", "a finite number", frequency_hz)?;
        check(
            self.band_low_hz.is_finite() && self.band_low_hz >= 0.0,
            "band_low_hz",
            "zero or a positive number",
            self.band_low_hz,
        )?;
        check(
            self.band_high_hz.is_finite() && self.band_high_hz > self.band_low_hz,
            "band_high_hz",
            "above `band_low_hz`",
            self.band_high_hz,
        )?;
        let difference_hz = self.frequency_difference_hz_max;
        check(
            difference_hz.is_finite() && difference_hz >= 0.0,
            "frequency_difference_hz_max",
            "zero or a positive number",
            difference_hz,
        )?;
        check(
            (2..=64).contains(&self.oversampling),
            "oversampling",
            "between 2 and 64",
            self.oversampling as f64,
        )?;
        check(
            self.bandwidth_hz_min.is_finite() && self.bandwidth_hz_min > 0.0,
            "bandwidth_hz_min",
            "a positive number",
            self.bandwidth_hz_min,
        )?;
        check(
            self.false_alarm_probability > 0.0 && self.false_alarm_probability < 1.0,
            "false_alarm_probability",
            "between 0 and 1",
            self.false_alarm_probability,
        )
    }
}

/// A delay between two recordings, and how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayEstimate {
    /// Arrival in the second recording minus arrival in the first, in seconds.
    pub delay_s: f64,
    /// Standard deviation of the delay from noise and clocks, without multipath, in seconds.
    pub sigma_s: f64,
    /// Highest peak of the correlation over the second highest; near one, the delay is a guess.
    pub peak_ratio: f64,
    /// Effective bandwidth of the common signal, in Hz: that of a flat band with the same curvature
    /// of the correlation peak.
    pub bandwidth_hz: f64,
    /// Correlation coefficient of the two recordings in the band, between 0 and 1.
    pub coherence: f64,
    /// Frequency of the signal in the second recording minus that in the first, in Hz.
    pub frequency_difference_hz: f64,
    /// Time that both recordings cover, in seconds.
    pub overlap_s: f64,
}

/// Share of the common time at each end over which the signal fades in and out, so that what is
/// left of a strong carrier at the cut does not pass for a common signal.
const FADE_SHARE: f64 = 0.05;
/// Least common time, in lengths of the longest delay.
const OVERLAP_DELAYS: f64 = 4.0;
/// Least number of samples in common.
const OVERLAP_SAMPLES: usize = 64;

/// Measures by how much later a transmission arrived in the second recording than in the first.
///
/// The recording with the higher rate is resampled onto the grid of the other, by time stamps and
/// fitted rates; the difference in frequency is searched for and removed; the band is cut out; and
/// the highest peak of the plain cross-correlation within `±delay_s_max` is located between the
/// samples.
///
/// # Errors
///
/// - [`FeatureError::InvalidConfig`] if `config` breaks one of its rules or `delay_s_max` is not
///   positive.
/// - [`FeatureError::UnknownClock`] if a recording's time stamps cannot be trusted.
/// - [`FeatureError::Empty`], [`FeatureError::NotFinite`], [`FeatureError::Silent`] and
///   [`FeatureError::InvalidSampleRate`] for recordings that no delay could be measured with.
/// - [`FeatureError::NoOverlap`] if they have less than four times `delay_s_max` in common.
/// - [`FeatureError::NoCommonBand`] if no frequency of the band lies in both.
/// - [`FeatureError::TooNarrow`] if what they have in common is a plain carrier.
/// - [`FeatureError::NoCorrelation`] if they have nothing in common.
///
/// # References
///
/// S. Stein, "Algorithms for ambiguity function processing", *IEEE Transactions on Acoustics,
/// Speech, and Signal Processing* 29(3), 1981,
/// [doi:10.1109/TASSP.1981.1163621](https://doi.org/10.1109/TASSP.1981.1163621).
pub fn measure_delay(
    first: &IqRecording,
    second: &IqRecording,
    delay_s_max: f64,
    config: &DelayConfig,
) -> Result<DelayEstimate, FeatureError> {
    config.validate()?;
    if !(delay_s_max.is_finite() && delay_s_max > 0.0) {
        return Err(FeatureError::InvalidConfig {
            field: "delay_s_max",
            expected: "a positive number".to_owned(),
            actual: delay_s_max,
        });
    }
    let first_clock_s = check_recording(first, Which::First)?;
    let second_clock_s = check_recording(second, Which::Second)?;
    let frequency_hz = config.frequency_hz.unwrap_or(first.center_frequency_hz);

    // The coarser grid is enough for what both have in common.
    let estimate = if first.sample_rate_hz <= second.sample_rate_hz {
        Pair { base: first, other: second, frequency_hz, delay_s_max, config }.measure()?
    } else {
        let swapped = Pair { base: second, other: first, frequency_hz, delay_s_max, config };
        let estimate = swapped.measure()?;
        DelayEstimate {
            delay_s: -estimate.delay_s,
            frequency_difference_hz: -estimate.frequency_difference_hz,
            ..estimate
        }
    };
    let sigma_s = estimate.sigma_s.hypot(first_clock_s).hypot(second_clock_s);
    Ok(DelayEstimate { sigma_s, ..estimate })
}

/// Checks one recording, and returns the deviation of its clock.
fn check_recording(recording: &IqRecording, which: Which) -> Result<f64, FeatureError> {
    let ClockQuality::Disciplined { sigma_s } = recording.clock else {
        return Err(FeatureError::UnknownClock { which });
    };
    let sample_rate_hz = recording.sample_rate_hz;
    if !(sample_rate_hz.is_finite() && sample_rate_hz > 0.0) {
        return Err(FeatureError::InvalidSampleRate { which, sample_rate_hz });
    }
    check_samples(&recording.samples)?;
    if recording.samples.iter().all(|sample| sample.norm_sqr() <= 0.0) {
        return Err(FeatureError::Silent { sample_count: recording.samples.len() });
    }
    Ok(sigma_s)
}

/// Two recordings, of which `base` has the lower sample rate.
struct Pair<'a> {
    base: &'a IqRecording,
    other: &'a IqRecording,
    frequency_hz: f64,
    delay_s_max: f64,
    config: &'a DelayConfig,
}

impl Pair<'_> {
    /// Measures the delay of `other` after `base`; the deviation is that of noise alone.
    fn measure(&self) -> Result<DelayEstimate, FeatureError> {
        let &Self { base, other, delay_s_max, config, .. } = self;
        let sample_rate_hz = base.sample_rate_hz;
        let overlap = self.overlap()?;
        let length = overlap.len();
        let overlap_s = length as f64 / sample_rate_hz;
        let bin_width_hz = sample_rate_hz / length as f64;
        let band = self.band(length)?;

        let fade = fade(length);
        let base_map = GridMap { offset: overlap.start as f64, step: 1.0 };
        let start_s = overlap.start as f64 / sample_rate_hz;
        let other_map = GridMap {
            offset: (start_s - other.start.seconds_since(&base.start)) * other.sample_rate_hz,
            step: other.sample_rate_hz / sample_rate_hz,
        };
        let mut planner = FftPlanner::<f64>::new();
        let forward = planner.plan_fft_forward(length);
        let spectrum = |samples: &[Complex64]| {
            let mut faded: Vec<_> =
                samples.iter().zip(&fade).map(|(x, weight)| x * weight).collect();
            forward.process(&mut faded);
            faded
        };

        let base_samples = self.baseband(base, base_map, length);
        let mut other_samples = self.baseband(other, other_map, length);
        let base_spectrum = spectrum(&base_samples);

        let mut frequency_difference_hz = 0.0;
        let mut frequency_cells = 1;
        if config.frequency_difference_hz_max > 0.0 {
            let search = FrequencySearch {
                sample_rate_hz,
                delay_s_max,
                difference_hz_max: config.frequency_difference_hz_max,
                band_high_hz: config.band_high_hz,
            };
            let other_spectrum = spectrum(&other_samples);
            let base_band = band.cut(&base_spectrum);
            let other_band = band.widened(&search, bin_width_hz).cut(&other_spectrum);
            frequency_difference_hz = search.run(&base_band, &other_band, &mut planner);
            frequency_cells = search.cells(overlap_s);
            mix(&mut other_samples, -frequency_difference_hz / sample_rate_hz, 0.0);
        }
        let other_spectrum = spectrum(&other_samples);

        let cross = CrossSpectrum::new(&base_spectrum, &other_spectrum, &band.bins(), bin_width_hz);
        let step_s = 1.0 / (2.0 * config.band_high_hz * config.oversampling as f64);
        let needed = {
            let lags = 4.0 * delay_s_max * config.band_high_hz + 1.0;
            (lags * frequency_cells as f64 / config.false_alarm_probability).ln()
        };
        // Fading leaves fewer independent samples than there are.
        let (second, fourth) = fade
            .iter()
            .map(|weight| weight * weight)
            .fold((0.0, 0.0), |(second, fourth), power| (second + power, fourth + power * power));
        let fading = length as f64 * fourth / (second * second);

        let peak = cross.peak(delay_s_max, step_s);
        let significance = peak.map_or(0.0, |peak| cross.significance(&peak) / fading);
        let line_hz = config.bandwidth_hz_min;
        let narrow =
            |bandwidth_hz| Err(FeatureError::TooNarrow { bandwidth_hz, bandwidth_hz_min: line_hz });
        if cross.is_line(line_hz) && peak.is_none_or(|peak| peak.bandwidth_hz() < line_hz) {
            return narrow(peak.map_or(0.0, |peak| peak.bandwidth_hz()));
        }
        let Some(peak) = peak.filter(|_| significance >= needed) else {
            return Err(FeatureError::NoCorrelation { significance, needed });
        };
        if peak.bandwidth_hz() < line_hz {
            return narrow(peak.bandwidth_hz());
        }
        let Peak { delay_s, ratio, coherence, .. } = peak;
        Ok(DelayEstimate {
            delay_s,
            sigma_s: cross.deviation_s(&peak) * fading.sqrt(),
            peak_ratio: ratio,
            bandwidth_hz: peak.bandwidth_hz(),
            coherence,
            frequency_difference_hz,
            overlap_s,
        })
    }

    /// Finds the samples of `base` that lie in both recordings, an easily transformed number.
    fn overlap(&self) -> Result<std::ops::Range<usize>, FeatureError> {
        let &Self { base, other, delay_s_max, .. } = self;
        let other_start_s = other.start.seconds_since(&base.start);
        let start_s = other_start_s.max(0.0);
        let end_s = base.duration_s().min(other_start_s + other.duration_s());
        let needed_s =
            (OVERLAP_DELAYS * delay_s_max).max(OVERLAP_SAMPLES as f64 / base.sample_rate_hz);
        let overlap_s = end_s - start_s;
        // Not a number where time stamps are beyond all measure.
        if overlap_s.is_nan() || overlap_s < needed_s {
            return Err(FeatureError::NoOverlap { overlap_s, needed_s });
        }
        // Both are indices into `base`, rounded inwards.
        let start = (start_s * base.sample_rate_hz).ceil() as usize;
        let end = ((end_s * base.sample_rate_hz).floor() as usize).min(base.samples.len());
        Ok(start..start + smooth_length(end.saturating_sub(start).max(1)))
    }

    /// Finds the bins of the band that both recordings pass.
    fn band(&self, length: usize) -> Result<Band, FeatureError> {
        let &Self { base, other, frequency_hz, config, .. } = self;
        let bin_width_hz = base.sample_rate_hz / length as f64;
        let passes = |recording: &IqRecording, offset_hz: f64| {
            let distance_hz = (frequency_hz + offset_hz - recording.center_frequency_hz).abs();
            distance_hz <= recording.sample_rate_hz * PASSED_SHARE / 2.0
        };
        let usable = |offset_hz: f64| {
            let distance_hz = offset_hz.abs();
            (config.band_low_hz..=config.band_high_hz).contains(&distance_hz)
                && passes(base, offset_hz)
                && passes(other, offset_hz)
        };
        // The grid has frequencies from minus half of its rate on.
        let mask: Vec<bool> =
            (0..length).map(|index| usable(signed(index, length) * bin_width_hz)).collect();
        if !mask.contains(&true) {
            return Err(FeatureError::NoCommonBand { frequency_hz });
        }
        Ok(Band { mask })
    }

    /// Brings the frequency around which the signal lies to zero, on the grid of `base`.
    fn baseband(&self, recording: &IqRecording, map: GridMap, length: usize) -> Vec<Complex64> {
        let cycles = (recording.center_frequency_hz - self.frequency_hz) / recording.sample_rate_hz;
        let is_base = std::ptr::eq(recording, self.base);
        if is_base {
            let first = map.offset as usize; // Made from an index.
            let widened = |x: &num_complex::Complex32| Complex64::new(x.re.into(), x.im.into());
            let mut samples: Vec<_> =
                recording.samples[first..first + length].iter().map(widened).collect();
            mix(&mut samples, cycles, 0.0);
            return samples;
        }
        // Mixed after resampling by the same phase that it would have before: the kernel passes
        // what lies around the recording's own center.
        let mut samples = Resampler::new().resample(&recording.samples, map, length);
        mix(&mut samples, cycles * map.step, cycles * map.offset);
        samples
    }
}

/// Shifts the frequency of `samples` up by `cycles` turns per sample.
fn mix(samples: &mut [Complex64], cycles: f64, start_cycles: f64) {
    if cycles.abs() <= 0.0 {
        return;
    }
    for (n, sample) in samples.iter_mut().enumerate() {
        *sample *= Complex64::cis(TAU * (start_cycles + cycles * n as f64).fract());
    }
}

/// Bins of a transform that are used.
#[derive(Clone, Debug)]
struct Band {
    mask: Vec<bool>,
}

impl Band {
    /// The used bins by rising frequency, as (index, signed number).
    fn bins(&self) -> Vec<(usize, f64)> {
        let length = self.mask.len();
        let half = length / 2;
        (0..length)
            .map(|row| (row + length - half) % length)
            .filter(|&index| self.mask[index])
            .map(|index| (index, signed(index, length)))
            .collect()
    }

    /// Takes in the bins into which the difference in frequency could carry the used ones.
    fn widened(&self, search: &FrequencySearch, bin_width_hz: f64) -> Self {
        let reach = (search.difference_hz_max / bin_width_hz).ceil() as usize; // Not negative.
        let length = self.mask.len();
        if 2 * reach + 1 >= length {
            return Self { mask: vec![true; length] };
        }
        // A bin is taken in if there is a used one within reach, around the circle.
        let mut inside =
            (0..=2 * reach).filter(|&offset| self.mask[(offset + length - reach) % length]).count();
        let mut mask = Vec::with_capacity(length);
        for index in 0..length {
            mask.push(inside > 0);
            inside += usize::from(self.mask[(index + reach + 1) % length]);
            inside -= usize::from(self.mask[(index + length - reach) % length]);
        }
        Self { mask }
    }

    /// Sets what lies outside of the band to zero.
    fn cut(&self, spectrum: &[Complex64]) -> Vec<Complex64> {
        let cut = |(value, &used): (&Complex64, &bool)| if used { *value } else { Complex64::ZERO };
        spectrum.iter().zip(&self.mask).map(cut).collect()
    }
}

/// Number of a transform's bin, negative in the upper half.
fn signed(index: usize, length: usize) -> f64 {
    if index < length.div_ceil(2) { index as f64 } else { index as f64 - length as f64 }
}

/// Weights that rise and fall like half a cosine at the ends and are one between them.
fn fade(length: usize) -> Vec<f64> {
    let edge = FADE_SHARE * length as f64;
    let weight = |n: usize| {
        let distance = (n as f64 + 0.5).min(length as f64 - n as f64 - 0.5);
        if distance < edge {
            0.5 - 0.5 * (std::f64::consts::PI * distance / edge).cos()
        } else {
            1.0
        }
    };
    (0..length).map(weight).collect()
}

/// Finds the largest number up to `length` without a prime factor above five.
fn smooth_length(length: usize) -> usize {
    let mut best = 1;
    let mut fives = 1;
    while fives <= length {
        let mut threes = fives;
        while threes <= length {
            let twos = (length / threes).ilog2();
            best = best.max(threes << twos);
            threes *= 3;
        }
        fives *= 5;
    }
    best
}
