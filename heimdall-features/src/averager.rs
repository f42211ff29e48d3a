//! Spectra of a signal that comes in chunks, averaged into frames.

use num_complex::Complex32;

use crate::FeatureError;
use crate::framer::Framer;
use crate::frames::FramePlan;
use crate::real::Real;
use crate::transform::{Scratch, Transform};

/// Where spectra go.
pub(crate) trait SpectrumSink<T> {
    /// Improves the spectrum of some samples before others are added to it.
    fn refine(&mut self, _samples: &[Complex32], _bins: &mut [T]) {}

    /// Takes the spectrum of a frame, with its samples where it is that of one transform; returns
    /// whether what was computed of it is finite.
    fn take(&mut self, samples: Option<&[Complex32]>, bins: &mut [T]) -> bool;
}

impl<T, F: FnMut(&[T]) -> bool> SpectrumSink<T> for F {
    fn take(&mut self, _samples: Option<&[Complex32]>, bins: &mut [T]) -> bool {
        self(bins)
    }
}

/// Spectra that are added in the precision of the transform before they go into a double sum.
const PARTIAL_SUM: usize = 64;

/// Transforms a signal that comes in chunks, and averages as many spectra as make one frame.
///
/// All memory is allocated when it is made: two frames of samples, and some spectra.
#[derive(Clone, Debug)]
pub(crate) struct Averager<T> {
    framer: Framer,
    spectra: Spectra<T>,
}

#[derive(Clone, Debug)]
struct Spectra<T> {
    scratch: Scratch<T>,
    bins: Vec<T>,
    /// How the transforms are grouped, and sums of the current group; one each where left out.
    groups: Option<(FramePlan, GroupSum<T>)>,
}

#[derive(Clone, Debug)]
struct GroupSum<T> {
    frame: usize,
    transforms_done: usize,
    transforms_in_group: usize,
    partial: Vec<T>,
    sum: Vec<f64>,
}

impl<T: Real> Averager<T> {
    /// One frame for every transform.
    pub(crate) fn each(framer: Framer, transform: &Transform<T>) -> Self {
        let bins = vec![T::zero(); transform.length()];
        Self { framer, spectra: Spectra { scratch: transform.scratch(), bins, groups: None } }
    }

    /// As many frames as the plan has.
    pub(crate) fn planned(plan: FramePlan, transform: &Transform<T>) -> Self {
        let framer = Framer::new(transform.length(), plan.hop_length());
        let averager = Self::each(framer.limited_to(plan.transforms()), transform);
        if !plan.averages() {
            return averager;
        }
        let sums = GroupSum {
            frame: 0,
            transforms_done: 0,
            transforms_in_group: 0,
            partial: vec![T::zero(); transform.length()],
            sum: vec![0.0; transform.length()],
        };
        let spectra = Spectra { groups: Some((plan, sums)), ..averager.spectra };
        Self { spectra, ..averager }
    }

    /// Takes the next samples; `sink` gets the spectrum of every frame that is complete with them.
    pub(crate) fn push(
        &mut self,
        chunk: &[Complex32],
        transform: &Transform<T>,
        mut sink: impl SpectrumSink<T>,
    ) -> Result<(), FeatureError> {
        let spectra = &mut self.spectra;
        self.framer.push(chunk, |frame| spectra.add(frame, transform, &mut sink))
    }

    /// Ends the signal, and returns the number of its samples.
    pub(crate) fn finish(
        &mut self,
        transform: &Transform<T>,
        mut sink: impl SpectrumSink<T>,
    ) -> Result<usize, FeatureError> {
        let spectra = &mut self.spectra;
        self.framer.finish(|frame| spectra.add(frame, transform, &mut sink))
    }
}

impl<T: Real> Spectra<T> {
    fn add(
        &mut self,
        frame: &[Complex32],
        transform: &Transform<T>,
        sink: &mut impl SpectrumSink<T>,
    ) -> bool {
        let Self { scratch, bins, groups } = self;
        transform.run(frame, scratch, bins);
        // A sample that is not finite spoils every bin.
        if !bins[0].is_usable() {
            return false;
        }
        let Some((plan, sums)) = groups else { return sink.take(Some(frame), bins) };
        sink.refine(frame, bins);
        if !sums.add(bins, plan) {
            return true;
        }
        let count = sums.transforms_in_group as f64;
        for (bin, sum) in bins.iter_mut().zip(&mut sums.sum) {
            *bin = T::rounded(*sum / count);
            *sum = 0.0;
        }
        sums.transforms_in_group = 0;
        sink.take(None, bins)
    }
}

impl<T: Real> GroupSum<T> {
    /// Adds a spectrum; returns whether its group is complete.
    fn add(&mut self, bins: &[T], plan: &FramePlan) -> bool {
        for (partial, &bin) in self.partial.iter_mut().zip(bins) {
            *partial += bin;
        }
        self.transforms_done += 1;
        self.transforms_in_group += 1;
        let complete = self.transforms_done == plan.group_end(self.frame);
        if complete || self.transforms_in_group.is_multiple_of(PARTIAL_SUM) {
            for (sum, partial) in self.sum.iter_mut().zip(&mut self.partial) {
                *sum += (*partial).into();
                *partial = T::zero();
            }
        }
        self.frame += usize::from(complete);
        complete
    }
}
