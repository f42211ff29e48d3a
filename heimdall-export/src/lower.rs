//! From the network to a graph, module by module.

mod estimate;
mod receiver_set;
mod side;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear, PaddingConfig2d};
use burn::tensor::Tensor;
use heimdall_features::FeatureShape;
use heimdall_geo::LocalFrame;
use heimdall_model::{
    Ensemble, Head, LocalizationNetConfig, ResNet, ResidualBlock, SideInputConfig, Standardization,
};

use crate::config::WeightPrecision;
use crate::graph::{Attribute, Element, Graph, Value};
use crate::plane::lift;
use crate::port::{Input, OUTPUTS};
use crate::proto::GraphProto;

/// Writes the network, from what is known of an event to degrees, as a graph.
///
/// What the forward pass of the network does in evaluation mode is written operator by operator, in
/// 32 bits up to the heads, or in 16 bits in the layers that have most of the weights: convolutions and
/// the layers on side inputs alone, standardized before. Batch norms are folded into the convolutions before them. From the
/// heads on, the graph computes in 64 bits.
pub(crate) fn lower(
    network: &Ensemble,
    frame: &LocalFrame,
    shape: FeatureShape,
    sigma_scale: f64,
    precision: WeightPrecision,
) -> GraphProto {
    let weights = match precision {
        WeightPrecision::F32 => Element::F32,
        WeightPrecision::F16 => Element::F16,
    };
    let mut graph = Graph::new("heimdall-localization", weights);
    let inputs = GraphInputs::new(&mut graph, network.config(), shape);
    let estimate = estimate::ensemble(&mut graph, network, &inputs, shape, sigma_scale);

    graph.enter("degrees");
    let [(position, position_meaning), (uncertainty, uncertainty_meaning), covariance] = OUTPUTS;
    let [east_km, north_km] = &estimate.mean_km;
    let lifted = lift(&mut graph, frame, east_km, north_km);
    let position_deg = graph.columns(&[&lifted.latitude_deg, &lifted.longitude_deg]);
    graph.output(position, &position_deg, &[2], position_meaning);

    let [east_variance, east_north, north_variance] = &estimate.covariance_km2;
    let north_sigma_km = graph.square_root(north_variance);
    let latitude_sigma = graph.multiply(&north_sigma_km, &lifted.latitude_deg_per_km);
    let east_sigma_km = graph.square_root(east_variance);
    let longitude_sigma = graph.multiply(&east_sigma_km, &lifted.longitude_deg_per_km);
    let uncertainty_deg = graph.columns(&[&latitude_sigma, &longitude_sigma]);
    graph.output(uncertainty, &uncertainty_deg, &[2], uncertainty_meaning);

    let flat = graph.columns(&[east_variance, east_north, east_north, north_variance]);
    let flat_m2 = graph.scaled(&flat, 1e6);
    let covariance_m2 = graph.reshape(&flat_m2, &[2, 2]);
    graph.output(covariance.0, &covariance_m2, &[2, 2], covariance.1);
    graph.finish()
}

/// The inputs of the graph, under what they are.
pub(crate) struct GraphInputs {
    values: Vec<(Input, Value)>,
    receivers: usize,
    scalars: usize,
}

impl GraphInputs {
    fn new(graph: &mut Graph, config: &LocalizationNetConfig, shape: FeatureShape) -> Self {
        let inputs = Input::of(config).into_iter().map(|input| {
            let axes = input.shape(config, shape);
            (input, graph.input(input.name(), Element::F32, &axes, input.meaning()))
        });
        Self {
            values: inputs.collect(),
            receivers: config.input_channels,
            scalars: config.side_inputs.as_ref().map_or(0, SideInputConfig::scalars),
        }
    }

    /// Numbers of each receiver, and receivers.
    pub(crate) fn scalars(&self) -> (usize, usize) {
        (self.scalars, self.receivers)
    }

    pub(crate) fn find(&self, input: Input) -> Option<&Value> {
        self.values.iter().find(|(known, _)| *known == input).map(|(_, value)| value)
    }

    pub(crate) fn get(&self, input: Input) -> &Value {
        self.find(input).expect("a network looks at inputs that it takes")
    }
}

fn standardize(graph: &mut Graph, standardization: &Standardization, levels_db: &Value) -> Value {
    graph.enter("standardize");
    let shape = [1, standardization.level_mean_db.len(), 1, 1];
    let mean_db = graph.constant_f32("mean_db", &shape, &standardization.level_mean_db);
    let deviation_db =
        graph.constant_f32("deviation_db", &shape, &standardization.level_deviation_db);
    let centered_db = graph.subtract(levels_db, &mean_db);
    graph.divide(&centered_db, &deviation_db)
}

fn resnet(graph: &mut Graph, network: &ResNet, input: &Value) -> Value {
    graph.enter("stem");
    let input = graph.narrowed(input);
    let x = convolution(graph, &network.conv1, &network.norm1, &input);
    let x = relu(graph, &x);
    let pool = &network.pool;
    let attributes = [
        Attribute::Ints("kernel_shape", &pool.kernel_size),
        Attribute::Ints("strides", &pool.stride),
        Attribute::Ints("pads", &pads(&pool.padding)),
    ];
    let mut x = graph.layer("MaxPool", &[&x], &attributes);

    let layers = [&network.layer1, &network.layer2, &network.layer3, &network.layer4];
    for (layer, blocks) in layers.into_iter().enumerate() {
        for (index, block) in blocks.iter().enumerate() {
            graph.enter(&format!("layer{}.{index}", layer + 1));
            x = residual_block(graph, block, &x);
        }
    }

    graph.enter("embedding");
    let pooled = graph.element_wise("GlobalAveragePool", &[&x]);
    let flat = graph.layer("Flatten", &[&pooled], &[Attribute::Int("axis", 1)]);
    graph.widened(&flat)
}

fn residual_block(graph: &mut Graph, block: &ResidualBlock, input: &Value) -> Value {
    let shortcut = match &block.projection {
        Some(projection) => convolution(graph, &projection.conv, &projection.norm, input),
        None => input.clone(),
    };
    let x = convolution(graph, &block.conv1, &block.norm1, input);
    let x = relu(graph, &x);
    let x = convolution(graph, &block.conv2, &block.norm2, &x);
    let x = graph.add(&x, &shortcut);
    relu(graph, &x)
}

/// Adds a convolution with the batch norm after it as one convolution.
///
/// With `g = γ / √(variance + ε)`, each kernel is multiplied by `g`, and the bias is
/// `β + (bias − mean) · g`; both are computed in 64 bits.
fn convolution(graph: &mut Graph, conv: &Conv2d, norm: &BatchNorm, input: &Value) -> Value {
    let [outputs, inputs, height, width] = conv.weight.dims();
    let weight = values(conv.weight.val());
    let bias = conv.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| values(bias.val()));
    let (gamma, beta) = (values(norm.gamma.val()), values(norm.beta.val()));
    let mean = values(norm.running_mean.value());
    let variance = values(norm.running_var.value());

    let mut folded_weight = Vec::with_capacity(weight.len());
    let mut folded_bias = Vec::with_capacity(outputs);
    for (channel, kernels) in weight.chunks(inputs * height * width).enumerate() {
        let gain = f64::from(gamma[channel]) / (f64::from(variance[channel]) + norm.epsilon).sqrt();
        // Weights are stored in 32 bits.
        folded_weight.extend(kernels.iter().map(|&weight| (f64::from(weight) * gain) as f32));
        let shift = f64::from(bias[channel]) - f64::from(mean[channel]);
        folded_bias.push((f64::from(beta[channel]) + shift * gain) as f32);
    }

    let shape = [outputs, inputs, height, width];
    let weight = graph.constant_like(input, "weight", &shape, &folded_weight);
    let bias = graph.constant_like(input, "bias", &[outputs], &folded_bias);
    let attributes = [
        Attribute::Ints("kernel_shape", &conv.kernel_size),
        Attribute::Ints("strides", &conv.stride),
        Attribute::Ints("dilations", &conv.dilation),
        Attribute::Ints("pads", &pads(&conv.padding)),
        Attribute::Int("group", i64::try_from(conv.groups).expect("channels are few")),
    ];
    graph.layer("Conv", &[input, &weight, &bias], &attributes)
}

/// Top, left, bottom and right.
fn pads(padding: &PaddingConfig2d) -> [usize; 4] {
    match *padding {
        PaddingConfig2d::Explicit(top, left, bottom, right) => [top, left, bottom, right],
        PaddingConfig2d::Valid => [0; 4],
        PaddingConfig2d::Same => unreachable!("layers of the network state their padding"),
    }
}

fn relu(graph: &mut Graph, x: &Value) -> Value {
    graph.element_wise("Relu", &[x])
}

/// Adds a head; its output has 64 bits.
fn head(graph: &mut Graph, head: &Head, embedding: &Value) -> Value {
    let hidden = linear(graph, &head.hidden, embedding);
    let hidden = relu(graph, &hidden);
    let output = linear(graph, &head.output, &hidden);
    graph.cast(&output, Element::F64)
}

fn linear(graph: &mut Graph, linear: &Linear, input: &Value) -> Value {
    let [inputs, outputs] = linear.weight.dims();
    let bias = linear.bias.as_ref().map_or_else(|| vec![0.0; outputs], |bias| values(bias.val()));
    let weight = values(linear.weight.val());
    let weight = graph.constant_like(input, "weight", &[inputs, outputs], &weight);
    let bias = graph.constant_like(input, "bias", &[outputs], &bias);
    if input.is_half() {
        // The operator of both has no form of 16 bits in some runtimes.
        let product = graph.element_wise("MatMul", &[input, &weight]);
        return graph.add(&product, &bias);
    }
    graph.element_wise("Gemm", &[input, &weight, &bias])
}

/// The elements of a tensor, in 32 bits, whatever the device computes in.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("the elements were just converted")
}

/// The network as it is used for inference.
pub(crate) fn for_inference(network: &Ensemble) -> Ensemble {
    network.valid()
}
