//! The side inputs as numbers of about the same size, and the layers that take them.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};

use crate::weights::Weights;
use crate::{SideInputConfig, SideInputs, Standardization};

/// Numbers by which a classical fix is told to the network: its position, the logarithms of its
/// deviations, their correlation, whether there is one, and whether it is ambiguous.
pub const FIX_FEATURES: usize = 7;

/// Variance, as a share of that of the positions, below which the network does not tell how sure a
/// fix is: one of 10 m where positions spread over 100 km.
pub const FIX_VARIANCE_FLOOR: f64 = 1e-8;

/// Factor of the logarithms, which reach from −9 to 0, that brings them to the size of the others.
pub const FIX_LOGARITHM_SCALE: f64 = 0.25;

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

/// Makes a row of constants, `[1, columns]`.
pub(crate) fn row(values: &[f32], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), device)
}
