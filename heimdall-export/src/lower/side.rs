//! The side inputs and the layers that take them, as parts of the graph.

use heimdall_model::{
    DEVIATION_FLOOR, FIX_DEVIATION_SHARE, FIX_LOGARITHM_SCALE, FIX_THINNESS, FIX_VARIANCE_FLOOR,
    FIX_VARIANCE_MIN_KM2, Perceptron, SideInputConfig, Standardization,
};

use super::{GraphInputs, linear, relu};
use crate::graph::{Element, Graph, Value};
use crate::port::Input;

/// Lays the side inputs out: receiver by receiver, and then the fix; `[batch, length]`.
pub(crate) fn flat(
    graph: &mut Graph,
    config: &SideInputConfig,
    standardization: &Standardization,
    inputs: &GraphInputs,
) -> Value {
    let receivers = per_receiver(graph, config, standardization, inputs);
    let length = config.receivers_km.len() * (config.scalars() + 3);
    let receivers = graph.reshape(&receivers, &[length]);
    let fix = fix_features(graph, standardization, inputs);
    graph.columns(&[&receivers, &fix])
}

/// The standardized numbers of each receiver, whether it is there, and where it stands;
/// `[batch, receivers, scalars + 3]`.
pub(crate) fn per_receiver(
    graph: &mut Graph,
    config: &SideInputConfig,
    standardization: &Standardization,
    inputs: &GraphInputs,
) -> Value {
    graph.enter("receivers");
    let (receivers, scalars) = (config.receivers_km.len(), config.scalars());
    let present = graph.reshape(inputs.get(Input::Mask), &[receivers, 1]);

    let table = [1, config.scalar_mean.len(), scalars];
    let mean = graph.constant_f32("mean", &table, &config.scalar_mean.concat());
    let deviation = graph.constant_f32("deviation", &table, &config.scalar_deviation.concat());
    let numbers = graph.subtract(inputs.get(Input::Scalars), &mean);
    let numbers = graph.divide(&numbers, &deviation);
    let numbers = graph.multiply(&numbers, &present);

    let mean_km = graph.constant_f32("mean_km", &[1, 1, 2], &standardization.position_mean_km);
    let spread_km =
        graph.constant_f32("spread_km", &[1, 1, 2], &standardization.position_deviation_km);
    let places = graph.subtract(inputs.get(Input::Receivers), &mean_km);
    let places = graph.divide(&places, &spread_km);
    graph.join(&[&numbers, &present, &places], 2)
}

/// The fix in numbers of about the same size, all zero where there is none; `[batch, 7]`.
pub(crate) fn fix_features(
    graph: &mut Graph,
    standardization: &Standardization,
    inputs: &GraphInputs,
) -> Value {
    graph.enter("fix");
    let [east_km, north_km] = standardization.position_deviation_km;
    let mean_km = graph.constant_f32("mean_km", &[1, 2], &standardization.position_mean_km);
    let spread_km = graph.constant_f32("spread_km", &[1, 2], &[east_km, north_km]);
    let place = graph.subtract(inputs.get(Input::Fix), &mean_km);
    let place = graph.divide(&place, &spread_km);

    let scale = [east_km * east_km, east_km * north_km, north_km * north_km];
    let scale = graph.constant_f32("scale_km2", &[1, 3], &scale);
    let relative = graph.divide(inputs.get(Input::FixCovariance), &scale);
    // These constants are exact enough in 32 bits.
    let floor = graph.constant_f32("floor", &[1, 1], &[FIX_VARIANCE_FLOOR as f32]);
    let half = graph.constant_f32("half", &[1, 1], &[(0.5 * FIX_LOGARITHM_SCALE) as f32]);
    let [east, north] = [0, 2].map(|axis| {
        let variance = graph.column(&relative, axis);
        graph.add(&variance, &floor)
    });
    let [east_logarithm, north_logarithm] = [&east, &north].map(|variance| {
        let logarithm = graph.element_wise("Log", &[variance]);
        graph.multiply(&logarithm, &half)
    });
    let product = graph.multiply(&east, &north);
    let deviations = graph.square_root(&product);
    let both = graph.column(&relative, 1);
    let correlation = graph.divide(&both, &deviations);

    let told = graph.columns(&[&place, &east_logarithm, &north_logarithm, &correlation]);
    let (present, ambiguous) = status(graph, inputs);
    let told = graph.multiply(&told, &present);
    graph.columns(&[&told, &present, &ambiguous])
}

/// Whether there is a fix, and whether it is ambiguous; `[batch, 1]` each, 1 or 0.
fn status(graph: &mut Graph, inputs: &GraphInputs) -> (Value, Value) {
    let status = inputs.get(Input::FixStatus);
    let one = graph.constant_f32("one", &[1, 1], &[1.0]);
    let above = graph.subtract(status, &one);
    let ambiguous = relu(graph, &above);
    (graph.subtract(status, &ambiguous), ambiguous)
}

/// Adds fully connected layers, each with a `ReLU`.
pub(crate) fn perceptron(graph: &mut Graph, layers: &Perceptron, x: &Value) -> Value {
    graph.enter("side");
    let x = graph.narrowed(x);
    let x = layers.layers.iter().fold(x, |x, layer| {
        let x = linear(graph, layer, &x);
        relu(graph, &x)
    });
    graph.widened(&x)
}

/// The number of receivers that detect each event, `[batch, 1]`.
pub(crate) fn hearing(graph: &mut Graph, inputs: &GraphInputs) -> Value {
    let (scalars, receivers) = inputs.scalars();
    let last = i64::try_from(scalars).expect("scalars are few") - 1;
    let detected = graph.slice(inputs.get(Input::Scalars), 2, last, last + 1);
    let detected = graph.reshape(&detected, &[receivers]);
    let detected = graph.multiply(&detected, inputs.get(Input::Mask));
    let ones = graph.constant_f32("ones", &[receivers, 1], &vec![1.0; receivers]);
    graph.element_wise("MatMul", &[&detected, &ones])
}

/// Where the estimate starts from, and the unit in which it is stated, both to the east and to the
/// north: the fix and the logistic function of `gate`, or mean and spread of the positions where
/// there is no fix.
pub(crate) fn correction(
    graph: &mut Graph,
    standardization: &Standardization,
    inputs: &GraphInputs,
    gate: &Value,
) -> ([Value; 2], [Value; 2]) {
    let (present, _) = status(graph, inputs);
    let present = graph.cast(&present, Element::F64);
    let fix_km = graph.cast(inputs.get(Input::Fix), Element::F64);
    let unit = logistic(graph, gate);
    let less = graph.shifted(&unit, -1.0);
    let less = graph.multiply(&less, &present);
    let unit = graph.shifted(&less, 1.0);

    let origin_km = [0_u8, 1].map(|axis| {
        let mean_km = f64::from(standardization.position_mean_km[usize::from(axis)]);
        let fix_km = graph.column(&fix_km, axis.into());
        let from_mean_km = graph.shifted(&fix_km, -mean_km);
        let from_mean_km = graph.multiply(&from_mean_km, &present);
        graph.shifted(&from_mean_km, mean_km)
    });
    let spreads_km = standardization.position_deviation_km;
    (origin_km, spreads_km.map(|spread_km| graph.scaled(&unit, spread_km.into())))
}

/// The least variance of each estimate, to the east and to the north, in km²: a share of that of the
/// fix along its short axis, or of the spread of the positions where there is no fix.
pub(crate) fn variance_floor_km2(
    graph: &mut Graph,
    standardization: &Standardization,
    inputs: &GraphInputs,
) -> [Value; 2] {
    let (present, _) = status(graph, inputs);
    let present = graph.cast(&present, Element::F64);
    let covariance_km2 = graph.cast(inputs.get(Input::FixCovariance), Element::F64);
    let [east, both, north] = [0, 1, 2].map(|entry| graph.column(&covariance_km2, entry));
    let product = graph.multiply(&east, &north);
    let product = graph.scaled(&product, 1.0 + FIX_THINNESS);
    let both = graph.square(&both);
    let determinant = graph.subtract(&product, &both);
    let trace = graph.add(&east, &north);
    let trace = graph.shifted(&trace, FIX_VARIANCE_MIN_KM2);
    let short_km2 = graph.divide(&determinant, &trace);
    let short_km2 = graph.shifted(&short_km2, FIX_VARIANCE_MIN_KM2);
    let [east_km, north_km] = standardization.position_deviation_km.map(f64::from);
    let spread_km2 = east_km * north_km;
    let sum_km2 = graph.shifted(&short_km2, spread_km2);
    let product = graph.scaled(&short_km2, spread_km2 * FIX_DEVIATION_SHARE.powi(2));
    let with_fix = graph.divide(&product, &sum_km2);

    [east_km, north_km].map(|spread_km| {
        let without = (spread_km * DEVIATION_FLOOR).powi(2);
        let more = graph.shifted(&with_fix, -without);
        let more = graph.multiply(&more, &present);
        graph.shifted(&more, without)
    })
}

/// `1 / (1 + e^−x)`, which overflows to an infinite divisor and so to zero, as it should.
fn logistic(graph: &mut Graph, x: &Value) -> Value {
    let exponent = graph.scaled(x, -1.0);
    let power = graph.element_wise("Exp", &[&exponent]);
    let divisor = graph.shifted(&power, 1.0);
    let one = graph.scalar(1.0);
    graph.divide(&one, &divisor)
}
