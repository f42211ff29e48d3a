//! The residual networks against PyTorch, on weights that both sides make from one generator.
//!
//! `tests/golden/resnet18.json` and `resnet34.json` were printed by `tests/python/resnet_reference.py`
//! at the root of the repository, with PyTorch 2.15.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use heimdall_model::{
    Backbone, LocalizationNetConfig, ModelError, NetworkInput, ResNet, Standardization,
};
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

const INPUT: u64 = 10_000;
const PROJECTION: u64 = 20_000;
const INPUT_SHAPE: [usize; 4] = [4, 3, 64, 32];

#[derive(Deserialize)]
struct Golden {
    #[expect(dead_code, reason = "for those who read the file")]
    made_by: String,
    /// Every eighth number of the vector of each picture, in evaluation mode.
    embedding: Vec<Vec<f64>>,
    /// Norm of the gradient of each parameter, and its product with a vector from the generator.
    gradients: BTreeMap<String, [f64; 2]>,
}

fn golden(kind: Backbone) -> Golden {
    serde_json::from_str(match kind {
        Backbone::ResNet18 => include_str!("golden/resnet18.json"),
        _ => include_str!("golden/resnet34.json"),
    })
    .unwrap()
}

/// The generator of the script.
fn unit(number: u64, count: usize) -> impl Iterator<Item = f32> {
    (0..count as u64).map(move |index| {
        let mut bits = (number * (1 << 32) + index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 40) as f32 / 8_388_608.0 - 1.0
    })
}

/// Names and shapes of the state of torchvision's network, in its order.
fn state(kind: Backbone) -> Vec<(String, Vec<usize>)> {
    let mut state = Vec::new();
    let norm = |state: &mut Vec<_>, path: &str, channels: usize| {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            state.push((format!("{path}.{part}"), vec![channels]));
        }
    };
    state.push(("conv1.weight".to_owned(), vec![64, 3, 7, 7]));
    norm(&mut state, "bn1", 64);
    let mut inputs = 64;
    for (layer, &blocks) in kind.stage_blocks().unwrap().iter().enumerate() {
        let outputs = 64 << layer;
        for block in 0..blocks {
            let path = format!("layer{}.{block}", layer + 1);
            state.push((format!("{path}.conv1.weight"), vec![outputs, inputs, 3, 3]));
            norm(&mut state, &format!("{path}.bn1"), outputs);
            state.push((format!("{path}.conv2.weight"), vec![outputs, outputs, 3, 3]));
            norm(&mut state, &format!("{path}.bn2"), outputs);
            if inputs != outputs {
                state.push((format!("{path}.downsample.0.weight"), vec![outputs, inputs, 1, 1]));
                norm(&mut state, &format!("{path}.downsample.1"), outputs);
            }
            inputs = outputs;
        }
    }
    state
}

/// A file with the weights of the script.
fn file(kind: Backbone) -> Vec<u8> {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = state(kind)
        .into_iter()
        .enumerate()
        .map(|(number, (name, shape))| {
            let count = shape.iter().product();
            let fan_in: usize = shape[1..].iter().product();
            // Rounded once from double precision, as NumPy does.
            let bound = (3.0 / fan_in as f64).sqrt() as f32;
            let value = |unit: f32| match shape.len() {
                4 => unit * bound,
                _ if name.ends_with("running_var") || name.ends_with("weight") => 1.0 + 0.25 * unit,
                _ => 0.25 * unit,
            };
            let bytes = unit(number as u64, count).flat_map(|unit| value(unit).to_le_bytes());
            let bytes = bytes.collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn blank(kind: Backbone, channels: usize, device: &Device) -> ResNet {
    let config = LocalizationNetConfig {
        backbone: kind,
        input_channels: channels,
        standardization: Standardization::identity(channels),
        ..LocalizationNetConfig::default()
    };
    config.init(device).resnet().unwrap().clone()
}

fn input(device: &Device) -> Tensor<4> {
    let values: Vec<f32> = unit(INPUT, INPUT_SHAPE.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, INPUT_SHAPE), device)
}

#[test]
fn embedding_is_that_of_pytorch() {
    let device = Device::flex();
    for kind in [Backbone::ResNet18, Backbone::ResNet34] {
        let network = blank(kind, 3, &device).load_torchvision(&file(kind), &device).unwrap();

        let embedding: Vec<f32> = network.forward(input(&device)).try_into_vec_as().unwrap();

        let expected = golden(kind).embedding;
        assert_eq!((expected.len(), expected[0].len()), (4, 64));
        for (row, expected) in embedding.chunks(512).zip(&expected) {
            for (value, expected) in row.iter().step_by(8).zip(expected) {
                let difference = (f64::from(*value) - expected).abs();
                assert!(difference <= 1e-5, "{kind:?}: {value} is not {expected}");
            }
        }
    }
}

/// Norm and projection of each gradient, under the names of torchvision.
struct Collect<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    found: BTreeMap<String, [f64; 2]>,
}

impl ModuleVisitor for Collect<'_> {
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
        let name = path
            .replace("projection.conv", "downsample.0")
            .replace("projection.norm", "downsample.1")
            .replace("norm", "bn")
            .replace("gamma", "weight")
            .replace("beta", "bias");
        let gradient = param.val().grad(self.gradients).unwrap();
        let gradient: Vec<f32> = gradient.into_data().try_to_vec().unwrap();
        let signs = unit(PROJECTION, gradient.len()).map(f64::from);
        let square: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        let product = gradient.iter().zip(signs).map(|(g, sign)| f64::from(*g) * sign).sum();
        self.found.insert(name, [square.sqrt(), product]);
    }
}

/// The projection is compared relative to the norm: it may be next to zero. PyTorch's are in double
/// precision; through 34 layers single precision loses a little more than through 18.
#[test]
fn gradients_are_those_of_pytorch() {
    let device = Device::flex().autodiff();
    for (kind, tolerance) in [(Backbone::ResNet18, 1e-4), (Backbone::ResNet34, 3e-4)] {
        let network = blank(kind, 3, &device).load_torchvision(&file(kind), &device).unwrap();

        let gradients = network.forward(input(&device)).square().mean().backward();

        let mut collect =
            Collect { gradients: &gradients, path: Vec::new(), found: BTreeMap::new() };
        network.visit(&mut collect);
        let expected = golden(kind).gradients;
        assert_eq!(collect.found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, [norm, product]) in &expected {
            let [found_norm, found_product] = collect.found[name];
            let differences = [(found_norm - norm).abs(), (found_product - product).abs()];
            for difference in differences {
                assert!(difference <= tolerance * norm, "{kind:?} {name}: {difference} of {norm}");
            }
        }
    }
}

/// What is the same in all channels is seen as it was in a picture, up to the border of rounding.
#[test]
fn other_numbers_of_channels_see_what_a_picture_showed() {
    let device = Device::flex();
    let file = file(Backbone::ResNet18);
    let gray: Tensor<4> = input(&device).narrow(1, 0, 1);
    let seen = |channels: usize| {
        let network = blank(Backbone::ResNet18, channels, &device);
        let network = network.load_torchvision(&file, &device).unwrap();
        network.forward(gray.clone().repeat_dim(1, channels))
    };

    let picture = seen(3);

    for channels in [1, 7] {
        let difference = (seen(channels) - picture.clone()).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-4, "{channels} channels: {difference}");
    }
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let device = Device::flex();
    let file = file(Backbone::ResNet18);

    let deeper = blank(Backbone::ResNet34, 3, &device).load_torchvision(&file, &device);
    let none = blank(Backbone::ResNet18, 3, &device).load_torchvision(b"no weights", &device);

    let deeper = deeper.unwrap_err();
    assert!(matches!(deeper, ModelError::ForeignWeights { .. }), "{deeper}");
    assert!(deeper.to_string().contains("layer1.2.conv1.weight"), "{deeper}");
    assert!(matches!(none, Err(ModelError::UnreadableWeights { .. })));
}

/// A whole network takes the weights for its backbone, and keeps its heads.
#[test]
fn network_takes_pretrained_weights() {
    let device = Device::flex();
    let network = LocalizationNetConfig::default().init(&device);

    let pretrained = network.clone().load_torchvision(&file(Backbone::ResNet18), &device).unwrap();

    let embedding = |resnet: &ResNet| resnet.forward(input(&device)).sum().into_scalar::<f32>();
    let before = embedding(network.resnet().unwrap());
    let after = embedding(pretrained.resnet().unwrap());
    assert!((before - after).abs() > 1.0, "{before} is {after}");
    let estimate = pretrained.forward(NetworkInput::from(input(&device)));
    assert_eq!(estimate.mean_km.dims(), [4, 2]);
}
