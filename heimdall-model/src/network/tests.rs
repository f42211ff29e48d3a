//! Tests of the network: what it states, what it repeats, and what it learns from.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::Gradients;

use super::*;
use crate::{CovarianceKind, SideInputConfig, Standardization};

fn config() -> LocalizationNetConfig {
    LocalizationNetConfig {
        input_channels: 2,
        head_width: 16,
        standardization: Standardization {
            level_mean_db: vec![3.0, -1.0],
            level_deviation_db: vec![2.0, 4.0],
            position_mean_km: [20.0, -30.0],
            position_deviation_km: [70.0, 50.0],
        },
        seed: 7,
        ..LocalizationNetConfig::default()
    }
}

/// Levels between −10 and 10 dB without any pattern.
fn levels_db(batch: usize, device: &Device) -> Tensor<4> {
    let (bands, frames) = (12, 6);
    let value = |index: usize| ((index * 7919 + 13) % 2003) as f32 / 100.15 - 10.0;
    let values: Vec<f32> = (0..batch * 2 * bands * frames).map(value).collect();
    Tensor::from_data(TensorData::new(values, [batch, 2, bands, frames]), device)
}

/// Bits of every weight and running statistic, in the order of the modules.
fn bits(network: &LocalizationNet) -> Vec<u32> {
    struct Collect(Vec<u32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val().into_data().try_to_vec::<f32>().unwrap();
            self.0.extend(values.into_iter().map(f32::to_bits));
        }
    }
    let mut collect = Collect(Vec::new());
    network.visit(&mut collect);
    collect.0
}

fn values(estimate: Estimate) -> Vec<f32> {
    let [mean, cholesky] = [estimate.mean_km, estimate.cholesky_km]
        .map(|x| x.into_data().try_to_vec::<f32>().unwrap());
    [mean, cholesky].concat()
}

fn assert_close(values: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(values.len(), expected.len());
    for (value, expected) in values.iter().zip(expected) {
        assert!((value - expected).abs() <= tolerance, "{value} is not {expected}");
    }
}

#[test]
fn estimate_has_a_row_per_event() {
    let device = Device::flex();
    for covariance in [CovarianceKind::Diagonal, CovarianceKind::Full] {
        let network = LocalizationNetConfig { covariance, ..config() }.init(&device);

        let estimate = network.forward(levels_db(3, &device).into());

        assert_eq!(estimate.mean_km.dims(), [3, 2]);
        assert_eq!(estimate.cholesky_km.dims(), [3, 3]);
    }
}

/// By hand: (5 − 3) / 2 and (−9 + 1) / 4.
#[test]
fn levels_are_standardized_per_receiver() {
    let device = Device::flex();
    let network = config().init(&device);

    let x = network.standardize(Tensor::from_data([[[[5.0]], [[-9.0]]]], &device));

    assert_close(&x.into_data().try_to_vec::<f32>().unwrap(), &[1.0, -2.0], 1e-6);
}

#[test]
#[should_panic(expected = "standardization.level_mean_db")]
fn invalid_configuration_makes_no_network() {
    LocalizationNetConfig { input_channels: 4, ..config() }.init(&Device::flex());
}

#[test]
fn same_seed_gives_the_same_network() {
    let device = Device::flex();
    let first = bits(&config().init(&device));
    // Drawing elsewhere in between changes nothing, nor does the kind of device.
    let again = bits(&config().init(&device.clone().autodiff()));
    let other = bits(&LocalizationNetConfig { seed: 8, ..config() }.init(&device));

    assert!(first == again);
    assert!(first != other);
}

#[test]
fn same_network_gives_the_same_estimate() {
    let device = Device::flex();
    let network = config().init(&device);

    let first = values(network.forward(levels_db(2, &device).into()));
    let second = values(network.forward(levels_db(2, &device).into()));

    assert!(first.iter().zip(&second).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn untrained_network_states_mean_and_spread_of_the_positions() {
    let device = Device::flex();
    let network = config().init(&device);

    let estimate = network.forward(levels_db(1, &device).into());

    // Within a tenth of the spread, whatever the weights.
    let mean_km = estimate.mean_km.into_data().try_to_vec::<f32>().unwrap();
    let cholesky_km = estimate.cholesky_km.into_data().try_to_vec::<f32>().unwrap();
    assert_close(&mean_km, &[20.0, -30.0], 7.0);
    assert_close(&cholesky_km, &[70.0, 0.0, 50.0], 7.0);
}

#[test]
fn weights_survive_a_file() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.bpk");
    let network = config().init(&device);
    let expected = values(network.forward(levels_db(2, &device).into()));

    network.clone().save_file(&path).unwrap();
    let blank = LocalizationNetConfig { seed: 99, ..config() }.init(&device);
    let loaded = blank.try_load_file(&path).unwrap();

    assert!(bits(&loaded) == bits(&network));
    assert_close(&values(loaded.forward(levels_db(2, &device).into())), &expected, 0.0);
}

/// A forward pass in training moves the running statistics; `valid` uses them and does not.
#[test]
fn validation_network_uses_running_statistics() {
    let device = Device::flex().autodiff();
    let network = config().init(&device);
    let before = bits(&network);
    network.forward(levels_db(4, &device).into());
    let validation = network.valid();

    let plain = Device::flex();
    let alone = values(validation.forward(levels_db(1, &plain).into()));
    let both = values(validation.forward(levels_db(2, &plain).into()));
    let after = bits(&validation);

    assert!(before != after);
    assert!(bits(&network.valid()) == after);
    // With batch statistics the second event would change the estimate of the first.
    assert_close(&alone[..2], &both[..2], 1e-3);
}

/// Counts the parameters, and checks that each one has a gradient.
fn check_gradients(network: &LocalizationNet, gradients: &Gradients) -> usize {
    struct Check<'a> {
        gradients: &'a Gradients,
        path: Vec<String>,
        parameters: usize,
    }
    impl ModuleVisitor for Check<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.path.join(".");
            if path.contains("running_") {
                return;
            }
            let gradient = param.val().grad(self.gradients).expect(&path);
            let largest = gradient.abs().max().into_scalar::<f32>();
            assert!(largest > 0.0 && largest.is_finite(), "{path}: {largest}");
            self.parameters += 1;
        }
    }
    let mut check = Check { gradients, path: Vec::new(), parameters: 0 };
    network.visit(&mut check);
    check.parameters
}

#[test]
fn gradient_reaches_every_parameter() {
    let device = Device::flex().autodiff();
    let network = config().init(&device);

    let estimate = network.forward(levels_db(3, &device).into());
    let gradients =
        (estimate.mean_km.square().sum() + estimate.cholesky_km.square().sum()).backward();

    // 20 convolutions with a weight each, as many batch norms with two; four linear layers.
    assert_eq!(check_gradients(&network, &gradients), 20 + 20 * 2 + 4 * 2);
}

fn with_side_inputs(backbone: Backbone) -> LocalizationNetConfig {
    let mut side_inputs = SideInputConfig {
        receivers_km: vec![[0.0, 0.0], [30.0, 10.0]],
        scalar_mean: vec![vec![10.0, -5.0, 0.5], vec![4.0, -7.0, 0.5]],
        scalar_deviation: vec![vec![8.0, 2.0, 0.5]; 2],
    };
    let mut config = LocalizationNetConfig { backbone, ..config() };
    if backbone.treats_receivers_alike() {
        side_inputs.scalar_mean.truncate(1);
        side_inputs.scalar_deviation.truncate(1);
        config.standardization.level_mean_db.truncate(1);
        config.standardization.level_deviation_db.truncate(1);
    }
    LocalizationNetConfig { side_inputs: Some(side_inputs), ..config }
}

/// Three events: without a fix, with one, and with an ambiguous one. The second receiver is absent
/// from the last.
fn input(device: &Device) -> NetworkInput {
    let side = SideInputs {
        scalars: Tensor::from_data(
            [
                [[3.0, -4.0, 0.0], [12.0, -8.0, 1.0]],
                [[25.0, -4.5, 1.0], [5.0, -6.0, 0.0]],
                [[14.0, -3.5, 1.0], [0.0, 0.0, 0.0]],
            ],
            device,
        ),
        mask: Tensor::from_data([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]], device),
        receivers_km: Tensor::from_data([[[0.0, 0.0], [30.0, 10.0]]; 3], device),
        fix_km: Tensor::from_data([[0.0, 0.0], [44.0, 12.0], [-60.0, 5.0]], device),
        fix_covariance_km2: Tensor::from_data(
            [[0.0, 0.0, 0.0], [0.04, 0.01, 0.09], [4.0, -1.0, 9.0]],
            device,
        ),
        fix_status: Tensor::from_data([[0.0], [1.0], [2.0]], device),
    };
    NetworkInput { levels_db: levels_db(3, device), side: Some(side) }
}

const BACKBONES_WITH_SIDE_INPUTS: [Backbone; 3] =
    [Backbone::ResNet18, Backbone::Mlp, Backbone::Set];

#[test]
fn untrained_network_states_the_fix_where_there_is_one() {
    let device = Device::flex();
    for backbone in BACKBONES_WITH_SIDE_INPUTS {
        let network = with_side_inputs(backbone).init(&device);

        let estimate = network.forward(input(&device));

        // Within a tenth of the spread, whatever the weights; the unit is half of it at first.
        let mean_km = estimate.mean_km.into_data().try_to_vec::<f32>().unwrap();
        let cholesky_km = estimate.cholesky_km.into_data().try_to_vec::<f32>().unwrap();
        assert_close(&mean_km, &[20.0, -30.0, 44.0, 12.0, -60.0, 5.0], 10.0);
        assert_close(&cholesky_km[..3], &[70.0, 0.0, 50.0], 10.0);
        assert_close(&cholesky_km[3..6], &[35.0, 0.0, 25.0], 10.0);
    }
}

#[test]
fn numbers_of_an_absent_receiver_change_nothing() {
    let device = Device::flex();
    for backbone in BACKBONES_WITH_SIDE_INPUTS {
        let network = with_side_inputs(backbone).init(&device);
        let mut other = input(&device);
        let side = other.side.as_mut().unwrap();
        let absent = side.mask.clone().neg().add_scalar(1.0).unsqueeze_dim::<3>(2);
        side.scalars = side.scalars.clone() + absent * 1e3;

        let (first, second) = (network.forward(input(&device)), network.forward(other));

        assert_close(&values(first), &values(second), 1e-4);
    }
}

#[test]
fn numbers_of_a_present_receiver_change_the_estimate() {
    let device = Device::flex();
    for backbone in BACKBONES_WITH_SIDE_INPUTS {
        let network = with_side_inputs(backbone).init(&device);
        let mut other = input(&device);
        let side = other.side.as_mut().unwrap();
        side.scalars = side.scalars.clone() + 3.0;

        let (first, second) = (network.forward(input(&device)), network.forward(other));

        assert!((first.mean_km - second.mean_km).abs().min().into_scalar::<f32>() > 1e-4);
    }
}

#[test]
fn perceptron_does_not_look_at_levels() {
    let device = Device::flex();
    let network = with_side_inputs(Backbone::Mlp).init(&device);
    let other = NetworkInput { levels_db: Tensor::zeros([3, 2, 1, 1], &device), ..input(&device) };

    let (first, second) = (network.forward(input(&device)), network.forward(other));

    assert_close(&values(first), &values(second), 0.0);
}

/// An event without a fix has no covariance either, and its logarithm must do no harm.
#[test]
fn gradients_are_finite_and_reach_the_side_inputs() {
    let device = Device::flex().autodiff();
    for backbone in BACKBONES_WITH_SIDE_INPUTS {
        let network = with_side_inputs(backbone).init(&device);

        let estimate = network.forward(input(&device));
        let gradients =
            (estimate.mean_km.square().sum() + estimate.cholesky_km.square().sum()).backward();

        let check = check_gradients(&network, &gradients);
        // Each layer has a weight and a bias: some of the side inputs, and four of the heads.
        let expected = match backbone {
            Backbone::Mlp => 2 * 3 + 8,
            // Four blocks of three convolutions; six layers and two norms in each of two rounds,
            // less the bias of what receivers ask for, which is common to all; the last norm.
            Backbone::Set => 4 * 3 * 3 + 2 * 3 + 2 * (4 * 2 + 2 * 2) + 2 + 8,
            _ => 20 + 20 * 2 + 2 * 2 + 8,
        };
        assert_eq!(check, expected, "{backbone:?}");
    }
}

#[test]
#[should_panic(expected = "is given them")]
fn side_inputs_cannot_be_left_out() {
    let device = Device::flex();
    let network = with_side_inputs(Backbone::ResNet18).init(&device);

    network.forward(levels_db(1, &device).into());
}

#[test]
fn preset_of_the_specification_states_position_and_deviation() {
    let device = Device::flex();
    let network = LocalizationNetConfig::specification().init(&device);

    let (mean_km, sigma_km) = network.forward_diagonal(Tensor::zeros([2, 3, 128, 32], &device));

    assert_eq!((mean_km.dims(), sigma_km.dims()), ([2, 2], [2, 2]));
    assert!(sigma_km.min().into_scalar::<f32>() > 0.0);
}

/// The first of two events with three receivers, in another order and with a fourth that is absent.
#[test]
fn receivers_are_a_set() {
    let device = Device::flex();
    let network = with_side_inputs(Backbone::Set).init(&device);
    let input = input(&device);
    let with = |order: &[usize]| {
        let order = |dim: usize| (dim, order);
        fn pick<const D: usize>(x: &Tensor<D>, (dim, order): (usize, &[usize])) -> Tensor<D> {
            let parts = order.iter().map(|&index| x.clone().narrow(dim, index, 1));
            Tensor::cat(parts.collect(), dim)
        }
        let side = input.side.clone().unwrap();
        NetworkInput {
            levels_db: pick(&input.levels_db, order(1)),
            side: Some(SideInputs {
                scalars: pick(&side.scalars, order(1)),
                mask: pick(&side.mask, order(1)),
                receivers_km: pick(&side.receivers_km, order(1)),
                ..side
            }),
        }
    };
    let absent = |mut input: NetworkInput, receiver: usize| {
        let side = input.side.as_mut().unwrap();
        let mask = side.mask.clone();
        let keep: Vec<Tensor<2>> = (0..mask.dims()[1])
            .map(|index| {
                let column = mask.clone().narrow(1, index, 1);
                if index == receiver { column.zeros_like() } else { column }
            })
            .collect();
        side.mask = Tensor::cat(keep, 1);
        input
    };

    let alone = values(network.forward(with(&[0, 1])));
    let turned = values(network.forward(with(&[1, 0])));
    let joined = values(network.forward(absent(with(&[0, 1, 0]), 2)));
    let lost = values(network.forward(absent(with(&[0, 1]), 1)));

    assert_close(&turned, &alone, 1e-3);
    assert_close(&joined, &alone, 1e-3);
    // The last event did not have the second receiver anyway.
    assert_close(&lost[4..6], &alone[4..6], 1e-3);
    assert!((lost[0] - alone[0]).abs() > 1e-3, "{lost:?}");
}

/// Moving a receiver moves what it says.
#[test]
fn positions_of_the_receivers_matter() {
    let device = Device::flex();
    let network = with_side_inputs(Backbone::Set).init(&device);
    let mut moved = input(&device);
    let side = moved.side.as_mut().unwrap();
    side.receivers_km = side.receivers_km.clone() + 25.0;

    let (first, second) = (network.forward(input(&device)), network.forward(moved));

    assert!((first.mean_km - second.mean_km).abs().max().into_scalar::<f32>() > 1e-3);
}

/// The first event is heard by one receiver, the second too; a third makes the mixture one Gaussian.
#[test]
fn only_events_that_few_receivers_hear_are_mixtures() {
    let device = Device::flex();
    for backbone in BACKBONES_WITH_SIDE_INPUTS {
        let config = LocalizationNetConfig { components: 3, ..with_side_inputs(backbone) };
        let network = config.init(&device);
        let mut many = input(&device);
        let side = many.side.as_mut().unwrap();
        // As if each of the two counted twice.
        side.mask = side.mask.clone() * 2.0;

        let shares = |input: NetworkInput| -> Vec<f32> {
            let components = network.forward(input).components;
            assert_eq!(components.len(), 3);
            let shares = components.into_iter().map(|component| component.log_share.exp());
            Tensor::cat(shares.collect(), 1).try_into_vec_as().unwrap()
        };
        let few = shares(input(&device));
        let all_detect = {
            let side = many.side.as_mut().unwrap();
            side.scalars = side.scalars.ones_like();
            shares(many)
        };

        for (few, many) in few.chunks(3).zip(all_detect.chunks(3)).take(2) {
            assert!((few.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(few.iter().all(|share| *share > 0.1), "{few:?}");
            assert_close(many, &[1.0, 0.0, 0.0], 1e-6);
        }
    }
}

/// The components start apart, or they would all learn the same.
#[test]
fn components_start_at_different_places() {
    let device = Device::flex();
    let network = LocalizationNetConfig { components: 3, ..config() }.init(&device);

    let components = network.forward(levels_db(1, &device).into()).components;

    let east_km: Vec<f32> = components
        .into_iter()
        .map(|component| component.mean_km.narrow(1, 0, 1).into_scalar::<f32>())
        .collect();
    // Half a spread of 70 km to the west and to the east of the first.
    assert_close(&east_km, &[20.0, -15.0, 55.0], 10.0);
}
