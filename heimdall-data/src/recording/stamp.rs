//! Time stamps of blocks of samples: which can be trusted, and the straight line through them.

use std::ops::Range;

use super::gps::WEEK_NS;

/// How far two successive stamps may be from one block of samples apart, in ns.
const STEP_TOLERANCE_NS: f64 = 1e6;
/// Fewest stamps through which a line is fitted.
const STAMPS_MIN: usize = 3;
/// Residuals below this many ns are never rejected, since stamps are whole nanoseconds.
const SIGMA_NS_MIN: f64 = 10.0;

/// A block of successive samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Index of its first sample in the file.
    pub(super) sample: u64,
    /// Its bytes in the file.
    pub(super) bytes: Range<u64>,
    /// When its first sample was taken, in ns since the week began; `None` if nobody knows.
    pub(super) week_time_ns: Option<i64>,
}

/// The time of every sample in a run of blocks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClockLine {
    /// Blocks whose time is known, without a gap between them.
    pub(super) blocks: Range<usize>,
    /// When the first sample of `blocks` was taken, in ns since the week began.
    pub(super) start_ns: i64,
    /// Sample rate, in Hz.
    pub(super) rate_hz: f64,
    /// Stamps on the line.
    pub(super) stamp_count: usize,
    /// Stamps within `blocks` that are too far off the line, or stale.
    pub(super) rejected_count: usize,
    /// Root mean square of what the stamps are off the line, in seconds.
    pub(super) residual_rms_s: f64,
    /// Jumps of time between runs of blocks; only the longest run is kept.
    pub(super) gap_count: usize,
}

/// Finds the longest run of blocks with steady stamps, and fits a line to them.
///
/// Stale stamps at the start do not follow one another by the duration of a block, or belong to a
/// shorter run. `rate_field_hz` is a rounded sample rate: it helps to tell steady from unsteady
/// stamps where the stamps themselves leave it open, and has no part in the result.
///
/// Returns `None` if no run has three stamps.
pub(super) fn fit_clock(blocks: &[Block], rate_field_hz: f64) -> Option<ClockLine> {
    let rates_hz = [median_rate_hz(blocks), Some(rate_field_hz).filter(|rate_hz| *rate_hz > 0.0)];
    let (runs, rate_hz) = rates_hz
        .into_iter()
        .flatten()
        .map(|rate_hz| (steady_runs(blocks, rate_hz), rate_hz))
        // The first of equals is kept: the rate that the stamps themselves tell.
        .reduce(|best, other| if longest(&other.0) > longest(&best.0) { other } else { best })?;
    let run = runs.iter().rev().max_by_key(|run| run.len())?;
    let (&first, &last) = (run.first()?, run.last()?);
    if run.len() < STAMPS_MIN {
        return None;
    }

    let origin = &blocks[first];
    let origin_ns = origin.week_time_ns?;
    let points: Vec<(f64, f64)> = run
        .iter()
        .filter_map(|&index| {
            let samples = (blocks[index].sample - origin.sample) as f64;
            let elapsed_ns = since(blocks[index].week_time_ns?, origin_ns) as f64;
            Some((samples, elapsed_ns - samples * 1e9 / rate_hz))
        })
        .collect();
    let line = fit_line(points);

    let rate_hz = 1e9 / (1e9 / rate_hz + line.slope);
    (rate_hz.is_finite() && rate_hz > 0.0).then(|| ClockLine {
        blocks: first..last + 1,
        start_ns: origin_ns + line.intercept.round() as i64,
        rate_hz,
        stamp_count: line.count,
        rejected_count: last + 1 - first - line.count,
        residual_rms_s: line.residual_rms * 1e-9,
        gap_count: runs.iter().filter(|run| run.len() > 1).count().saturating_sub(1),
    })
}

fn longest(runs: &[Vec<usize>]) -> usize {
    runs.iter().map(Vec::len).max().unwrap_or(0)
}

/// Nanoseconds from one time of the week to another, across the end of the week if that is nearer.
fn since(later_ns: i64, earlier_ns: i64) -> i64 {
    (later_ns - earlier_ns + WEEK_NS / 2).rem_euclid(WEEK_NS) - WEEK_NS / 2
}

/// The rate that half of the steps between successive stamps stay below.
fn median_rate_hz(blocks: &[Block]) -> Option<f64> {
    let mut rates_hz: Vec<f64> = blocks
        .windows(2)
        .filter_map(|pair| {
            let step_ns = since(pair[1].week_time_ns?, pair[0].week_time_ns?);
            let samples = (pair[1].sample - pair[0].sample) as f64;
            (step_ns > 0).then(|| samples * 1e9 / step_ns as f64)
        })
        .collect();
    rates_hz.sort_by(f64::total_cmp);
    rates_hz.get(rates_hz.len() / 2).copied()
}

/// Groups blocks whose stamps follow one another by the samples between them.
///
/// A stamp that agrees with neither neighbor is skipped; where two successive stamps agree with
/// each other, but not with the run before them, a new run starts.
fn steady_runs(blocks: &[Block], rate_hz: f64) -> Vec<Vec<usize>> {
    let agree = |earlier: usize, later: usize| {
        let (Some(earlier_ns), Some(later_ns)) =
            (blocks[earlier].week_time_ns, blocks[later].week_time_ns)
        else {
            return false;
        };
        let samples = (blocks[later].sample - blocks[earlier].sample) as f64;
        (since(later_ns, earlier_ns) as f64 - samples * 1e9 / rate_hz).abs() < STEP_TOLERANCE_NS
    };

    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut stray: Option<usize> = None;
    for index in (0..blocks.len()).filter(|&index| blocks[index].week_time_ns.is_some()) {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|&last| agree(last, index)) => {
                run.push(index);
                stray = None;
            }
            Some(_) => match stray {
                Some(before) if agree(before, index) => {
                    runs.push(vec![before, index]);
                    stray = None;
                }
                _ => stray = Some(index),
            },
            None => runs.push(vec![index]),
        }
    }
    runs
}

/// A straight line through points, without those that are off.
struct Line {
    slope: f64,
    intercept: f64,
    count: usize,
    residual_rms: f64,
}

/// Fits a line by least squares, again and again without the points beyond 3 σ.
///
/// σ is estimated from the median of the residuals, so that a few gross errors do not hide behind
/// the σ that they cause.
fn fit_line(mut points: Vec<(f64, f64)>) -> Line {
    loop {
        let (slope, intercept) = least_squares(&points);
        let residual = |&(x, y): &(f64, f64)| y - intercept - slope * x;

        let mut sizes: Vec<f64> = points.iter().map(|point| residual(point).abs()).collect();
        sizes.sort_by(f64::total_cmp);
        // The median of |x| is 0.6745 σ for a Gaussian.
        let sigma = (sizes[sizes.len() / 2] / 0.6745).max(SIGMA_NS_MIN);
        let kept: Vec<_> =
            points.iter().copied().filter(|point| residual(point).abs() <= 3.0 * sigma).collect();

        if kept.len() == points.len() || kept.len() < STAMPS_MIN {
            let square_sum: f64 = points.iter().map(|point| residual(point).powi(2)).sum();
            let residual_rms = (square_sum / points.len() as f64).sqrt();
            return Line { slope, intercept, count: points.len(), residual_rms };
        }
        points = kept;
    }
}

fn least_squares(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let slope = covariance / variance;
    (slope, mean_y - slope * mean_x)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(stamps: &[Option<i64>]) -> Vec<Block> {
        let block = |(index, &week_time_ns)| Block {
            sample: index as u64 * 512,
            bytes: index as u64 * 2048..(index as u64 + 1) * 2048,
            week_time_ns,
        };
        stamps.iter().enumerate().map(block).collect()
    }

    fn steady(count: usize, start_ns: i64, rate_hz: f64) -> Vec<Option<i64>> {
        let stamp = |index| {
            let elapsed_ns = (index as f64 * 512e9 / rate_hz).round() as i64;
            Some((start_ns + elapsed_ns).rem_euclid(WEEK_NS))
        };
        (0..count).map(stamp).collect()
    }

    proptest! {
        #[test]
        fn steady_stamps_give_their_rate_and_start(
            start_ns in 0..WEEK_NS,
            rate_hz in 8_000_f64..48_000.0,
            rate_error_ppm in -50_f64..50.0,
            count in 50_usize..400,
        ) {
            let field_hz = rate_hz * (1.0 + rate_error_ppm * 1e-6);

            let line = fit_clock(&blocks(&steady(count, start_ns, rate_hz)), field_hz).unwrap();

            // Rounding to 1 ns, uniform, over 50 blocks leaves a slope of σ = 0.02 ns per block.
            prop_assert!((line.rate_hz / rate_hz - 1.0).abs() < 1e-8, "{line:?}");
            prop_assert!((line.start_ns - start_ns).abs() <= 1, "{line:?}");
            prop_assert_eq!((line.blocks, line.rejected_count), (0..count, 0));
        }
    }

    #[test]
    fn stale_stamps_at_the_start_are_dropped() {
        let mut stamps = steady(60, 5_000_000_000, 12_000.0);
        stamps[0] = Some(0);
        stamps[1] = Some(300_000 * 1_000_000_000);
        stamps[2] = None;

        let line = fit_clock(&blocks(&stamps), 12_001.0).unwrap();

        assert_eq!((line.blocks, line.gap_count), (3..60, 0));
        assert_eq!(line.start_ns, 5_000_000_000 + 3 * 512 * 250_000 / 3);
    }

    #[test]
    fn stamp_off_by_microseconds_is_rejected() {
        let mut stamps = steady(60, 0, 12_000.0);
        stamps[20] = stamps[20].map(|ns| ns + 30_000);
        stamps[40] = stamps[40].map(|ns| ns + 700_000_000);
        stamps[50] = None;

        let line = fit_clock(&blocks(&stamps), 12_001.0).unwrap();

        assert_eq!((line.blocks.clone(), line.stamp_count, line.rejected_count), (0..60, 57, 3));
        assert!((line.rate_hz - 12_000.0).abs() < 1e-4, "{line:?}");
        assert!(line.residual_rms_s < 1e-9, "{line:?}");
    }

    #[test]
    fn longest_run_between_gaps_is_kept() {
        let mut stamps = steady(90, 0, 12_000.0);
        for stamp in &mut stamps[70..] {
            *stamp = stamp.map(|ns| ns + 128_000_000);
        }

        let line = fit_clock(&blocks(&stamps), 12_001.0).unwrap();

        assert_eq!((line.blocks, line.gap_count), (0..70, 1));
    }

    #[test]
    fn wrong_rate_in_the_header_does_not_matter() {
        let line = fit_clock(&blocks(&steady(60, 0, 20_250.0)), 12_001.0).unwrap();

        assert!((line.rate_hz - 20_250.0).abs() < 1e-4, "{line:?}");
    }

    #[test]
    fn stamps_without_any_order_give_no_line() {
        let stamps: Vec<_> = (0..60_i64).map(|index| Some(index * index * 7_919_000_017)).collect();

        assert_eq!(fit_clock(&blocks(&stamps), 12_001.0), None);
        assert_eq!(fit_clock(&[], 12_001.0), None);
        assert_eq!(fit_clock(&blocks(&[None, Some(0)]), 0.0), None);
    }
}
