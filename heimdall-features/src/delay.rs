//! Delay between two recordings of the same transmission.

use std::f64::consts::TAU;

use num_complex::{Complex32, Complex64};
use rustfft::FftPlanner;
use serde::{Deserialize, Serialize};

use crate::band::{Band, fade, smooth_length};
use crate::correlate::{CrossSpectrum, Peak};
use crate::frequency_search::FrequencySearch;
use crate::resample::{GridMap, PASSED_SHARE, Resampler};
use crate::stft::check_samples;
use crate::{ClockQuality, DelayConfig, FeatureError, IqRecording, Which};

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
/// - [`FeatureError::TooNarrow`] if what they have in common is a plain carrier, keyed or not, or may be
///   one for all that can be told in the noise.
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
        let band_high_hz = config.band_high_hz.min(sample_rate_hz / 2.0);

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
                band_high_hz,
            };
            let other_spectrum = spectrum(&other_samples);
            let base_band = band.cut(&base_spectrum);
            let other_band = band
                .widened(config.frequency_difference_hz_max / bin_width_hz)
                .cut(&other_spectrum);
            frequency_difference_hz = search.run(&base_band, &other_band, &mut planner);
            frequency_cells = search.cells(overlap_s);
            mix(&mut other_samples, -frequency_difference_hz / sample_rate_hz, 0.0);
        }
        let other_spectrum = spectrum(&other_samples);

        let cross = CrossSpectrum::new(&base_spectrum, &other_spectrum, &band.bins(), bin_width_hz);
        let step_s = 1.0 / (2.0 * band_high_hz * config.oversampling as f64);
        let needed = {
            let lags = 4.0 * delay_s_max * band_high_hz + 1.0;
            (lags * frequency_cells as f64 / config.false_alarm_probability).ln()
        };
        // Fading leaves fewer independent samples than there are.
        let (second, fourth) = fade
            .iter()
            .map(|weight| weight * weight)
            .fold((0.0, 0.0), |(second, fourth), power| (second + power, fourth + power * power));
        let fading = length as f64 * fourth / (second * second);

        let bandwidth_hz_min = config.bandwidth_hz_min;
        let line = cross.line(bandwidth_hz_min);
        let peak = cross.peak(delay_s_max, step_s);
        let significance =
            peak.map_or(0.0, |peak| cross.significance(&peak, line.as_ref()) / fading);
        let Some(peak) = peak.filter(|_| significance >= needed) else {
            return Err(match line {
                Some(line) => {
                    FeatureError::TooNarrow { bandwidth_hz: line.width_hz, bandwidth_hz_min }
                }
                None => FeatureError::NoCorrelation { significance, needed },
            });
        };
        let bandwidth_hz = cross.bandwidth_hz_min(&peak);
        if bandwidth_hz < bandwidth_hz_min {
            return Err(FeatureError::TooNarrow { bandwidth_hz, bandwidth_hz_min });
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
        let band = Band::new(length, bin_width_hz, usable);
        if band.is_empty() {
            return Err(FeatureError::NoCommonBand { frequency_hz });
        }
        Ok(band)
    }

    /// Brings the frequency around which the signal lies to zero, on the grid of `base`.
    fn baseband(&self, recording: &IqRecording, map: GridMap, length: usize) -> Vec<Complex64> {
        let cycles = (recording.center_frequency_hz - self.frequency_hz) / recording.sample_rate_hz;
        let is_base = std::ptr::eq(recording, self.base);
        if is_base {
            let first = map.offset as usize; // Made from an index.
            let widened = |x: &Complex32| Complex64::new(x.re.into(), x.im.into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UtcTime;
    use crate::testing::{Signal, Station, carrier, gaussian_noise};

    fn narrow_search() -> DelayConfig {
        DelayConfig { frequency_difference_hz_max: 5.0, ..DelayConfig::default() }
    }

    #[test]
    fn delays_between_the_samples_are_found() {
        let signal = Signal::flat(0.0, 6_000.0, 1);
        let first = Station::new(0.0, 0).record(&signal);
        // A sample takes 42 µs.
        for delay_s in [0.0, 1e-6, -13.7e-6, 333.333e-6, -499e-6] {
            let second = Station::new(delay_s, 0).record(&signal);

            let estimate = measure_delay(&first, &second, 514e-6, &narrow_search()).unwrap();

            // What is cut off at the ends differs by the delay: some 1e-3 of the recording.
            let error_s = (estimate.delay_s - delay_s).abs();
            assert!(error_s < 0.2e-6, "{delay_s} is off by {error_s}");
            assert!(estimate.coherence > 0.99 && estimate.peak_ratio > 2.0, "{estimate:?}");
            assert!((estimate.bandwidth_hz / 12e3 - 1.0).abs() < 0.1, "{estimate:?}");
        }
    }

    #[test]
    fn stations_differ_in_everything_that_stations_differ_in() {
        let signal = Signal::flat(0.0, 6_000.0, 2);
        let first = Station { noise: 0.1, ..Station::new(700e-6, 5) };
        let second = Station {
            delay_s: 912.3e-6,
            start: UtcTime { seconds: 1_599_999_999, nanoseconds: 987_654_321 },
            sample_rate_hz: 24_000.0 * (1.0 + 15e-6),
            samples: 7_000,
            center_offset_hz: 731.5,
            oscillator_offset_hz: 412.3,
            noise: 0.2,
            seed: 6,
        };

        let estimate = measure_delay(
            &first.record(&signal),
            &second.record(&signal),
            514e-6,
            &DelayConfig::default(),
        )
        .unwrap();

        assert!((estimate.delay_s - 212.3e-6).abs() < 1e-6, "{estimate:?}");
        assert!((estimate.delay_s - 212.3e-6).abs() < 5.0 * estimate.sigma_s + 0.2e-6);
        assert!((estimate.frequency_difference_hz - 412.3).abs() < 0.1, "{estimate:?}");
    }

    #[test]
    fn swapped_recordings_negate_the_delay() {
        let signal = Signal::flat(0.0, 6_000.0, 3);
        let first = Station { noise: 0.1, ..Station::new(0.0, 7) }.record(&signal);
        let wide = Station { sample_rate_hz: 60_000.0, samples: 15_000, ..Station::new(123e-6, 8) };
        let second = Station { oscillator_offset_hz: 3.0, ..wide }.record(&signal);

        let forth = measure_delay(&first, &second, 514e-6, &narrow_search()).unwrap();
        let back = measure_delay(&second, &first, 514e-6, &narrow_search()).unwrap();

        assert!((forth.delay_s - 123e-6).abs() < 0.5e-6, "{forth:?}");
        assert!((forth.delay_s + back.delay_s).abs() < 1e-9, "{forth:?} {back:?}");
        let sum_hz = forth.frequency_difference_hz + back.frequency_difference_hz;
        assert!(sum_hz.abs() < 1e-3 && forth.frequency_difference_hz > 2.9, "{forth:?} {back:?}");
    }

    #[test]
    fn strong_carrier_is_notched_out() {
        let signal = Signal::flat(20.0, 600.0, 4).with_carrier(0.3, 10.0);
        let config = DelayConfig { band_low_hz: 20.0, band_high_hz: 1_000.0, ..narrow_search() };
        let station = |delay_s, seed| {
            let noise = 0.1;
            let station = Station { sample_rate_hz: 4_000.0, noise, ..Station::new(delay_s, seed) };
            station.record(&signal)
        };

        let estimate =
            measure_delay(&station(1.3e-3, 1), &station(0.9e-3, 2), 2e-3, &config).unwrap();

        assert!((estimate.delay_s + 0.4e-3).abs() < 5e-6, "{estimate:?}");
    }

    /// Stein's formula holds for a flat band, and the scatter of many estimates is what is said.
    #[test]
    fn deviation_is_that_of_stein_and_of_the_scatter() {
        let (noise, trials) = (1.0, 40_u32);
        let config = DelayConfig {
            band_high_hz: 6_000.0,
            frequency_difference_hz_max: 0.0,
            ..DelayConfig::default()
        };
        let mut scatter = 0.0;
        let mut predicted = 0.0;
        for trial in 0..trials {
            let signal = Signal::flat(0.0, 6_000.0, 100 + u64::from(trial));
            let station = |delay_s, side: u64| {
                let seed = 1_000 * side + u64::from(trial);
                Station { noise, samples: 2_400, ..Station::new(delay_s, seed) }.record(&signal)
            };
            let estimate =
                measure_delay(&station(0.0, 1), &station(50e-6, 2), 514e-6, &config).unwrap();
            scatter += (estimate.delay_s - 50e-6).powi(2) / f64::from(trials);
            predicted += estimate.sigma_s.powi(2) / f64::from(trials);
        }

        // 400 carriers of amplitude 0.05 have power 1; half of the noise lies in the band.
        let snr = 1.0 / (noise * noise / 2.0);
        let beta = std::f64::consts::PI * 12e3 / 3_f64.sqrt();
        let noise_share = 2.0 / snr + 1.0 / (snr * snr);
        let stein = noise_share / (2.0 * beta * beta * 12e3 * 0.1);
        // 40 trials: the scatter is known to 11 %, that is 3 sigma.
        assert!((predicted / stein).sqrt().ln().abs() < 0.2, "{predicted} {stein}");
        assert!((scatter / stein).sqrt().ln().abs() < 0.35, "{scatter} {stein}");
    }

    #[test]
    fn plain_carrier_is_refused() {
        let mut first = Station::new(0.0, 0).record(&Signal::flat(0.0, 6_000.0, 1));
        first.samples = carrier(6_000, 0.01);
        let mut second = first.clone();
        for (noise, sample) in gaussian_noise(6_000, 3).iter().zip(&mut second.samples) {
            *sample += noise * 0.3;
        }

        for second in [first.clone(), second] {
            let error = measure_delay(&first, &second, 514e-6, &narrow_search()).unwrap_err();

            let FeatureError::TooNarrow { bandwidth_hz, bandwidth_hz_min } = error else {
                panic!("{error:?}");
            };
            assert!(bandwidth_hz < bandwidth_hz_min, "{error}");
        }
    }

    /// Morse code at 25 words a minute: dots of 48 ms, with edges of 5 ms as transmitters have them.
    /// Its sidebands reach some tens of Hz, of which no delay of microseconds can be read.
    #[test]
    fn keyed_carrier_is_refused() {
        const DOT_S: f64 = 0.048;
        const EDGE_S: f64 = 0.005;
        // "PARIS" with its gaps, in dots.
        let key = b"10111011101000101110001011101000101000101010000000";
        let keyed_at = |dot: i64| f64::from(key[dot.rem_euclid(key.len() as i64) as usize] - b'0');
        let strength = |time_s: f64| {
            let dot = (time_s / DOT_S).floor();
            let share = ((time_s - dot * DOT_S) / EDGE_S).min(1.0);
            let (before, now) = (keyed_at(dot as i64 - 1), keyed_at(dot as i64));
            before + (now - before) * (0.5 - 0.5 * (std::f64::consts::PI * share).cos())
        };
        let silent = Signal::flat(0.0, 1.0, 1).scaled(0.0);
        let station = |delay_s: f64, noise: f64, seed| {
            let samples = 48_000;
            let mut recording =
                Station { noise, samples, ..Station::new(delay_s, seed) }.record(&silent);
            for (n, sample) in recording.samples.iter_mut().enumerate() {
                let time_s = n as f64 / 24_000.0 - delay_s;
                let tone = Complex64::from_polar(strength(time_s), TAU * (700.0 * time_s).fract());
                *sample += Complex32::new(tone.re as f32, tone.im as f32);
            }
            recording
        };
        for noise in [0.0, 0.05, 0.5] {
            let (first, second) = (station(0.0, noise, 1), station(100e-6, noise, 2));

            let error = measure_delay(&first, &second, 514e-6, &narrow_search()).unwrap_err();

            assert!(matches!(error, FeatureError::TooNarrow { .. }), "{noise}: {error}");
        }
    }

    #[test]
    fn band_wider_than_the_recordings_is_that_of_the_recordings() {
        let signal = Signal::flat(0.0, 6_000.0, 9);
        let station = |delay_s, seed| Station { noise: 0.1, ..Station::new(delay_s, seed) };
        let config = DelayConfig { band_high_hz: 1e15, ..narrow_search() };

        let first = station(0.0, 1).record(&signal);
        let second = station(77e-6, 2).record(&signal);
        let estimate = measure_delay(&first, &second, 514e-6, &config).unwrap();

        assert!((estimate.delay_s - 77e-6).abs() < 1e-6, "{estimate:?}");
    }

    #[test]
    fn different_signals_are_refused() {
        let station = Station { noise: 0.3, ..Station::new(0.0, 0) };
        for seed in 0..5 {
            let first = station.record(&Signal::flat(0.0, 6_000.0, 10 + seed));
            let second =
                Station { seed: 1, ..station }.record(&Signal::flat(0.0, 6_000.0, 20 + seed));

            let error =
                measure_delay(&first, &second, 514e-6, &DelayConfig::default()).unwrap_err();

            assert!(matches!(error, FeatureError::NoCorrelation { .. }), "{error:?}");
        }
    }

    #[test]
    fn unusable_recordings_are_refused() {
        let good = Station::new(0.0, 0).record(&Signal::flat(0.0, 6_000.0, 1));
        let with = |change: &dyn Fn(&mut IqRecording)| {
            let mut recording = good.clone();
            change(&mut recording);
            measure_delay(&good, &recording, 514e-6, &DelayConfig::default()).unwrap_err()
        };

        assert_eq!(
            with(&|recording| recording.clock = ClockQuality::Unknown),
            FeatureError::UnknownClock { which: Which::Second }
        );
        assert_eq!(
            with(&|recording| recording.sample_rate_hz = 0.0),
            FeatureError::InvalidSampleRate { which: Which::Second, sample_rate_hz: 0.0 }
        );
        assert_eq!(
            with(&|recording| recording.samples[7].re = f32::NAN),
            FeatureError::NotFinite { index: 7 }
        );
        assert_eq!(
            with(&|recording| recording.samples.fill(Complex32::ZERO)),
            FeatureError::Silent { sample_count: 6_000 }
        );
        assert_eq!(with(&|recording| recording.samples.clear()), FeatureError::Empty);
        let error = with(&|recording| recording.start.seconds += 3600);
        assert!(matches!(error, FeatureError::NoOverlap { overlap_s, .. } if overlap_s < -3599.0));
        let error = with(&|recording| recording.start.nanoseconds += 249_000_000);
        assert!(matches!(error, FeatureError::NoOverlap { overlap_s, .. } if overlap_s > 0.0));
        let error = with(&|recording| recording.center_frequency_hz += 40e3);
        assert_eq!(error, FeatureError::NoCommonBand { frequency_hz: 145e6 });
    }

    #[test]
    fn impossible_arguments_are_refused_by_name() {
        let good = Station::new(0.0, 0).record(&Signal::flat(0.0, 6_000.0, 1));
        let invalid = DelayConfig { oversampling: 0, ..DelayConfig::default() };

        let error = measure_delay(&good, &good, 514e-6, &invalid).unwrap_err();
        assert!(error.to_string().starts_with("`oversampling`"), "{error}");
        let error = measure_delay(&good, &good, 0.0, &DelayConfig::default()).unwrap_err();
        assert!(error.to_string().starts_with("`delay_s_max`"), "{error}");
    }
}
