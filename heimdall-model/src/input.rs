//! What the network is told about some events.

use burn::tensor::Tensor;

/// Levels of some events, and what is known beside them.
#[derive(Clone, Debug)]
pub struct NetworkInput {
    /// Levels, `[batch, receivers, bands, frames]`, in dB, not standardized.
    pub levels_db: Tensor<4>,
    /// What is known beside the levels; a network without side inputs does not look at it.
    pub side: Option<SideInputs>,
}

/// What is known of some events beside the levels, none of it standardized.
///
/// Nothing here tells transmitters apart by anything but where they are heard: the offset of a
/// carrier, for example, says which transmitter it is and not where.
#[derive(Clone, Debug)]
pub struct SideInputs {
    /// Numbers of each receiver, `[batch, receivers, scalars]`; anything finite where it is absent.
    /// The last one says whether it detects the signal: 1, else 0.
    pub scalars: Tensor<3>,
    /// Which receivers recorded something, `[batch, receivers]`: 1, else 0.
    pub mask: Tensor<2>,
    /// Where the receivers stand, `[batch, receivers, 2]`: east and north, in km.
    pub receivers_km: Tensor<3>,
    /// Where a classical method puts the transmitter, `[batch, 2]`: east and north, in km; anything
    /// finite where it has no answer.
    pub fix_km: Tensor<2>,
    /// Its covariance, `[batch, 3]`: east, east-north and north, in km²; zeros where it has none.
    pub fix_covariance_km2: Tensor<2>,
    /// Whether it has an answer, `[batch, 1]`: 0 no, 1 yes, 2 yes but ambiguous.
    pub fix_status: Tensor<2>,
}

impl From<Tensor<4>> for NetworkInput {
    fn from(levels_db: Tensor<4>) -> Self {
        Self { levels_db, side: None }
    }
}

impl SideInputs {
    /// Counts the receivers that detect each event, `[batch, 1]`.
    pub(crate) fn hearing(&self) -> Tensor<2> {
        let [batch, receivers, scalars] = self.scalars.dims();
        let detected = self.scalars.clone().narrow(2, scalars - 1, 1).reshape([batch, receivers]);
        (detected * self.mask.clone()).sum_dim(1)
    }

    /// States for which events there is a fix, `[batch, 1]`: 1, else 0.
    pub(crate) fn has_fix(&self) -> Tensor<2> {
        self.fix_status.clone() - self.is_ambiguous()
    }

    /// States for which events the fix is ambiguous, `[batch, 1]`: 1, else 0.
    pub(crate) fn is_ambiguous(&self) -> Tensor<2> {
        (self.fix_status.clone() - 1.0).clamp_min(0.0)
    }
}
