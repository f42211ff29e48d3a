//! Cutting a signal that comes in chunks into frames.

use num_complex::Complex32;

use crate::FeatureError;

/// Cuts a signal into frames that overlap or leave gaps, whatever chunks it comes in.
///
/// Frames that lie in one chunk are handed on from where they are; others are put together in a
/// buffer of two frames. No sample is passed over that is not a finite number.
#[derive(Clone, Debug)]
pub(crate) struct Framer {
    length: usize,
    hop_length: usize,
    /// Zeros in front of the signal and behind it.
    padding: usize,
    /// Frames that are still to come.
    remaining: usize,
    /// Samples, padding included, that came before the current chunk.
    position: usize,
    /// Index, padding included, of the first sample of the next frame.
    next: usize,
    /// End of the last frame.
    covered: usize,
    /// Samples from `next` on that came in former chunks.
    carry: Vec<Complex32>,
}

impl Framer {
    /// Cuts into frames that start every `hop_length` samples.
    pub(crate) fn new(length: usize, hop_length: usize) -> Self {
        Self {
            length,
            hop_length,
            padding: 0,
            remaining: usize::MAX,
            position: 0,
            next: 0,
            covered: 0,
            carry: Vec::with_capacity(2 * length),
        }
    }

    /// Centers the frames where they would have started, with zeros beyond the ends of the signal.
    pub(crate) fn centered(mut self) -> Self {
        self.padding = self.length / 2;
        self.position = self.padding;
        self.carry.resize(self.padding, Complex32::ZERO);
        self
    }

    /// Stops after a number of frames; a hop of zero repeats the first one.
    pub(crate) fn limited_to(mut self, frames: usize) -> Self {
        self.remaining = frames;
        self
    }

    /// Takes the next samples; `each` gets every frame that is complete with them, in order, and
    /// says whether what it computed is finite.
    pub(crate) fn push(
        &mut self,
        chunk: &[Complex32],
        mut each: impl FnMut(&[Complex32]) -> bool,
    ) -> Result<(), FeatureError> {
        if !self.carry.is_empty() && self.push_to_carry(chunk, &mut each)? {
            self.position += chunk.len();
            return Ok(());
        }
        let start = self.position;
        let end = start + chunk.len();
        while self.remaining > 0 && self.next + self.length <= end {
            let first = self.next - start;
            self.check(chunk, self.covered, self.next)?;
            self.emit(&chunk[first..first + self.length], &mut each)?;
        }
        self.check(chunk, self.covered, if self.remaining > 0 { self.next } else { end })?;
        if self.remaining > 0 && self.next < end {
            self.carry.extend_from_slice(&chunk[self.next.max(start) - start..]);
        }
        self.position = end;
        Ok(())
    }

    /// Completes the frames that start in former chunks; returns whether the chunk is used up.
    fn push_to_carry(
        &mut self,
        chunk: &[Complex32],
        each: &mut impl FnMut(&[Complex32]) -> bool,
    ) -> Result<bool, FeatureError> {
        let carried = self.carry.len();
        let first = self.position - carried;
        let taken = chunk.len().min(self.length);
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(&chunk[..taken]);
        let mut offset = 0;
        while self.remaining > 0 && offset < carried && offset + self.length <= carry.len() {
            self.emit(&carry[offset..offset + self.length], each)?;
            offset = self.next - first;
        }
        let used_up = self.remaining > 0 && offset < carried;
        if used_up {
            // The frame at `offset` would have been complete with more samples than there are.
            carry.drain(..offset);
        } else {
            carry.clear();
        }
        self.carry = carry;
        Ok(used_up)
    }

    /// Ends the signal, and returns the number of its samples.
    pub(crate) fn finish(
        &mut self,
        mut each: impl FnMut(&[Complex32]) -> bool,
    ) -> Result<usize, FeatureError> {
        let samples = self.position - self.padding;
        if self.padding > 0 && samples > 0 {
            self.push(&vec![Complex32::ZERO; self.padding], &mut each)?;
        }
        let first = self.position - self.carry.len();
        let uncovered = self.covered.saturating_sub(first).min(self.carry.len());
        self.check_finite(&self.carry[uncovered..], first + uncovered)?;
        Ok(samples)
    }

    fn emit(
        &mut self,
        frame: &[Complex32],
        each: &mut impl FnMut(&[Complex32]) -> bool,
    ) -> Result<(), FeatureError> {
        if !each(frame) {
            self.check_finite(frame, self.next)?;
            return Err(FeatureError::Overflow { start: self.next.saturating_sub(self.padding) });
        }
        self.covered = self.next + self.length;
        self.next += self.hop_length;
        self.remaining -= 1;
        Ok(())
    }

    /// Checks the samples from index `from` to index `to` as far as they lie in the chunk: those
    /// that are in no frame.
    fn check(&self, chunk: &[Complex32], from: usize, to: usize) -> Result<(), FeatureError> {
        let place = |index: usize| index.saturating_sub(self.position).min(chunk.len());
        let (from, to) = (place(from), place(to));
        if from < to { self.check_finite(&chunk[from..to], self.position + from) } else { Ok(()) }
    }

    fn check_finite(&self, samples: &[Complex32], first: usize) -> Result<(), FeatureError> {
        match samples.iter().position(|sample| !sample.is_finite()) {
            Some(offset) => Err(FeatureError::NotFinite { index: first + offset - self.padding }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::gaussian_noise;

    /// All frames of a signal that comes in chunks of the given lengths, again and again.
    fn frames(
        mut framer: Framer,
        signal: &[Complex32],
        chunks: &[usize],
    ) -> Result<Vec<Vec<Complex32>>, FeatureError> {
        let mut frames = Vec::new();
        let mut keep = |frame: &[Complex32]| {
            frames.push(frame.to_vec());
            frame.iter().all(|sample| sample.is_finite())
        };
        let mut rest = signal;
        for &length in chunks.iter().cycle() {
            let (chunk, after) = rest.split_at(length.min(rest.len()));
            framer.push(chunk, &mut keep)?;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(framer.finish(&mut keep)?, signal.len());
        Ok(frames)
    }

    #[test]
    fn hop_of_zero_repeats_the_first_frame() {
        let signal = gaussian_noise(10, 1);

        let frames = frames(Framer::new(8, 0).limited_to(3), &signal, &[3]).unwrap();

        assert_eq!(frames, vec![signal[..8].to_vec(); 3]);
    }

    proptest! {
        /// The definition, for any chunks, and with gaps or without.
        #[test]
        fn frames_start_every_hop(
            length in 1_usize..40,
            hop_length in 1_usize..60,
            samples in 1_usize..300,
            centered in any::<bool>(),
            chunks in proptest::collection::vec(1_usize..90, 1..6),
        ) {
            let signal = gaussian_noise(samples, 5);
            let framer = Framer::new(length, hop_length);
            let (framer, padding) =
                if centered { (framer.centered(), length / 2) } else { (framer, 0) };

            let frames = frames(framer, &signal, &chunks).unwrap();

            let zeros = vec![Complex32::ZERO; padding];
            let padded = [zeros.clone(), signal, zeros].concat();
            let expected: Vec<_> =
                padded.windows(length).step_by(hop_length).map(<[_]>::to_vec).collect();
            prop_assert_eq!(frames, expected);
        }

        /// Wherever it is: in a frame, in a gap, or behind the last frame.
        #[test]
        fn first_sample_that_is_not_finite_is_named(
            length in 2_usize..20,
            hop_length in 1_usize..40,
            samples in 1_usize..200,
            broken in any::<prop::sample::Index>(),
            limit in 1_usize..20,
            centered in any::<bool>(),
            chunks in proptest::collection::vec(1_usize..50, 1..4),
        ) {
            let mut signal = gaussian_noise(samples, 6);
            let index = broken.index(samples);
            signal[index].im = f32::INFINITY;
            let framer = Framer::new(length, hop_length).limited_to(limit);
            let framer = if centered { framer.centered() } else { framer };

            let error = frames(framer, &signal, &chunks).unwrap_err();

            prop_assert_eq!(error, FeatureError::NotFinite { index });
        }
    }
}
