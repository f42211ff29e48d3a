"""Computes what PyTorch makes of a ResNet with weights from a generator, prints JSON.

usage: resnet_reference.py 18|34 > heimdall-model/tests/golden/resnet18.json

The network is torchvision's, without its classifier, module by module and under its names. Value
`index` of tensor `number` (in the order of the state) is drawn by SplitMix64 from
`number * 2**32 + index`: any language can make the same weights, so that none have to be stored.
"""

import json
import sys

import numpy as np
import torch
from torch import nn

CHANNELS, SHAPE = 3, (4, 3, 64, 32)
BLOCKS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}
INPUT = 10_000
PROJECTION = 20_000


def unit(number, count):
    """Numbers from -1 up to 1, in steps of 2**-23."""
    with np.errstate(over="ignore"):
        bits = np.uint64(number) * np.uint64(2**32) + np.arange(count, dtype=np.uint64)
        bits = (bits + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
    return ((bits >> np.uint64(40)).astype(np.float32) / np.float32(2**23)) - np.float32(1)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for layer, count in enumerate(blocks):
            outputs = 64 * 2**layer
            stride = 1 if layer == 0 else 2
            parts = [Block(inputs, outputs, stride)]
            parts += [Block(outputs, outputs, 1) for _ in range(count - 1)]
            setattr(self, f"layer{layer + 1}", nn.Sequential(*parts))
            inputs = outputs

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


def fill(state):
    """Sets every tensor of the state; its number is its place among those that are not counters."""
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    for number, name in enumerate(names):
        tensor = state[name]
        values = unit(number, tensor.numel())
        if tensor.dim() == 4:
            values = values * np.float32(np.sqrt(3.0 / tensor[0].numel()))
        elif name.endswith(("running_var", "weight")):
            values = np.float32(1) + np.float32(0.25) * values
        else:
            values = np.float32(0.25) * values
        tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))
    return names


def main(depth):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = ResNet(BLOCKS[depth])
    fill(network.state_dict())
    inputs = torch.from_numpy(unit(INPUT, int(np.prod(SHAPE)))).reshape(SHAPE)
    network.eval()
    with torch.no_grad():
        embedding = network(inputs)

    # In double precision, so that rounding is not taken for a difference.
    network.double().train()
    network(inputs.double()).square().mean().backward()
    gradients = {}
    for name, parameter in network.named_parameters():
        gradient = parameter.grad.flatten().numpy()
        signs = unit(PROJECTION, len(gradient)).astype(np.float64)
        gradients[name] = [float(np.linalg.norm(gradient)), float(gradient @ signs)]
    json.dump(
        {
            "made_by": f"resnet_reference.py {depth}, torch {torch.__version__}",
            "embedding": [[round(float(x), 9) for x in row[::8]] for row in embedding],
            "gradients": gradients,
        },
        sys.stdout,
        indent=1,
    )
    print()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("18", "34"):
        sys.exit(__doc__)
    main(int(sys.argv[1]))
