//! From the heads of one or several networks to a position and its covariance, as part of the graph.

use heimdall_features::FeatureShape;
use heimdall_model::{
    ABSENT_SCORE, CovarianceKind, DEVIATION_FLOOR, Ensemble, LocalizationNet,
    MIXTURE_RECEIVERS_MAX, Standardization,
};

use super::{GraphInputs, head, receiver_set, resnet, side, standardize};
use crate::graph::{Graph, Value};
use crate::port::Input;

/// A position and its covariance in the plane; every value is `[batch, 1]`, in 64 bits.
pub(crate) struct GraphEstimate {
    /// East and north.
    pub(crate) mean_km: [Value; 2],
    /// East, east-north and north, after recalibration.
    pub(crate) covariance_km2: [Value; 3],
}

/// A Gaussian and its share in the estimate; every value is `[batch, 1]`, in 64 bits.
struct Component {
    share: Value,
    mean_km: [Value; 2],
    covariance_km2: [Value; 3],
}

/// Adds all members of an ensemble, up to the estimate that they mix in equal shares.
pub(crate) fn ensemble(
    graph: &mut Graph,
    network: &Ensemble,
    inputs: &GraphInputs,
    shape: FeatureShape,
    sigma_scale: f64,
) -> GraphEstimate {
    let members = network.members();
    let mut components = Vec::new();
    for member in members {
        for mut component in self::components(graph, member, inputs, shape) {
            if members.len() > 1 {
                component.share = graph.scaled(&component.share, 1.0 / members.len() as f64);
            }
            components.push(component);
        }
    }
    graph.enter("mixture");
    let GraphEstimate { mean_km, covariance_km2 } = mixture(graph, components);
    let covariance_km2 =
        covariance_km2.map(|entry| graph.scaled(&entry, sigma_scale * sigma_scale));
    GraphEstimate { mean_km, covariance_km2 }
}

/// Mixes Gaussians: with `w` the shares and `d` the differences of the means from their mean, the
/// covariance is `Σ w (Σₖ + d dᵀ)`.
fn mixture(graph: &mut Graph, mut components: Vec<Component>) -> GraphEstimate {
    if components.len() == 1 {
        let Component { mean_km, covariance_km2, .. } = components.remove(0);
        return GraphEstimate { mean_km, covariance_km2 };
    }
    let mean_km = [0, 1].map(|axis| {
        let terms = components.iter().map(|c| graph.multiply(&c.share, &c.mean_km[axis]));
        let terms: Vec<Value> = terms.collect();
        sum(graph, &terms)
    });
    let off_km: Vec<[Value; 2]> = components
        .iter()
        .map(|c| [0, 1].map(|axis| graph.subtract(&c.mean_km[axis], &mean_km[axis])))
        .collect();
    let covariance_km2 = [(0, 0), (0, 1), (1, 1)].map(|(row, column)| {
        let terms = components.iter().zip(&off_km).map(|(component, off_km)| {
            let disagreement = graph.multiply(&off_km[row], &off_km[column]);
            let total = graph.add(&component.covariance_km2[row + column], &disagreement);
            graph.multiply(&component.share, &total)
        });
        let terms: Vec<Value> = terms.collect();
        sum(graph, &terms)
    });
    GraphEstimate { mean_km, covariance_km2 }
}

fn sum(graph: &mut Graph, terms: &[Value]) -> Value {
    let (first, rest) = terms.split_first().expect("there is something to add up");
    rest.iter().fold(first.clone(), |sum, term| graph.add(&sum, term))
}

/// Adds a network, up to the Gaussians that it states.
fn components(
    graph: &mut Graph,
    network: &LocalizationNet,
    inputs: &GraphInputs,
    shape: FeatureShape,
) -> Vec<Component> {
    let config = network.config();
    let embedding = embedding(graph, network, inputs, shape);
    graph.enter("position_head");
    let position_raw = head(graph, network.position_head(), &embedding);
    graph.enter("uncertainty_head");
    let uncertainty_raw = head(graph, network.uncertainty_head(), &embedding);

    graph.enter("estimate");
    let index = |index: usize| i64::try_from(index).expect("outputs are few");
    let components = config.components;
    let standardization = &config.standardization;
    let (origin_km, unit_km, floor_km2) = match config.side_inputs {
        Some(_) => {
            let gate = graph.column(&position_raw, index(2 * components));
            let (origin_km, unit_km) = side::correction(graph, standardization, inputs, &gate);
            (origin_km, unit_km, side::variance_floor_km2(graph, standardization, inputs))
        }
        None => {
            let (mean_km, spread_km) = spread(graph, standardization);
            let floor_km2 = [0, 1].map(|axis| {
                let floor_km = graph.scaled(&spread_km[axis], DEVIATION_FLOOR);
                graph.square(&floor_km)
            });
            (mean_km, spread_km, floor_km2)
        }
    };
    let scores = 2 * components + usize::from(config.side_inputs.is_some());
    let shares = shares(graph, &position_raw, scores, components, inputs);
    let outputs = config.covariance.head_outputs();
    let component = |(number, share)| {
        let mean_km = [0, 1].map(|axis| {
            let raw = graph.column(&position_raw, index(2 * number + axis));
            let km = graph.multiply(&raw, &unit_km[axis]);
            graph.add(&km, &origin_km[axis])
        });
        let from = outputs * number;
        let raw = graph.slice(&uncertainty_raw, 1, index(from), index(from + outputs));
        let covariance_km2 = covariance_km2(graph, config.covariance, [&unit_km, &floor_km2], &raw);
        Component { share, mean_km, covariance_km2 }
    };
    shares.into_iter().enumerate().map(component).collect()
}

/// Adds the parts of a network that make one vector of each event.
fn embedding(
    graph: &mut Graph,
    network: &LocalizationNet,
    inputs: &GraphInputs,
    shape: FeatureShape,
) -> Value {
    let config = network.config();
    let mut embeddings = Vec::new();
    if let Some(network) = network.resnet() {
        let x = standardize(graph, &config.standardization, inputs.get(Input::Levels));
        embeddings.push(resnet(graph, network, &x));
    }
    if let (Some(layers), Some(side_inputs)) = (network.side(), &config.side_inputs) {
        let x = side::flat(graph, side_inputs, &config.standardization, inputs);
        embeddings.push(side::perceptron(graph, layers, &x));
    }
    if let (Some(set), Some(side_inputs)) = (network.set(), &config.side_inputs) {
        let levels = standardize(graph, &config.standardization, inputs.get(Input::Levels));
        let side = (side_inputs, &config.standardization);
        embeddings.push(receiver_set::embedding(graph, set, (&levels, shape), side, inputs));
    }
    graph.columns(&embeddings.iter().collect::<Vec<_>>())
}

/// Mean and spread of the positions, to the east and to the north, as constants.
fn spread(graph: &mut Graph, standardization: &Standardization) -> ([Value; 2], [Value; 2]) {
    let Standardization { position_mean_km, position_deviation_km, .. } = standardization;
    let mut scalars = |values: [f32; 2]| values.map(|value| graph.scalar(value.into()));
    (scalars(*position_mean_km), scalars(*position_deviation_km))
}

/// The share of each component: `e^(sₖ − s)` over the sum of all with `s` the largest of the scores,
/// and no share for any but the first where more than a few receivers detect an event and the network
/// is told so.
fn shares(
    graph: &mut Graph,
    position_raw: &Value,
    scores: usize,
    components: usize,
    inputs: &GraphInputs,
) -> Vec<Value> {
    if components == 1 {
        return vec![graph.scalar(1.0)];
    }
    let many = inputs.find(Input::Scalars).is_some().then(|| {
        let hearing = side::hearing(graph, inputs);
        let limit = MIXTURE_RECEIVERS_MAX as f32 + 0.5;
        let limit = graph.constant_f32("limit", &[1, 1], &[limit]);
        let many = graph.indicator("Greater", &hearing, &limit);
        graph.scaled(&many, ABSENT_SCORE)
    });
    let index = |index: usize| i64::try_from(index).expect("outputs are few");
    let scores: Vec<Value> = (0..components)
        .map(|component| {
            let score = graph.column(position_raw, index(scores + component));
            match &many {
                Some(many) if component > 0 => graph.add(&score, many),
                _ => score,
            }
        })
        .collect();
    let largest = scores[1..]
        .iter()
        .fold(scores[0].clone(), |largest, score| graph.element_wise("Max", &[&largest, score]));
    let powers: Vec<Value> = scores
        .iter()
        .map(|score| {
            let below = graph.subtract(score, &largest);
            graph.element_wise("Exp", &[&below])
        })
        .collect();
    let total = sum(graph, &powers);
    powers.iter().map(|power| graph.divide(power, &total)).collect()
}

/// The covariance `L Lᵀ + diag(floor)`: east, east-north and north, `[batch, 1]` each.
fn covariance_km2(
    graph: &mut Graph,
    covariance: CovarianceKind,
    [unit_km, floor_km2]: [&[Value; 2]; 2],
    uncertainty_raw: &Value,
) -> [Value; 3] {
    let last = match covariance {
        CovarianceKind::Diagonal => 1,
        CovarianceKind::Full => 2,
    };
    let [l11, l22] = [(0, 0), (last, 1)].map(|(output, axis)| {
        let raw = graph.column(uncertainty_raw, output);
        let stated = softplus(graph, &raw);
        graph.multiply(&stated, &unit_km[axis])
    });
    let l21 = match covariance {
        CovarianceKind::Diagonal => graph.scaled(&l11, 0.0),
        CovarianceKind::Full => {
            let below = graph.column(uncertainty_raw, 1);
            graph.multiply(&below, &unit_km[1])
        }
    };
    let east = graph.square(&l11);
    let east = graph.add(&east, &floor_km2[0]);
    let east_north = graph.multiply(&l11, &l21);
    let below = graph.square(&l21);
    let north = graph.square(&l22);
    let north = graph.add(&north, &below);
    [east, east_north, graph.add(&north, &floor_km2[1])]
}

/// `ln(1 + eˣ)` as `max(x, 0) + ln(1 + e^−|x|)`, which overflows nowhere.
///
/// The operator of the same name has no 64-bit form in some runtimes and overflows in others.
fn softplus(graph: &mut Graph, x: &Value) -> Value {
    let magnitude = graph.element_wise("Abs", &[x]);
    let twice_positive = graph.add(x, &magnitude);
    let positive = graph.scaled(&twice_positive, 0.5);
    let exponent = graph.scaled(&magnitude, -1.0);
    let power = graph.element_wise("Exp", &[&exponent]);
    let sum = graph.shifted(&power, 1.0);
    let logarithm = graph.element_wise("Log", &[&sum]);
    graph.add(&positive, &logarithm)
}
