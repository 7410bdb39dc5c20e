"""Trains a small CNN and two MLPs for 50 steps and writes their losses to values/training.safetensors.

    python golden/train_50_steps.py            # write
    python golden/train_50_steps.py --check    # compare; exit code 1 on a mismatch

Learning rates are powers of two, exact in f32. Weights and learning rate are such that no maximum and no ReLU changes
sides under a relative disturbance of 2e-6: a run that passes through such a kink would fork, here as in PyTorch.

The images are the first 320 of UCI's handwritten digits as the project carries them; initial weights follow from each
parameter's name. Both, and the order of the data, are stored with the losses. Everything is computed in f64.
"""

import sys
import zlib

import numpy as np
import torch
from torch import nn

from cases import FOLDER, fill, store_or_check

STEPS, BATCH, IMAGES = 50, 16, 320


def digits():
    """Images [320, 1, 8, 8] of 0 to 1 and classes."""
    packed = FOLDER.parent / "crates" / "kessen-data" / "assets" / "optdigits.zlib"
    rows = np.frombuffer(zlib.decompress(packed.read_bytes()), np.uint8).reshape(-1, 65)[:IMAGES]
    return (rows[:, :64] / 16).reshape(-1, 1, 8, 8), rows[:, 64].astype(np.int64)


def set_weights(net, run):
    """Fills each parameter from its name: u/√fan-in for weights, u/10 for biases, 1 + u/2 for a norm's scale."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            shape = "x".join(map(str, p.shape))
            spread = f"spread {1 / np.sqrt(p[0].numel())}" if p.ndim > 1 else "spread 0.1"
            rule = "positive" if p.ndim == 1 and name.endswith("weight") else spread
            p.copy_(torch.tensor(fill(f"{run}/{name}", f"{shape} {rule}")))


def train(run, net, optimizer, loss_of, x, y):
    """The stored arrays of one run: order of the data, initial weights, the loss of each step."""
    net.double()
    set_weights(net, run)
    initial = {f"{run}/initial/{n}": p.detach().numpy().astype(np.float32) for n, p in net.named_parameters()}
    order = fill(f"{run}/order", f"{STEPS}x{BATCH} ids {len(x)}")
    step, losses = optimizer(net.parameters()), []
    for rows in order:
        step.zero_grad()
        loss = loss_of(net(torch.tensor(x[rows])), torch.tensor(y[rows]))
        loss.backward()
        step.step()
        losses.append(loss.item())
    print(f"{run}: {losses[0]:.4f} to {losses[-1]:.4f}")
    buffers = {f"{run}/final/{n}": b.numpy() for n, b in net.named_buffers() if b.ndim}
    return initial | buffers | {f"{run}/order": order, f"{run}/losses": np.array(losses)}


def cnn():
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(1, 8, 3, padding=1, bias=False))
    net.add_module("bn1", nn.BatchNorm2d(8))
    net.add_module("relu1", nn.ReLU())
    net.add_module("pool1", nn.MaxPool2d(2))
    net.add_module("conv2", nn.Conv2d(8, 16, 3, padding=1))
    net.add_module("bn2", nn.BatchNorm2d(16))
    net.add_module("relu2", nn.ReLU())
    net.add_module("pool2", nn.AvgPool2d(2))
    net.add_module("flatten", nn.Flatten())
    net.add_module("fc", nn.Linear(64, 10))
    return net


def mlp(inputs, hidden, outputs):
    net = nn.Sequential()
    net.add_module("hidden", nn.Linear(inputs, hidden))
    net.add_module("sigmoid", nn.Sigmoid())
    net.add_module("out", nn.Linear(hidden, outputs))
    return net


def main():
    torch.use_deterministic_algorithms(True)
    images, classes = digits()
    x = fill("sine/x", "64x1")
    y = np.sin(np.pi * x).astype(np.float32).astype(np.float64)
    sgd = lambda p: torch.optim.SGD(p, lr=1 / 16, momentum=0.9, weight_decay=1e-4)
    adam = lambda p: torch.optim.Adam(p, lr=1 / 64)
    flat = images.reshape(IMAGES, 64)
    arrays = {"digits/pixels": (16 * flat).astype(np.uint8), "digits/classes": classes}
    arrays |= {"sine/x": x.astype(np.float32), "sine/y": y.astype(np.float32)}
    arrays |= train("cnn", cnn(), sgd, nn.functional.cross_entropy, images, classes)
    arrays |= train("mlp", mlp(64, 32, 10), adam, nn.functional.mse_loss, flat, np.eye(10)[classes])
    arrays |= train("sine", mlp(1, 16, 1), adam, nn.functional.mse_loss, x, y)
    store_or_check({"training": arrays}, tolerance=1e-6, check="--check" in sys.argv[1:])


if __name__ == "__main__":
    main()
