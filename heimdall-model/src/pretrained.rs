//! Weights of a residual network that somebody else has trained, as torchvision stores them.

use burn::module::{Param, RunningState};
use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};

use crate::{LocalizationNet, ModelError, ResNet, ResidualBlock};

/// The channels of a picture: red, green and blue.
const PICTURE_CHANNELS: usize = 3;

impl ResNet {
    /// Takes over the weights and running statistics of one of torchvision's residual networks of
    /// the same depth, from the bytes of a file in the safetensors format.
    ///
    /// The classifier (`fc`) is left out. Where this network has another number of channels than a
    /// picture, each of its channels gets the mean of the three kernels of the first convolution,
    /// times three over its channels: what is the same in all channels is seen as it was before.
    ///
    /// # Errors
    ///
    /// - [`ModelError::UnreadableWeights`] if the bytes are no such file.
    /// - [`ModelError::ForeignWeights`] if a tensor is missing, or has another shape or other
    ///   elements than 32-bit floats.
    pub fn load_torchvision(self, file: &[u8], device: &Device) -> Result<Self, ModelError> {
        let tensors = SafeTensors::deserialize(file)
            .map_err(|error| ModelError::UnreadableWeights { reason: error.to_string() })?;
        let source = Source { tensors, device };
        let layers = [
            ("layer1", self.layer1),
            ("layer2", self.layer2),
            ("layer3", self.layer3),
            ("layer4", self.layer4),
        ];
        let [layer1, layer2, layer3, layer4] =
            layers.map(|(name, blocks)| source.layer(name, blocks));
        Ok(Self {
            conv1: source.first_convolution("conv1", self.conv1)?,
            norm1: source.norm("bn1", self.norm1)?,
            pool: self.pool,
            layer1: layer1?,
            layer2: layer2?,
            layer3: layer3?,
            layer4: layer4?,
        })
    }
}

impl LocalizationNet {
    /// Takes over the weights of one of torchvision's residual networks for the part that looks at
    /// the levels, as [`ResNet::load_torchvision`] does.
    ///
    /// # Errors
    ///
    /// What that returns, and [`ModelError::NoPretrained`] if the network has no such part.
    pub fn load_torchvision(self, file: &[u8], device: &Device) -> Result<Self, ModelError> {
        let Some(resnet) = self.resnet().cloned() else {
            return Err(ModelError::NoPretrained { backbone: self.config().backbone });
        };
        Ok(self.with_resnet(resnet.load_torchvision(file, device)?))
    }
}

/// An open file of weights.
struct Source<'a> {
    tensors: SafeTensors<'a>,
    device: &'a Device,
}

impl Source<'_> {
    fn layer(
        &self,
        path: &str,
        blocks: Vec<ResidualBlock>,
    ) -> Result<Vec<ResidualBlock>, ModelError> {
        let blocks = blocks.into_iter().enumerate();
        blocks.map(|(index, block)| self.block(&format!("{path}.{index}"), block)).collect()
    }

    fn block(&self, path: &str, block: ResidualBlock) -> Result<ResidualBlock, ModelError> {
        let at = |part: &str| format!("{path}.{part}");
        let projection = block.projection.map(|mut projection| {
            projection.conv = self.convolution(&at("downsample.0"), projection.conv)?;
            projection.norm = self.norm(&at("downsample.1"), projection.norm)?;
            Ok(projection)
        });
        Ok(ResidualBlock {
            conv1: self.convolution(&at("conv1"), block.conv1)?,
            norm1: self.norm(&at("bn1"), block.norm1)?,
            conv2: self.convolution(&at("conv2"), block.conv2)?,
            norm2: self.norm(&at("bn2"), block.norm2)?,
            projection: projection.transpose()?,
        })
    }

    fn convolution(&self, path: &str, mut conv: Conv2d) -> Result<Conv2d, ModelError> {
        let shape = conv.weight.dims();
        let weight = self.read(&format!("{path}.weight"), shape)?;
        conv.weight = self.param(weight, shape);
        Ok(conv)
    }

    /// Takes the kernels of a picture over into as many channels as there are.
    fn first_convolution(&self, path: &str, mut conv: Conv2d) -> Result<Conv2d, ModelError> {
        let [outputs, channels, height, width] = conv.weight.dims();
        if channels == PICTURE_CHANNELS {
            return self.convolution(path, conv);
        }
        let shape = [outputs, PICTURE_CHANNELS, height, width];
        let picture = self.read(&format!("{path}.weight"), shape)?;
        let area = height * width;
        let mut weight = Vec::with_capacity(outputs * channels * area);
        for kernels in picture.chunks(PICTURE_CHANNELS * area) {
            let sum = |place: usize| kernels.iter().skip(place).step_by(area).sum::<f32>();
            let kernel: Vec<f32> = (0..area).map(|place| sum(place) / channels as f32).collect();
            (0..channels).for_each(|_| weight.extend_from_slice(&kernel));
        }
        conv.weight = self.param(weight, [outputs, channels, height, width]);
        Ok(conv)
    }

    fn norm(&self, path: &str, mut norm: BatchNorm) -> Result<BatchNorm, ModelError> {
        let shape = norm.gamma.dims();
        let read = |part: &str| self.read(&format!("{path}.{part}"), shape);
        norm.gamma = self.param(read("weight")?, shape);
        norm.beta = self.param(read("bias")?, shape);
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), self.device);
        norm.running_mean = RunningState::new(tensor(read("running_mean")?));
        norm.running_var = RunningState::new(tensor(read("running_var")?));
        Ok(norm)
    }

    fn param<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    fn read<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Vec<f32>, ModelError> {
        let foreign = |actual: String| ModelError::ForeignWeights {
            tensor: name.to_owned(),
            expected: format!("F32 {shape:?}"),
            actual,
        };
        let Ok(tensor) = self.tensors.tensor(name) else {
            return Err(foreign("not there".to_owned()));
        };
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(foreign(format!("{} {:?}", tensor.dtype(), tensor.shape())));
        }
        let (quads, _) = tensor.data().as_chunks::<4>();
        Ok(quads.iter().map(|&quad| f32::from_le_bytes(quad)).collect())
    }
}
