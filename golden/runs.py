"""Fifty training steps by PyTorch, for crates/kessen-train/tests/golden_runs.rs: initial weights, data, losses.

    python golden/runs.py            # writes golden/values/runs.safetensors
    python golden/runs.py --check    # compares with what is stored; exit code 1 on a mismatch
"""

import math
import sys
from pathlib import Path

import torch
from torch import nn

from cases import read_safetensors, write_safetensors

STEPS, BATCHES, BATCH = 50, 4, 8
PATH = Path(__file__).parent / "values" / "runs.safetensors"


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.c2 = nn.Conv2d(4, 8, 3)
        self.fc = nn.Linear(8 * 2 * 2, 3)

    def forward(self, x):
        h = nn.functional.max_pool2d(torch.relu(self.bn(self.c1(x))), 2)
        return self.fc(torch.relu(self.c2(h)).flatten(1))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 16)
        self.b = nn.Linear(16, 16)
        self.c = nn.Linear(16, 1)

    def forward(self, x):
        return self.c(torch.sigmoid(self.b(torch.tanh(self.a(x)))))


def run(name, net, x, target, loss, optimizer, clip=None, smoothing=0.0):
    out = {f"{name}/param/{k}": v.detach().clone() for k, v in net.state_dict().items() if v.dtype == torch.float32}
    out[f"{name}/x"], out[f"{name}/target"] = x, target
    opt = optimizer(net.parameters())
    base, losses, norms = opt.param_groups[0]["lr"], [], []
    for t in range(STEPS):
        # Cosine decay, as torch.optim.lr_scheduler.CosineAnnealingLR(opt, STEPS).
        opt.param_groups[0]["lr"] = base * (1 + math.cos(math.pi * t / STEPS)) / 2
        rows = slice(t % BATCHES * BATCH, (t % BATCHES + 1) * BATCH)
        opt.zero_grad()
        value = loss(net(x[rows]), target[rows])
        value.backward()
        norms.append(nn.utils.clip_grad_norm_(net.parameters(), clip or 1e9))
        opt.step()
        losses.append(value.detach())
    out[f"{name}/losses"], out[f"{name}/norms"] = torch.stack(losses), torch.stack(norms)
    return out


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    n = BATCHES * BATCH
    images = torch.randn(n, 1, 8, 8)
    labels = (images.mean((1, 2, 3)) * 12).clamp(-1.2, 1.2).round().long() + 1
    points = torch.rand(n, 2) * 2 - 1
    values = torch.sin(3 * points[:, :1]) * points[:, 1:]
    smooth = nn.CrossEntropyLoss(label_smoothing=0.1)
    sgd = lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)
    adamw = lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=1e-2)
    out = run("cnn", Cnn(), images, labels, smooth, sgd, clip=1.0)
    out |= run("mlp", Mlp(), points, values, nn.MSELoss(), adamw)
    out = {k: v.contiguous() for k, v in out.items()}
    if "--check" not in sys.argv:
        write_safetensors(PATH, {k: v.numpy() for k, v in out.items()})
        return
    stored = read_safetensors(PATH)
    for key, value in out.items():
        if not torch.allclose(torch.from_numpy(stored[key]).double(), value.double(), rtol=1e-4, atol=1e-6):
            sys.exit(f"{key} differs from what is stored")


main()
