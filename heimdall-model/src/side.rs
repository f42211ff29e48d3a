//! The side inputs as numbers of about the same size, and the layers that take them.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};

use crate::weights::Weights;
use crate::{DEVIATION_FLOOR, SideInputConfig, SideInputs, Standardization};

/// Numbers by which a classical fix is told to the network: its position, the logarithms of its
/// deviations, their correlation, whether there is one, and whether it is ambiguous.
pub const FIX_FEATURES: usize = 7;

/// Variance, as a share of that of the positions, below which the network does not tell how sure a
/// fix is: one of 10 m where positions spread over 100 km.
pub const FIX_VARIANCE_FLOOR: f64 = 1e-8;

/// Factor of the logarithms, which reach from −9 to 0, that brings them to the size of the others.
pub const FIX_LOGARITHM_SCALE: f64 = 0.25;

/// The least standard deviation that the correction of a fix has, as a share of that of the fix along
/// the short axis of its ellipse. What is known beside the delays is coarser than they are, and a
/// network that has learned to trust good fixes states no deviation at all for one that is better
/// than those it learned from.
pub const FIX_DEVIATION_SHARE: f64 = 0.5;

/// Square of the ratio of the axes at which the short axis of an ellipse counts as longer than it is:
/// that of a thinner one is lost in the rounding of the determinant.
pub const FIX_THINNESS: f64 = 1e-3;

/// Variance of a fix below which it counts as no surer: one of a meter.
pub const FIX_VARIANCE_MIN_KM2: f64 = 1e-6;

/// Layers that are each followed by a `ReLU`.
#[derive(Module, Debug)]
pub struct Perceptron {
    /// The layers, in the order in which they are applied.
    pub layers: Vec<Linear>,
}

impl Perceptron {
    /// Makes layers of the given widths, with weights of variance `2 / inputs`.
    ///
    /// # References
    ///
    /// K. He et al., "Delving deep into rectifiers", ICCV 2015, equation 10,
    /// [arXiv:1502.01852](https://arxiv.org/abs/1502.01852).
    pub(crate) fn new(inputs: usize, widths: &[usize], weights: &mut Weights<'_>) -> Self {
        let mut inputs = inputs;
        let mut layer = |&width: &usize| {
            let mut linear = LinearConfig::new(inputs, width).init(weights.device());
            linear.weight = weights.normal([inputs, width], (2.0 / inputs as f32).sqrt());
            linear.bias = Some(weights.uniform([width], 0.0));
            inputs = width;
            linear
        };
        Self { layers: widths.iter().map(&mut layer).collect() }
    }

    /// Applies the layers.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, inputs]`
    /// - returns: `[batch, width]`, the width of the last layer
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.layers.iter().fold(x, |x, layer| relu(layer.forward(x)))
    }
}

/// Numbers of an event that [`flat`] makes for so many receivers.
pub(crate) fn flat_length(config: &SideInputConfig) -> usize {
    config.receivers_km.len() * receiver_length(config) + FIX_FEATURES
}

/// Numbers of a receiver that [`per_receiver`] makes: its own, whether it is there, and where.
pub(crate) fn receiver_length(config: &SideInputConfig) -> usize {
    config.scalars() + 3
}

/// Lays the side inputs of each event out: receiver by receiver, and then the fix.
///
/// # Shapes
///
/// - returns: `[batch, receivers · (scalars + 3) + 7]`
pub(crate) fn flat(
    side: &SideInputs,
    config: &SideInputConfig,
    standardization: &Standardization,
) -> Tensor<2> {
    let receivers = per_receiver(side, config, standardization);
    Tensor::cat(vec![receivers.flatten(1, 2), fix_features(side, standardization)], 1)
}

/// Puts what is known of each receiver side by side: its standardized numbers, which are zero where
/// it is absent, whether it is there, and where it stands.
///
/// # Shapes
///
/// - returns: `[batch, receivers, scalars + 3]`
pub(crate) fn per_receiver(
    side: &SideInputs,
    config: &SideInputConfig,
    standardization: &Standardization,
) -> Tensor<3> {
    let (rows, scalars) = (config.scalar_mean.len(), config.scalars());
    let [_, receivers, given] = side.scalars.dims();
    assert!(
        given == scalars && (rows == receivers || rows == 1),
        "the network takes {scalars} numbers of {rows} receivers, not {given} of {receivers}"
    );
    let device = side.scalars.device();
    let table = |table: &[Vec<f32>]| {
        let data = TensorData::new(table.concat(), [1, rows, scalars]);
        Tensor::<3>::from_data(data, &device)
    };
    let present = side.mask.clone().unsqueeze_dim::<3>(2);
    let numbers = (side.scalars.clone() - table(&config.scalar_mean))
        / table(&config.scalar_deviation)
        * present.clone();
    let places = (side.receivers_km.clone()
        - row(&standardization.position_mean_km, &device).unsqueeze())
        / row(&standardization.position_deviation_km, &device).unsqueeze();
    Tensor::cat(vec![numbers, present, places], 2)
}

/// Tells the fix in numbers of about the same size, all zero where there is none.
///
/// # Shapes
///
/// - returns: `[batch, 7]`
pub(crate) fn fix_features(side: &SideInputs, standardization: &Standardization) -> Tensor<2> {
    let device = side.fix_km.device();
    let [east_km, north_km] = standardization.position_deviation_km;
    let place = (side.fix_km.clone() - row(&standardization.position_mean_km, &device))
        / row(&[east_km, north_km], &device);
    let scale = [east_km * east_km, east_km * north_km, north_km * north_km];
    let relative = side.fix_covariance_km2.clone() / row(&scale, &device);
    let floored = |axis| relative.clone().narrow(1, axis, 1) + FIX_VARIANCE_FLOOR;
    let (east, north) = (floored(0), floored(2));
    let logarithm = |variance: &Tensor<2>| variance.clone().log() * (0.5 * FIX_LOGARITHM_SCALE);
    let logarithms = [logarithm(&east), logarithm(&north)];
    let correlation = relative.narrow(1, 1, 1) / (east * north).sqrt();

    let [east, north] = logarithms;
    let present = side.has_fix();
    let told = Tensor::cat(vec![place, east, north, correlation], 1) * present.clone();
    Tensor::cat(vec![told, present, side.is_ambiguous()], 1)
}

/// The least variance of each estimate along both axes, in km².
///
/// With a fix of covariance `Σ` where positions spread by `s`, its root is [`FIX_DEVIATION_SHARE`] of
/// `1 / √(tr Σ / det Σ + 1 / s²)`, which nears the short axis of a thin ellipse, `1 / √2` of that of a
/// round one, and `s` where the fix says nothing. Without a fix it is [`DEVIATION_FLOOR`] of the
/// spread.
///
/// # Shapes
///
/// - `spread_km`: `[1, 2]`
/// - returns: `[batch, 2]`
pub(crate) fn variance_floor_km2(side: &SideInputs, spread_km: Tensor<2>) -> Tensor<2> {
    let column = |x: &Tensor<2>, index| x.clone().narrow(1, index, 1);
    let [east, both, north] = [0, 1, 2].map(|index| column(&side.fix_covariance_km2, index));
    let determinant = east.clone() * north.clone() * (1.0 + FIX_THINNESS) - both.square();
    // The trace is zero where there is no fix.
    let short_km2 = determinant / (east + north + FIX_VARIANCE_MIN_KM2) + FIX_VARIANCE_MIN_KM2;
    let spread_km2 = column(&spread_km, 0) * column(&spread_km, 1);
    let parallel_km2 = short_km2.clone() * spread_km2.clone() / (short_km2 + spread_km2);
    let with_fix = parallel_km2 * FIX_DEVIATION_SHARE.powi(2);

    let has_fix = side.has_fix();
    let without = (spread_km * DEVIATION_FLOOR).square();
    with_fix * has_fix.clone() + without * (has_fix - 1.0).neg()
}

/// Makes a row of constants, `[1, columns]`.
pub(crate) fn row(values: &[f32], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), device)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPREAD_KM: [f32; 2] = [60.0, 40.0];

    fn floors_km(covariance_km2: [f32; 3], status: f32) -> Vec<f32> {
        let device = Device::flex();
        let side = SideInputs {
            scalars: Tensor::zeros([1, 2, 1], &device),
            mask: Tensor::ones([1, 2], &device),
            receivers_km: Tensor::zeros([1, 2, 2], &device),
            fix_km: Tensor::zeros([1, 2], &device),
            fix_covariance_km2: row(&covariance_km2, &device),
            fix_status: Tensor::full([1, 1], status, &device),
        };
        let floors_km = variance_floor_km2(&side, row(&SPREAD_KM, &device)).sqrt();
        floors_km.into_data().try_to_vec::<f32>().unwrap()
    }

    #[test]
    fn floor_without_a_fix_is_a_share_of_the_spread() {
        for (floor_km, spread_km) in floors_km([0.0; 3], 0.0).into_iter().zip(SPREAD_KM) {
            assert!((floor_km - spread_km * DEVIATION_FLOOR as f32).abs() < 1e-6, "{floor_km}");
        }
    }

    proptest! {
        /// Against the axes from which the covariance was made; ellipses too thin for 32 bits count
        /// as at least a thirtieth as wide as they are long.
        #[test]
        fn floor_of_a_fix_is_a_share_of_its_short_axis(
            long_km in 0.001_f64..1e5, thinness in 1e-6_f64..1.0, turn in 0.0_f64..3.2,
            ambiguous in any::<bool>(),
        ) {
            let short_km = long_km * thinness;
            let (sine, cosine) = turn.sin_cos();
            let east = (long_km * cosine).powi(2) + (short_km * sine).powi(2);
            let north = (long_km * sine).powi(2) + (short_km * cosine).powi(2);
            let both = (long_km.powi(2) - short_km.powi(2)) * sine * cosine;

            let floors_km = floors_km(
                [east, both, north].map(|entry| entry as f32), if ambiguous { 2.0 } else { 1.0 },
            );

            let limit_km = f64::from(SPREAD_KM[0] * SPREAD_KM[1]).sqrt();
            let parallel = |km: f64| (km.powi(-2) + limit_km.powi(-2)).sqrt().recip();
            let least_km = FIX_DEVIATION_SHARE * parallel(short_km / 2_f64.sqrt());
            let most_km = FIX_DEVIATION_SHARE * parallel(short_km.hypot(long_km / 30.0).hypot(1e-3));
            for floor_km in floors_km.into_iter().map(f64::from) {
                prop_assert!(floor_km > least_km * 0.7 && floor_km < most_km * 1.01, "{floor_km}");
            }
        }
    }
}
