//! Every layer and every gradient equals Burn's own, within rounding, on random shapes.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, AdamWConfig, AdaptiveMomentumState, Optimizer};
use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};
use heimdall_kernels::{
    Adam, AdamW, AfterNorm, convolve, max_pool, normalize, normalize_batch, set_threads,
    sum_of_squares, supports,
};
use proptest::prelude::*;

/// Largest difference, as a share of the largest number: sums of up to a few thousand products in
/// single precision, added up in another order.
const TOLERANCE: f32 = 1e-5;

/// Numbers between −1 and 1 without a pattern, the same for the same seed.
fn random<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let numbers: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

fn channels_last(images: Tensor<4>) -> Tensor<4> {
    images.permute([0, 2, 3, 1])
}

fn channels_first(images: Tensor<4>) -> Tensor<4> {
    images.permute([0, 3, 1, 2])
}

#[track_caller]
fn assert_close<const D: usize>(what: &str, actual: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let actual: Vec<f32> = actual.into_data().try_to_vec().unwrap();
    let expected: Vec<f32> = expected.into_data().try_to_vec().unwrap();
    let largest = expected.iter().fold(0_f32, |largest, number| largest.max(number.abs()));
    for (actual, expected) in actual.iter().zip(&expected) {
        let difference = (actual - expected).abs();
        assert!(difference <= TOLERANCE * largest.max(1.0), "{what}: {actual}, not {expected}");
    }
}

/// A convolution, or a window of a pooling.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    batch: usize,
    size: [usize; 2],
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
}

impl Case {
    fn padding(&self) -> [usize; 2] {
        self.kernel.map(|kernel| kernel / 2)
    }

    fn input(&self, device: &Device) -> Tensor<4> {
        let [height, width] = self.size;
        random(self.seed, [self.batch, self.channels[0], height, width], device)
    }

    fn weight(&self, device: &Device) -> Tensor<4> {
        let [input, output] = self.channels;
        let [height, width] = self.kernel;
        random(self.seed + 1, [output, input, height, width], device)
    }
}

/// Sizes down to one pixel, channels that fill no vector, one vector, one panel, or more.
fn cases() -> impl Strategy<Value = Case> {
    let channels = || prop_oneof![1_usize..9, 12_usize..20, Just(64_usize), 60_usize..75];
    let kernel = || prop::sample::select(vec![1_usize, 3, 7]);
    let kernels = prop_oneof![kernel().prop_map(|kernel| [kernel; 2]), [kernel(), kernel()]];
    let strides =
        prop_oneof![Just([1, 1]), Just([2, 2]), Just([2, 1]), prop::array::uniform2(1_usize..4)];
    let sizes = prop::array::uniform2(1_usize..13);
    (0_u64..1000, 1_usize..5, sizes, [channels(), channels()], kernels, strides).prop_map(
        |(seed, batch, size, channels, kernel, stride)| Case {
            seed,
            batch,
            size,
            channels,
            kernel,
            stride,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn convolution_and_its_gradients_are_those_of_burn(case in cases()) {
        let device = Device::flex().autodiff();
        let leaves = || {
            (case.input(&device).require_grad(), case.weight(&device).require_grad())
        };
        let (input, weight) = leaves();
        let expected = conv2d(
            input.clone(),
            weight.clone(),
            None,
            ConvOptions::new(case.stride, case.padding(), [1, 1], 1),
        );
        let seen = random(case.seed + 2, expected.dims(), &device);
        let expected_gradients = (expected.clone() * seen.clone()).sum().backward();

        let (x, w) = leaves();
        let output = convolve(channels_last(x.clone()), w.clone(), case.stride, case.padding());
        let output = channels_first(output);
        let gradients = (output.clone() * seen).sum().backward();

        assert_close("output", output.inner(), expected.inner());
        let expected = input.grad(&expected_gradients).unwrap();
        assert_close("gradient of the input", x.grad(&gradients).unwrap(), expected);
        let expected = weight.grad(&expected_gradients).unwrap();
        assert_close("gradient of the weight", w.grad(&gradients).unwrap(), expected);
    }

    #[test]
    fn pooling_and_its_gradient_are_those_of_burn(case in cases()) {
        let device = Device::flex().autodiff();
        let input = case.input(&device).require_grad();
        let (kernel, stride, padding) = (case.kernel, case.stride, case.padding());
        let options = MaxPoolOptions {
            kernel_size: kernel,
            stride,
            padding: padding.map(|padding| (padding, padding)),
            dilation: [1, 1],
            ceil_mode: false,
        };
        let expected = max_pool2d(input.clone(), options);
        let seen = random(case.seed + 2, expected.dims(), &device);
        let expected_gradients = (expected.clone() * seen.clone()).sum().backward();

        let x = case.input(&device).require_grad();
        let output = channels_first(max_pool(channels_last(x.clone()), kernel, stride, padding));
        let gradients = (output.clone() * seen).sum().backward();

        assert_close("output", output.inner(), expected.inner());
        let expected = input.grad(&expected_gradients).unwrap();
        assert_close("gradient of the input", x.grad(&gradients).unwrap(), expected);
    }

    /// The input is far from zero, as sums of squares would not survive.
    #[test]
    fn norm_and_its_gradients_are_those_of_burn(
        case in cases(),
        mean in prop::sample::select(vec![0.0_f32, 30.0]),
        with_shortcut: bool,
        rectify: bool,
    ) {
        let device = Device::flex().autodiff();
        let channels = case.channels[0];
        let leaves = || {
            let shortcut = random(case.seed + 3, case.input(&device).dims(), &device);
            (
                (case.input(&device) + mean).require_grad(),
                (random(case.seed + 4, [channels], &device) + 1.5).require_grad(),
                random(case.seed + 5, [channels], &device).require_grad(),
                shortcut.require_grad(),
            )
        };
        // Of one pixel there is no spread: its norm amplifies rounding without bound.
        prop_assume!(case.batch * case.size[0] * case.size[1] > 1);

        let (input, gamma, beta, shortcut) = leaves();
        let normalized = burn::tensor::module::batch_norm_train(
            input.clone(), gamma.clone(), beta.clone(), 1e-5,
        );
        let mut expected = normalized.output;
        if with_shortcut {
            expected = expected + shortcut.clone();
        }
        if rectify {
            expected = relu(expected);
        }
        let seen = random(case.seed + 6, expected.dims(), &device);
        let expected_gradients = (expected.clone() * seen.clone()).sum().backward();

        let (x, g, b, s) = leaves();
        let after = AfterNorm {
            shortcut: with_shortcut.then(|| channels_last(s.clone())),
            rectify,
        };
        let result = normalize_batch(channels_last(x.clone()), g.clone(), b.clone(), 1e-5, after);
        let output = channels_first(result.output);
        let gradients = (output.clone() * seen).sum().backward();

        assert_close("mean", result.mean.inner(), normalized.mean.inner());
        let variance = normalized.variance.inner();
        assert_close("variance", result.variance.inner(), variance.clone());
        // Rounding of the input is a larger share of its deviation when its mean is larger, or the
        // deviation of the few pixels of a channel smaller. The gradient is steeper by the latter
        // once more.
        let deviation: f32 = (variance + 1e-5).sqrt().min().into_scalar();
        let steepness = deviation.recip().max(1.0);
        let slack = steepness * if mean > 0.0 { 30.0 } else { 1.0 };
        assert_close("output", output.inner() / slack, expected.inner() / slack);
        let expected = input.grad(&expected_gradients).unwrap();
        let steep = slack * steepness;
        assert_close("input", x.grad(&gradients).unwrap() / steep, expected / steep);
        let expected = gamma.grad(&expected_gradients).unwrap();
        assert_close("gamma", g.grad(&gradients).unwrap() / slack, expected / slack);
        let expected = beta.grad(&expected_gradients).unwrap();
        assert_close("beta", b.grad(&gradients).unwrap(), expected);
        if with_shortcut {
            let expected = shortcut.grad(&expected_gradients).unwrap();
            assert_close("shortcut", s.grad(&gradients).unwrap(), expected);
        }
    }

    #[test]
    fn inference_scales_and_shifts(case in cases(), with_shortcut: bool, rectify: bool) {
        let device = Device::flex();
        let channels = case.channels[0];
        let input = case.input(&device);
        let shortcut = random(case.seed + 3, input.dims(), &device);
        let scale = random(case.seed + 4, [channels], &device);
        let shift = random(case.seed + 5, [channels], &device);
        let per_channel = |tensor: &Tensor<1>| tensor.clone().reshape([1, channels, 1, 1]);
        let mut expected = input.clone() * per_channel(&scale) + per_channel(&shift);
        if with_shortcut {
            expected = expected + shortcut.clone();
        }
        if rectify {
            expected = relu(expected);
        }

        let after = AfterNorm { shortcut: with_shortcut.then(|| channels_last(shortcut)), rectify };
        let output = normalize(channels_last(input), scale, shift, after);

        assert_close("output", channels_first(output), expected);
    }
}

#[test]
fn squares_add_up() {
    let device = Device::flex();
    for length in [1, 63, 64, 10_000] {
        let numbers = random(7, [length, 3], &device);

        assert_close("sum", sum_of_squares(numbers.clone()), numbers.square().sum());
    }
}

#[test]
fn only_single_precision_is_supported() {
    let device = Device::flex();
    let images = Tensor::<4>::zeros([1, 1, 1, 1], &device);

    assert!(supports(&images));
    assert!(supports(&Tensor::zeros([1, 1, 1, 1], &device.clone().autodiff())));
    assert!(!supports(&images.cast(burn::tensor::DType::F64)));
}

/// What is not a number must reach the loss, where training stops.
#[test]
fn not_a_number_is_not_rectified_away() {
    let device = Device::flex();
    let images = Tensor::<4>::from_data([[[[f32::NAN], [1.0]]]], &device);
    let ones = Tensor::<1>::ones([1], &device);
    let after = AfterNorm { shortcut: None, rectify: true };

    let normalized = normalize(images.clone(), ones.clone(), ones, after);
    let pooled = max_pool(images, [1, 2], [1, 1], [0, 0]);

    let is_nan = |images: Tensor<4>| images.into_data().try_to_vec::<f32>().unwrap()[0].is_nan();
    assert!(is_nan(normalized) && is_nan(pooled));
}

/// Steps of both optimizers with gradients that grow: weights and moments.
fn steps<O: Optimizer>(
    optimizer: &O,
    moments: impl Fn(O::State<2>) -> AdaptiveMomentumState<2>,
) -> [Tensor<2>; 3] {
    let device = Device::flex();
    let mut weights = random(1, [37, 11], &device);
    let mut state = None;
    for step in 0..5 {
        let gradient = random(2 + step, [37, 11], &device) * (step as f32 + 0.1);
        (weights, state) = optimizer.step(1e-2, weights, gradient, state);
    }
    let AdaptiveMomentumState { time, moment_1, moment_2, .. } = moments(state.unwrap());
    assert_eq!(time, 5);
    [weights, moment_1, moment_2]
}

#[test]
fn optimizers_step_as_those_of_burn() {
    for decay in [0.0, 0.3] {
        let burn = AdamConfig::new()
            .with_epsilon(1e-8)
            .with_weight_decay((decay > 0.0).then_some(WeightDecayConfig { penalty: decay }));
        let expected = steps(&burn.build(), |state| state.momentum);
        let actual = steps(&Adam::new([0.9, 0.999], 1e-8, decay), |state| state.momentum);
        for (actual, expected) in actual.into_iter().zip(expected) {
            assert_close("Adam", actual, expected);
        }

        let burn = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(decay);
        let expected = steps(&burn.build(), |state| state.momentum);
        let actual = steps(&AdamW::new([0.9, 0.999], 1e-8, decay), |state| state.momentum);
        for (actual, expected) in actual.into_iter().zip(expected) {
            assert_close("AdamW", actual, expected);
        }
    }
}

/// A tensor that somebody else still holds is not changed under their hands.
#[test]
fn step_leaves_shared_weights_alone() {
    let device = Device::flex();
    let weights = Tensor::<1>::ones([5], &device);

    let (moved, _) =
        Adam::new([0.9, 0.999], 1e-8, 0.0).step(0.1, weights.clone(), weights.clone(), None);

    assert_close("shared", weights, Tensor::ones([5], &device));
    assert_close("moved", moved, Tensor::full([5], 0.9, &device));
}

/// No sum is split between threads: one thread and several give the same bits.
#[test]
fn number_of_threads_does_not_change_a_bit() {
    let device = Device::flex().autodiff();
    let run = |threads: usize| {
        set_threads(threads.try_into().unwrap());
        let input = random(1, [4, 9, 7, 70], &device).require_grad();
        let weight = random(2, [66, 70, 3, 3], &device).require_grad();
        let gamma = random(3, [66], &device).require_grad();
        let output = convolve(input.clone(), weight.clone(), [1, 1], [1, 1]);
        let after = AfterNorm { shortcut: None, rectify: true };
        let normalized = normalize_batch(output, gamma.clone(), gamma.clone(), 1e-5, after);
        let pooled = max_pool(normalized.output, [3, 3], [2, 2], [1, 1]);
        let gradients = (pooled.clone() * pooled.clone()).sum().backward();
        let bits = |data: TensorData| -> Vec<u32> {
            data.try_to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        [
            bits(pooled.into_data()),
            bits(input.grad(&gradients).unwrap().into_data()),
            bits(weight.grad(&gradients).unwrap().into_data()),
            bits(gamma.grad(&gradients).unwrap().into_data()),
        ]
    };

    let one = run(1);

    assert!(one == run(2) && one == run(5), "other bits");
}
