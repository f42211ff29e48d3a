//! How a signal of any length becomes exactly as many frames as the network takes.

use crate::FeatureError;

/// Where the transforms of a signal start, and which of them make one frame together.
///
/// A short signal is covered by overlapping transforms, one per frame. A long one, whose frames
/// would leave gaps, is covered by transforms that overlap by half, and each frame is the mean over
/// a contiguous group of them: nothing between the first and the last transform is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlan {
    hop_length: usize,
    transforms: usize,
    frames: usize,
}

/// Checks that a number of frames is not zero.
pub(crate) fn check_frames(frames: usize) -> Result<(), FeatureError> {
    if frames == 0 {
        return Err(FeatureError::InvalidConfig {
            field: "frames",
            expected: "at least 1".to_owned(),
            actual: 0.0,
        });
    }
    Ok(())
}

impl FramePlan {
    /// Plans `frames` frames for a signal of `sample_count` samples.
    ///
    /// # Errors
    ///
    /// - [`FeatureError::Empty`] and [`FeatureError::TooShort`] if there is no whole transform.
    ///
    /// # Panics
    ///
    /// Panics if `frames` is zero or `fft_length` is below two.
    pub fn new(
        sample_count: usize,
        fft_length: usize,
        frames: usize,
    ) -> Result<Self, FeatureError> {
        assert!(frames > 0 && fft_length > 1, "a plan has frames, and they have samples");
        if sample_count == 0 {
            return Err(FeatureError::Empty);
        }
        let Some(rest) = sample_count.checked_sub(fft_length) else {
            return Err(FeatureError::TooShort { frame_length: fft_length, sample_count });
        };
        let hop_length = if frames == 1 { rest } else { rest / (frames - 1) };
        if hop_length <= fft_length && (frames > 1 || rest == 0) {
            return Ok(Self { hop_length, transforms: frames, frames });
        }
        let hop_length = fft_length / 2;
        Ok(Self { hop_length, transforms: 1 + rest / hop_length, frames })
    }

    /// Distance between the starts of two transforms, in samples; zero where all are the same.
    pub fn hop_length(&self) -> usize {
        self.hop_length
    }

    /// Transforms in all frames together.
    pub fn transforms(&self) -> usize {
        self.transforms
    }

    /// Returns for each frame the indices of its transforms; transform `i` starts at sample
    /// `i * hop_length`.
    pub fn groups(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let plan = *self;
        (0..plan.frames).map(move |t| t * plan.transforms / plan.frames..plan.group_end(t))
    }

    /// Number of frames.
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Number of transforms in a frame.
    pub(crate) fn transforms_of(&self, frame: usize) -> usize {
        self.group_end(frame) - frame * self.transforms / self.frames
    }

    /// Whether a frame is the mean over several transforms.
    pub(crate) fn averages(&self) -> bool {
        self.transforms > self.frames
    }

    /// Index behind the last transform of a frame.
    pub(crate) fn group_end(&self, frame: usize) -> usize {
        (frame + 1) * self.transforms / self.frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_second_at_24_khz_is_averaged_in_groups() {
        // (24000 - 256) / 31 = 765 exceeds 256; 1 + 23744 / 128 = 186 transforms.
        let plan = FramePlan::new(24_000, 256, 32).unwrap();

        assert_eq!((plan.hop_length(), plan.transforms()), (128, 186));
    }

    #[test]
    fn hop_of_a_whole_frame_is_not_averaged() {
        let plan = FramePlan::new(256 * 32, 256, 32).unwrap();

        assert_eq!((plan.hop_length(), plan.transforms()), (256, 32));
    }

    #[test]
    fn signal_of_one_frame_repeats_it() {
        let plan = FramePlan::new(256, 256, 32).unwrap();

        assert_eq!((plan.hop_length(), plan.transforms()), (0, 32));
    }

    #[test]
    fn missing_samples_are_refused() {
        assert_eq!(FramePlan::new(0, 256, 32), Err(FeatureError::Empty));
        assert_eq!(
            FramePlan::new(255, 256, 32),
            Err(FeatureError::TooShort { frame_length: 256, sample_count: 255 })
        );
    }

    proptest! {
        /// Every frame has transforms, each transform is in one frame, all lie in the signal, and
        /// less than one more hop would fit behind them.
        #[test]
        fn transforms_cover_the_signal(
            fft_length in (1_usize..200).prop_map(|half| 2 * half),
            extra in 0_usize..50_000,
            frames in 1_usize..70,
        ) {
            let plan = FramePlan::new(fft_length + extra, fft_length, frames).unwrap();

            let groups: Vec<_> = plan.groups().collect();
            prop_assert_eq!(groups.len(), frames);
            prop_assert_eq!(groups[0].start, 0);
            prop_assert_eq!(groups[frames - 1].end, plan.transforms());
            prop_assert!(groups.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(groups.iter().all(|group| !group.is_empty()));
            prop_assert!(plan.hop_length() <= fft_length);
            let end = (plan.transforms() - 1) * plan.hop_length() + fft_length;
            prop_assert!(end <= fft_length + extra);
            // What is left over is below one sample per hop, or below one hop.
            let left = fft_length + extra - end;
            prop_assert!(left < (frames - 1).max(plan.hop_length()).max(1));
        }
    }
}
