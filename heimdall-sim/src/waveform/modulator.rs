//! From a kind of transmission to a signal that is known at any instant.

use std::f64::consts::{PI, TAU};
use std::fmt;
use std::sync::Arc;

use num_complex::Complex64;
use rustfft::{Fft, FftPlanner};

use super::emission::{Emission, TABLE_RATE_HZ};
use super::voice::{AUDIO_BAND_HZ, Voice};
use super::{WaveformConfig, WaveformKind};
use crate::random::RandomStream;

/// How much longer than a recording the tabulated signal is, in s: 30,000 km at the speed of light.
const MARGIN_S: f64 = 0.1;

/// Symbol rate of the four frequencies, in Bd: ten steps of the table.
const FSK4_RATE_BD: f64 = 4800.0;
/// Deviation of the inner two of the four frequencies, in Hz; the outer two deviate three times as
/// far (ETSI TS 102 361-1, section 10.2.2).
const FSK4_DEVIATION_HZ: f64 = 648.0;
/// Roll-off of the filter that the symbols pass (as above, section 10.2.3.1.1).
const FSK4_ROLL_OFF: f64 = 0.2;

/// Symbol rate of packet radio, in Bd: forty steps of the table.
const AFSK_RATE_BD: f64 = 1200.0;
/// Tones of mark and space, in Hz (Bell 202).
const AFSK_TONES_HZ: [f64; 2] = [1200.0, 2200.0];
/// Peak deviation of packet radio, in Hz.
const AFSK_DEVIATION_HZ: f64 = 3000.0;

/// Slowest and fastest Morse code, in words per minute: a dot lasts 1.2 s over this.
const MORSE_WPM: [f64; 2] = [20.0, 30.0];
/// Duration of the edges of a keyed carrier, in s.
const KEYING_EDGE_S: f64 = 0.005;
/// A keyed carrier is on from this much before the recording, in s: no recording is of a pause only.
const KEYING_LEAD_S: f64 = 0.01;

/// Makes transmissions of one duration; planned once.
#[derive(Clone)]
pub(crate) struct Modulator {
    config: WaveformConfig,
    /// Steps of the table in a recording.
    recorded: usize,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
}

impl fmt::Debug for Modulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Modulator")
            .field("config", &self.config)
            .field("points", &self.points())
            .finish_non_exhaustive()
    }
}

impl Modulator {
    pub(crate) fn new(config: &WaveformConfig, duration_s: f64) -> Self {
        // The configuration limits the duration to a minute.
        let points = ((duration_s + MARGIN_S) * TABLE_RATE_HZ).ceil() as usize;
        let points = points.next_power_of_two();
        let mut planner = FftPlanner::new();
        Self {
            config: config.clone(),
            recorded: (duration_s * TABLE_RATE_HZ).ceil() as usize,
            forward: planner.plan_fft_forward(points),
            inverse: planner.plan_fft_inverse(points),
        }
    }

    fn points(&self) -> usize {
        self.forward.len()
    }

    /// Makes one transmission, whose mean power over the recording is 1.
    pub(crate) fn emit(&self, kind: WaveformKind, random: &mut RandomStream) -> Emission {
        match kind {
            WaveformKind::NbfmVoice => {
                let WaveformConfig { deviation_hz_min, deviation_hz_max, .. } = self.config;
                let deviation_hz = random.between(deviation_hz_min, deviation_hz_max);
                let voice = Voice::draw(random);
                let audio = voice.excitation(self.points(), TABLE_RATE_HZ, random);
                self.frequency_modulated(audio, |hz| voice.gain(hz), Some(deviation_hz))
            }
            WaveformKind::Ssb => {
                let voice = Voice::draw(random);
                let audio = voice.excitation(self.points(), TABLE_RATE_HZ, random);
                self.upper_sideband(audio, |hz| voice.gain(hz))
            }
            WaveformKind::Afsk1200 => {
                let in_band = |hz| if hz < AUDIO_BAND_HZ[1] { 1.0 } else { 0.0 };
                self.frequency_modulated(self.tones(random), in_band, Some(AFSK_DEVIATION_HZ))
            }
            WaveformKind::Fsk4 => self.frequency_modulated(self.symbols(random), fsk4_filter, None),
            WaveformKind::Cw => self.keyed(random),
            WaveformKind::Carrier => Emission::from_phase(vec![[0.0; 2]; self.points()]),
        }
    }

    /// Shapes a signal by its frequency, and modulates the frequency with it.
    ///
    /// The largest deviation becomes `deviation_hz`; without one, the signal is in Hz already.
    fn frequency_modulated(
        &self,
        mut audio: Vec<Complex64>,
        gain: impl Fn(f64) -> f64,
        deviation_hz: Option<f64>,
    ) -> Emission {
        // The audio is shaped by frequency and integrated to the phase at once: both are real, so
        // that one transform back gives the phase as its real and the audio as its imaginary part.
        self.shape(&mut audio, |frequency_hz| {
            let gain = gain(frequency_hz.abs());
            // Without a mean the phase repeats after the table's end.
            if gain > 0.0 && frequency_hz.abs() > 0.0 {
                gain * (1.0 / Complex64::new(0.0, TAU * frequency_hz) + Complex64::I)
            } else {
                Complex64::ZERO
            }
        });
        let scale = match deviation_hz {
            Some(deviation_hz) => {
                let peak =
                    audio.iter().map(|value| value.im.abs()).fold(f64::MIN_POSITIVE, f64::max);
                TAU * deviation_hz / peak
            }
            None => TAU / self.points() as f64,
        };
        // Rounding to the nearest `f32` is an error of a millionth of a turn.
        let node = |value: &Complex64| {
            [(value.re * scale) as f32, (value.im * scale / TABLE_RATE_HZ) as f32]
        };
        Emission::from_phase(audio.iter().map(node).collect())
    }

    /// Shapes audio by its frequency, and shifts its positive frequencies up to the carrier.
    fn upper_sideband(&self, audio: Vec<Complex64>, gain: impl Fn(f64) -> f64) -> Emission {
        let (mut values, mut slopes) = (audio.clone(), audio);
        self.shape(&mut values, |hz| Complex64::new(gain(hz), 0.0));
        self.shape(&mut slopes, |hz| Complex64::new(0.0, TAU * hz / TABLE_RATE_HZ) * gain(hz));
        self.normalized(values.into_iter().zip(slopes).collect())
    }

    /// Multiplies the spectrum of a signal by a function of the frequency in Hz. The result is too
    /// large by the number of points.
    fn shape(&self, signal: &mut [Complex64], factor: impl Fn(f64) -> Complex64) {
        let points = self.points();
        self.forward.process(signal);
        for (bin, value) in signal.iter_mut().enumerate() {
            let signed_bin =
                if bin <= points / 2 { bin as f64 } else { bin as f64 - points as f64 };
            *value *= factor(signed_bin * TABLE_RATE_HZ / points as f64);
        }
        self.inverse.process(signal);
    }

    /// Draws the tones of random bits, one after the other without a jump of the phase.
    fn tones(&self, random: &mut RandomStream) -> Vec<Complex64> {
        let steps_per_symbol = (TABLE_RATE_HZ / AFSK_RATE_BD) as usize; // An integer.
        let mut phase = random.angle();
        let mut tone_hz = AFSK_TONES_HZ[0];
        (0..self.points())
            .map(|n| {
                if n % steps_per_symbol == 0 {
                    tone_hz = AFSK_TONES_HZ[usize::from(random.uniform() < 0.5)];
                }
                phase += TAU * tone_hz / TABLE_RATE_HZ;
                Complex64::new(phase.cos(), 0.0)
            })
            .collect()
    }

    /// Draws random symbols as impulses, in Hz.
    fn symbols(&self, random: &mut RandomStream) -> Vec<Complex64> {
        let steps_per_symbol = TABLE_RATE_HZ / FSK4_RATE_BD; // An integer.
        let mut symbols = vec![Complex64::ZERO; self.points()];
        for symbol in symbols.iter_mut().step_by(steps_per_symbol as usize) {
            // Rounded down to 0 … 3.
            let level = 2.0 * (4.0 * random.uniform()).floor() - 3.0;
            symbol.re = level * FSK4_DEVIATION_HZ * steps_per_symbol;
        }
        symbols
    }

    /// Keys a carrier with random dots and dashes.
    fn keyed(&self, random: &mut RandomStream) -> Emission {
        let dot = 1.2 * TABLE_RATE_HZ / random.between(MORSE_WPM[0], MORSE_WPM[1]);
        let edge = KEYING_EDGE_S * TABLE_RATE_HZ;
        let points = self.points();
        let mut nodes = vec![(Complex64::ZERO, Complex64::ZERO); points];
        let mut start = -KEYING_LEAD_S * TABLE_RATE_HZ;
        let last_place = points as i64 + start.floor() as i64 - 1;
        while start < points as f64 {
            let length = if random.uniform() < 0.5 { dot } else { 3.0 * dot };
            // What begins before the table stands at its end, where delays reach back to.
            let last = ((start + length + edge).floor() as i64).min(last_place);
            for place in start.ceil() as i64..=last {
                let (value, slope) = key(place as f64 - start, length, edge);
                let index = place.rem_euclid(points as i64) as usize;
                if value > nodes[index].0.re {
                    nodes[index] = (Complex64::new(value, 0.0), Complex64::new(slope, 0.0));
                }
            }
            start += length + dot;
        }
        self.normalized(nodes)
    }

    /// Scales values and slopes such that the mean power over the recording is 1.
    fn normalized(&self, nodes: Vec<(Complex64, Complex64)>) -> Emission {
        let power: f64 = nodes[..self.recorded].iter().map(|(value, _)| value.norm_sqr()).sum();
        let scale = (self.recorded as f64 / power).sqrt();
        let node = |(value, slope): (Complex64, Complex64)| {
            [value.re, value.im, slope.re, slope.im].map(|number| (number * scale) as f32)
        };
        Emission::from_envelope(nodes.into_iter().map(node).collect())
    }
}

/// Amplitude and slope of a keyed carrier `place` steps after its key went down for `length` steps,
/// with edges of `edge` steps that are half a period of a cosine.
fn key(place: f64, length: f64, edge: f64) -> (f64, f64) {
    let rise =
        |x: f64| (0.5 - 0.5 * (PI * x / edge).cos(), 0.5 * PI / edge * (PI * x / edge).sin());
    if place < edge {
        rise(place.max(0.0))
    } else if place <= length {
        (1.0, 0.0)
    } else {
        let (value, slope) = rise((length + edge - place).max(0.0));
        (value, -slope)
    }
}

/// Amplitude of the filter of the four frequencies: a root raised cosine.
fn fsk4_filter(frequency_hz: f64) -> f64 {
    let place = frequency_hz / (FSK4_RATE_BD / 2.0);
    if place <= 1.0 - FSK4_ROLL_OFF {
        1.0
    } else if place < 1.0 + FSK4_ROLL_OFF {
        (PI / 4.0 * (place - 1.0 + FSK4_ROLL_OFF) / FSK4_ROLL_OFF).cos()
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use num_complex::Complex32;
    use rustfft::FftPlanner;

    use super::*;
    use crate::random::{Purpose, StreamKey};

    const DURATION_S: f64 = 0.15;

    fn emission(kind: WaveformKind, event: usize) -> Emission {
        let modulator = Modulator::new(&WaveformConfig::default(), DURATION_S);
        modulator.emit(kind, &mut RandomStream::new(3, StreamKey::at(Purpose::Waveform, event)))
    }

    /// A recording of the transmission alone.
    fn samples(kind: WaveformKind, event: usize, count: usize, rate_hz: f64) -> Vec<Complex32> {
        let mut samples = vec![Complex32::ZERO; count];
        emission(kind, event).add_to(&mut samples, Complex32::ONE, 0.0, rate_hz);
        samples
    }

    fn mean_power(samples: &[Complex32]) -> f64 {
        samples.iter().map(|sample| f64::from(sample.norm_sqr())).sum::<f64>()
            / samples.len() as f64
    }

    /// The sum over the nodes is the integral but for the ends: a hundredth of a decibel.
    #[test]
    fn every_kind_has_the_power_of_one_in_its_recording() {
        for kind in WaveformKind::ALL {
            for event in 0..4 {
                let power = mean_power(&samples(kind, event, 3600, 24_000.0));
                assert!((power - 1.0).abs() < 3e-3, "{kind}: {power}");
            }
        }
    }

    /// Carson's rule puts 98 % of the power of FM into 2 (3 kHz + 3 kHz) = 12 kHz; the others are
    /// narrower.
    #[test]
    fn every_kind_stays_in_its_channel() {
        let (points, rate_hz) = (1 << 13, 48_000.0);
        for kind in WaveformKind::ALL {
            let mut samples = samples(kind, 1, points, rate_hz);
            for (n, sample) in samples.iter_mut().enumerate() {
                *sample *= 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / points as f32).cos();
            }

            FftPlanner::new().plan_fft_forward(points).process(&mut samples);

            let power = |bins: &[Complex32]| bins.iter().map(Complex32::norm_sqr).sum::<f32>();
            let half = (6_250.0 * points as f64 / rate_hz) as usize;
            let inside = power(&samples[..half]) + power(&samples[points - half..]);
            let share = inside / power(&samples);
            assert!(share > 0.98, "{share} of the power of {kind} is in the channel");
        }
    }

    /// Root mean square of the frequency around its mean, over the periodograms of 20 events.
    ///
    /// The values are those of a typical transmission; voices differ, so that a tenth is allowed.
    #[test]
    fn bandwidths_are_those_of_the_transmissions() {
        let (points, rate_hz) = (1 << 12, 24_000.0);
        for kind in WaveformKind::ALL {
            let Some(stated_hz) = kind.rms_bandwidth_hz() else { continue };
            let mut squares = Vec::new();
            for event in 0..20 {
                let mut samples = samples(kind, event, points, rate_hz);
                for (n, sample) in samples.iter_mut().enumerate() {
                    *sample *= 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / points as f32).cos();
                }
                FftPlanner::new().plan_fft_forward(points).process(&mut samples);
                let moment = |power: i32| -> f64 {
                    let bins = samples.iter().enumerate().map(|(bin, value)| {
                        let bin =
                            if bin < points / 2 { bin as f64 } else { bin as f64 - points as f64 };
                        f64::from(value.norm_sqr()) * (bin * rate_hz / points as f64).powi(power)
                    });
                    bins.sum()
                };
                let mean_hz = moment(1) / moment(0);
                squares.push(moment(2) / moment(0) - mean_hz * mean_hz);
            }
            let measured_hz = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
            assert!((measured_hz / stated_hz - 1.0).abs() < 0.1, "{kind}: {measured_hz} Hz");
        }
    }

    #[test]
    fn peak_deviation_is_within_its_limits() {
        for event in 0..5 {
            // The phase advances by 2π · 3000 / 48000 between two samples at most.
            let samples = samples(WaveformKind::NbfmVoice, event, 15_000, 48_000.0);
            let advance = samples.windows(2).map(|pair| (pair[1] * pair[0].conj()).arg().abs());
            let peak_hz = f64::from(advance.fold(0.0, f32::max)) * 48_000.0 / TAU;
            assert!((2300.0..=3001.0).contains(&peak_hz), "{peak_hz} Hz");
        }
    }

    /// A receiver filters the frequency as the transmitter did: both filters together leave no trace
    /// of a symbol at the middles of the others, so that ±648 and ±1944 Hz are left there.
    #[test]
    fn four_frequencies_carry_the_symbols() {
        let points = 1 << 13;
        let samples = samples(WaveformKind::Fsk4, 0, points + 1, 48_000.0);
        let mut frequencies: Vec<Complex64> = samples
            .windows(2)
            .map(|pair| {
                let advance = f64::from((pair[1] * pair[0].conj()).arg());
                Complex64::new(advance * TABLE_RATE_HZ / TAU, 0.0)
            })
            .collect();

        FftPlanner::new().plan_fft_forward(points).process(&mut frequencies);
        for (bin, value) in frequencies.iter_mut().enumerate() {
            let bin = if bin < points / 2 { bin as f64 } else { bin as f64 - points as f64 };
            // A difference of two phases belongs to the middle between them.
            let half_step = Complex64::cis(-PI * bin / points as f64);
            *value *= half_step * fsk4_filter((bin * TABLE_RATE_HZ / points as f64).abs());
        }
        FftPlanner::new().plan_fft_inverse(points).process(&mut frequencies);

        let mut counts = [0; 4];
        // The ends of the stretch disturb some symbols beside them.
        for symbol in 30..points / 10 - 30 {
            let level = frequencies[10 * symbol].re / points as f64 / FSK4_DEVIATION_HZ;
            let nearest = ((level + 3.0) / 2.0).round().clamp(0.0, 3.0);
            assert!((2.0 * nearest - 3.0 - level).abs() < 0.2, "{level}");
            counts[nearest as usize] += 1;
        }
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    }

    #[test]
    fn morse_code_is_on_and_off() {
        let samples = samples(WaveformKind::Cw, 2, 15_000, 48_000.0);

        let loudest = samples.iter().map(|sample| sample.norm()).fold(0.0, f32::max);
        let on = samples.iter().filter(|sample| sample.norm() > 0.9 * loudest).count();
        let off = samples.iter().filter(|sample| sample.norm() < 0.1 * loudest).count();
        assert!(on > 5_000 && off > 1_000, "{on} on, {off} off");
        // The key goes down and up in half a period of a cosine: no sample jumps by more than its
        // steepest slope, π / 2 over the 240 steps of an edge.
        let jump = samples.windows(2).map(|pair| (pair[1] - pair[0]).norm()).fold(0.0, f32::max);
        assert!(jump < 1.01 * loudest * std::f32::consts::PI / 480.0, "{jump}");
    }
}
