//! Plain cross-correlation of two spectra, and the place of its peak between the samples.

use std::f64::consts::{PI, TAU};

use num_complex::Complex64;

use crate::frequency_search::parabola;

/// The product of two spectra in a band, bin by bin.
#[derive(Clone, Debug)]
pub(crate) struct CrossSpectrum {
    /// Frequencies in Hz, rising, and products.
    bins: Vec<(f64, Complex64)>,
    /// Energy of the first and of the second signal in the band, multiplied.
    energy_product: f64,
    bin_width_hz: f64,
}

/// The highest peak of a correlation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Peak {
    /// Delay of the second signal.
    pub(crate) delay_s: f64,
    /// Over the second highest peak.
    pub(crate) ratio: f64,
    /// Correlation coefficient.
    pub(crate) coherence: f64,
    /// Value of the correlation.
    value: Complex64,
    /// Mean angular frequency of the common signal.
    center: f64,
    /// Mean square angular frequency about `center`; negative where noise makes it so.
    spread: f64,
}

impl Peak {
    /// Width of the flat band that has the same mean square frequency, in Hz: `β = π B / √3`.
    pub(crate) fn bandwidth_hz(&self) -> f64 {
        self.spread.max(0.0).sqrt() * 3_f64.sqrt() / PI
    }
}

/// A narrow range of frequencies that holds half of the power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    lower_hz: f64,
    upper_hz: f64,
    /// Effective width: that of a flat band with the same mean square frequency.
    pub(crate) width_hz: f64,
}

impl Line {
    fn contains(&self, frequency_hz: f64) -> bool {
        self.lower_hz <= frequency_hz && frequency_hz <= self.upper_hz
    }
}

/// A correlation and its first two derivatives with respect to the delay.
#[derive(Clone, Copy, Debug, Default)]
struct Derivatives {
    value: Complex64,
    first: Complex64,
    second: Complex64,
}

/// Largest phase by which the bins of a group differ, in turns.
const GROUP_TURNS: f64 = 1.0 / 32.0;
/// Distance beyond the longest delay at which side lobes are looked for, in lobes.
const SIDE_LOBES: f64 = 4.0;
/// Steps of Newton's method, of which three or four suffice.
const NEWTON_STEPS: usize = 12;

impl CrossSpectrum {
    /// Multiplies two spectra in the given bins, which are numbered by rising frequency.
    pub(crate) fn new(
        first: &[Complex64],
        second: &[Complex64],
        bins: &[(usize, f64)],
        bin_width_hz: f64,
    ) -> Self {
        let energy = |spectrum: &[Complex64]| -> f64 {
            bins.iter().map(|&(index, _)| spectrum[index].norm_sqr()).sum()
        };
        let energy_product = energy(first) * energy(second);
        let product = |&(index, number): &(usize, f64)| {
            (number * bin_width_hz, first[index].conj() * second[index])
        };
        Self { bins: bins.iter().map(product).collect(), energy_product, bin_width_hz }
    }

    /// Finds the highest peak with a delay of at most `delay_s_max` in either direction.
    ///
    /// The correlation is looked at in steps of `step_s`; the highest local maximum is refined with
    /// a parabola on the magnitude and then with Newton's method on the exact sum.
    pub(crate) fn peak(&self, delay_s_max: f64, step_s: f64) -> Option<Peak> {
        // Side lobes are looked for a little beyond: the ratio exists for short baselines too.
        let inside = (delay_s_max / step_s).ceil() as i64;
        let outside = inside + (SIDE_LOBES / (step_s * self.width_hz())).ceil() as i64;
        let groups = self.groups(outside as f64 * step_s);
        let magnitudes: Vec<f64> = (-outside..=outside)
            .map(|lag| {
                let angle = TAU * lag as f64 * step_s;
                let sum: Complex64 = groups
                    .iter()
                    .map(|(frequency_hz, value)| value * Complex64::cis(angle * frequency_hz))
                    .sum();
                sum.norm()
            })
            .collect();

        let lag_of = |index: usize| index as i64 - outside;
        let is_peak = |&index: &usize| {
            magnitudes[index] >= magnitudes[index - 1] && magnitudes[index] > magnitudes[index + 1]
        };
        let peaks: Vec<usize> = (1..magnitudes.len() - 1).filter(is_peak).collect();
        let height = |index: usize| magnitudes[index];
        let best = peaks
            .iter()
            .copied()
            .filter(|&index| lag_of(index).abs() <= inside)
            .max_by(|&a, &b| height(a).total_cmp(&height(b)))?;
        let second = peaks
            .iter()
            .filter(|&&index| index != best)
            .map(|&index| height(index))
            .fold(0.0, f64::max);

        let offset = parabola(height(best - 1), height(best), height(best + 1));
        let start_s = (lag_of(best) as f64 + offset) * step_s;
        let delay_s = self.refine(start_s, step_s);
        if delay_s.abs() > delay_s_max + 0.5 * step_s {
            return None;
        }
        let at_peak = self.derivatives(delay_s);
        let power = at_peak.value.norm_sqr();
        // First derivative over value: the mean frequency; second: the mean square, both times j.
        let center = (at_peak.first * at_peak.value.conj()).im / power;
        let spread = -(at_peak.second * at_peak.value.conj()).re / power - center * center;
        // A single peak has no second one; a ratio that large says as much.
        let ratio = power.sqrt() / second.max(1e-6 * power.sqrt());
        let coherence = (power / self.energy_product).sqrt().min(1.0);
        Some(Peak { delay_s, ratio, coherence, value: at_peak.value, center, spread })
    }

    /// Computes the power of the peak over that which independent signals have on average at any
    /// delay. What lies within `line` is left out: a carrier is at its peak at every delay.
    pub(crate) fn significance(&self, peak: &Peak, line: Option<&Line>) -> f64 {
        let is_outside = |frequency_hz: f64| line.is_none_or(|line| !line.contains(frequency_hz));
        let (value, power) = self
            .aligned(peak)
            .filter(|&(frequency_hz, _)| is_outside(frequency_hz))
            .fold((0.0, 0.0), |(value, power), (_, product)| {
                (value + product.re, power + product.norm_sqr())
            });
        if power > 0.0 { value.max(0.0).powi(2) / power } else { 0.0 }
    }

    /// Computes the deviation of the delay that noise makes.
    ///
    /// With the products turned such that those of the common signal are real, what is imaginary is
    /// noise, and the delay is off by `Σ ω Im G / Σ ω² Re G`; its variance is the sum of the squares
    /// of the terms. For flat spectra of coherence `C` that is Stein's
    /// `(1 - C) / C / (2 β² B T)`, with `(1 - C) / C = 1/γ₁ + 1/γ₂ + 1/(γ₁ γ₂)`; for others it takes
    /// their shape into account.
    pub(crate) fn deviation_s(&self, peak: &Peak) -> f64 {
        let (noise, curvature) =
            self.aligned(peak).fold((0.0, 0.0), |(noise, curvature), (frequency, product)| {
                let angular = TAU * frequency - peak.center;
                (noise + (angular * product.im).powi(2), curvature + angular * angular * product.re)
            });
        noise.sqrt() / curvature.abs()
    }

    /// Computes the smallest effective bandwidth of the common signal that its noise leaves open, in Hz:
    /// that of a mean square frequency three standard deviations smaller.
    ///
    /// Noise far from the center counts by the square of its frequency, and makes a narrow signal look
    /// wide. As in [`Self::deviation_s`], what is imaginary is noise, and what is real has as much of it.
    pub(crate) fn bandwidth_hz_min(&self, peak: &Peak) -> f64 {
        const DEVIATIONS: f64 = 3.0;
        let (noise, value) =
            self.aligned(peak).fold((0.0, 0.0), |(noise, value), (hz, product)| {
                let angular = TAU * hz - peak.center;
                (noise + (angular * angular * product.im).powi(2), value + product.re)
            });
        let spread = peak.spread - DEVIATIONS * noise.sqrt() / value.abs();
        Peak { spread, ..*peak }.bandwidth_hz()
    }

    /// Finds a spectral line: half of the power within `width_hz`.
    pub(crate) fn line(&self, width_hz: f64) -> Option<Line> {
        let weights: Vec<f64> = self.bins.iter().map(|(_, product)| product.norm_sqr()).collect();
        let total: f64 = weights.iter().sum();
        let (mut inside, mut first) = (0.0, 0);
        let (mut most, mut range) = (0.0, 0..0);
        for (last, weight) in weights.iter().enumerate() {
            inside += weight;
            while self.bins[last].0 - self.bins[first].0 > width_hz {
                inside -= weights[first];
                first += 1;
            }
            if inside > most {
                (most, range) = (inside, first..last + 1);
            }
        }
        if most < 0.5 * total || range.is_empty() {
            return None;
        }
        let moment = |power: i32, center_hz: f64| {
            let term = |index: usize| weights[index] * (self.bins[index].0 - center_hz).powi(power);
            range.clone().map(term).sum::<f64>() / most
        };
        let center_hz = moment(1, 0.0);
        let width_hz = (12.0 * moment(2, center_hz)).sqrt();
        Some(Line {
            lower_hz: self.bins[range.start].0,
            upper_hz: self.bins[range.end - 1].0,
            width_hz,
        })
    }

    fn width_hz(&self) -> f64 {
        self.bins.len() as f64 * self.bin_width_hz
    }

    /// Adds up neighboring bins whose phases differ little at any delay that is looked at.
    fn groups(&self, delay_s_max: f64) -> Vec<(f64, Complex64)> {
        let width_hz = (GROUP_TURNS / delay_s_max).max(self.bin_width_hz);
        let mut groups: Vec<(f64, f64, Complex64)> = Vec::new();
        for &(frequency_hz, product) in &self.bins {
            match groups.last_mut() {
                Some((first_hz, last_hz, sum)) if frequency_hz - *first_hz < width_hz => {
                    *last_hz = frequency_hz;
                    *sum += product;
                }
                _ => groups.push((frequency_hz, frequency_hz, product)),
            }
        }
        groups.into_iter().map(|(first, last, sum)| ((first + last) / 2.0, sum)).collect()
    }

    /// The products with the phase of the peak removed.
    fn aligned(&self, peak: &Peak) -> impl Iterator<Item = (f64, Complex64)> {
        let turn = peak.value.conj() / peak.value.norm();
        let delay_s = peak.delay_s;
        self.turned(delay_s).map(move |(frequency_hz, product)| (frequency_hz, product * turn))
    }

    /// The products, each turned back by `delay_s`.
    fn turned(&self, delay_s: f64) -> impl Iterator<Item = (f64, Complex64)> {
        let turn = move |frequency_hz: f64| Complex64::cis(TAU * frequency_hz * delay_s);
        self.bins
            .iter()
            .map(move |&(frequency_hz, product)| (frequency_hz, product * turn(frequency_hz)))
    }

    fn derivatives(&self, delay_s: f64) -> Derivatives {
        self.turned(delay_s).fold(Derivatives::default(), |sum, (frequency_hz, term)| {
            let angular = TAU * frequency_hz;
            Derivatives {
                value: sum.value + term,
                first: sum.first + term * Complex64::new(0.0, angular),
                second: sum.second - term * (angular * angular),
            }
        })
    }

    /// Moves from near a maximum of the power `|R|²` to the maximum.
    fn refine(&self, start_s: f64, step_s: f64) -> f64 {
        let mut delay_s = start_s;
        for _ in 0..NEWTON_STEPS {
            let Derivatives { value, first, second } = self.derivatives(delay_s);
            let slope = 2.0 * (value.conj() * first).re;
            let curvature = 2.0 * (first.norm_sqr() + (value.conj() * second).re);
            // Only a maximum is looked for, and only near the start.
            if curvature >= 0.0 {
                return start_s;
            }
            let move_s = -slope / curvature;
            delay_s += move_s;
            if (delay_s - start_s).abs() > step_s {
                return start_s;
            }
            if move_s.abs() < 1e-9 * step_s {
                break;
            }
        }
        delay_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Products of a signal in a flat band, `offset_hz` from the center, and of its copy.
    fn flat_band(delay_s: f64, offset_hz: f64) -> CrossSpectrum {
        let numbers = -500..=500;
        let frequency_hz = |number: i32| offset_hz + 10.0 * f64::from(number);
        let product = |number| {
            let frequency_hz = frequency_hz(number);
            (frequency_hz, Complex64::cis(-TAU * frequency_hz * delay_s))
        };
        CrossSpectrum {
            bins: numbers.map(product).collect(),
            energy_product: 1001.0 * 1001.0,
            bin_width_hz: 10.0,
        }
    }

    #[test]
    fn flat_band_has_the_peak_of_a_sinc() {
        for offset_hz in [0.0, 1234.5] {
            let cross = flat_band(123.456e-6, offset_hz);

            let peak = cross.peak(500e-6, 1.0 / 160e3).unwrap();

            assert!((peak.delay_s - 123.456e-6).abs() < 1e-12, "{peak:?}");
            assert!((peak.coherence - 1.0).abs() < 1e-9, "{peak:?}");
            // 1001 bins of 10 Hz; a sinc's first side lobe has 0.2172 of its height.
            assert!((peak.bandwidth_hz() - 10_010.0).abs() < 0.1, "{peak:?}");
            assert!((peak.ratio * 0.2172 - 1.0).abs() < 0.01, "{peak:?}");
            // There is no noise.
            assert!(cross.deviation_s(&peak) < 1e-12);
            // Without noise each bin is in phase: their number.
            assert!((cross.significance(&peak, None) - 1001.0).abs() < 1e-6);
        }
    }

    #[test]
    fn line_is_found_where_it_is() {
        let mut cross = flat_band(0.0, 0.0);
        assert_eq!(cross.line(100.0), None);

        // Two bins of equal power, 10 Hz apart: 5 Hz from their mean, and 5 Hz × √12 wide.
        cross.bins[700].1 *= 1e3;
        cross.bins[701].1 *= 1e3;
        let line = cross.line(15.0).unwrap();

        assert!((line.width_hz - 5.0 * 12_f64.sqrt()).abs() < 0.1, "{line:?}");
        assert!(line.contains(2_000.0) && line.contains(2_010.0) && !line.contains(2_030.0));
    }
}
