"""Times a training step or inference of PyTorch, for `cargo xtask bench train`.

The network, the loss and the optimizer are those of the benchmark: a ResNet-18 as in torchvision, two heads of 256
hidden units, the negative log-likelihood of a Gaussian with a diagonal covariance, Adam. Prints processor time per
step, wall time per step (both in ms) and the peak of the resident memory (in MB).
"""
import os
import resource
import sys
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn

SHAPE = (3, 128, 32)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.projection = None
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.projection = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.projection is None else self.projection(x)
        x = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(x)) + shortcut)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        stem = [nn.Conv2d(SHAPE[0], 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
        layers = [nn.MaxPool2d(3, 2, 1)]
        for inputs, outputs, stride in [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]:
            layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        self.backbone = nn.Sequential(*stem, *layers)
        self.position = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 2))
        self.deviation = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 2))

    def forward(self, x):
        x = self.backbone(x).mean((2, 3))
        return self.position(x), F.softplus(self.deviation(x)) + 1e-3


def training_step(network, levels, position):
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        mean, deviation = network(levels)
        residual = (position - mean) / deviation
        loss = (0.5 * residual * residual + torch.log(deviation)).sum(1).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def inference_step(network, levels):
    network.eval()

    def step():
        with torch.inference_mode():
            return network(levels)[0].sum().item()

    return step


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ["HEIMDALL_BENCH_THREADS"]))
    torch.manual_seed(0)
    batch, task = int(os.environ["HEIMDALL_BENCH_BATCH"]), os.environ["HEIMDALL_BENCH_TASK"]
    if task == "multiply":
        matrix = torch.randn(batch, batch)
        step = lambda: torch.mm(matrix, matrix)[0, 0].item()
    else:
        network, levels = Network(), torch.randn(batch, *SHAPE)
        if "channels-last" in sys.argv[1]:
            network = network.to(memory_format=torch.channels_last)
            levels = levels.contiguous(memory_format=torch.channels_last)
        train = task == "train"
        step = training_step(network, levels, torch.randn(batch, 2)) if train else inference_step(network, levels)
    for _ in range(3):
        step()
    started, before, steps = time.perf_counter(), time.process_time(), 0
    while steps == 0 or time.perf_counter() - started < float(os.environ["HEIMDALL_BENCH_SECONDS"]):
        step()
        steps += 1
    processor, wall = time.process_time() - before, time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(processor * 1000 / steps, wall * 1000 / steps, memory)


main()
