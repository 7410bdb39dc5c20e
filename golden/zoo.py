"""Runs torchvision's classifiers on weights that follow from each parameter's name and writes their logits, and for some
the loss and the length of the gradient in training, to values/zoo.safetensors.

    python golden/zoo.py            # write
    python golden/zoo.py --check    # compare; exit code 1 on a mismatch

Everything is computed in f64. The weights are not stored: the test computes them by the same formula.
"""

import math
import sys

import numpy as np
import torch
import torchvision.models as models

from cases import fill, store_or_check

CLASSES = 10
# Height and width of the images; batch of the logits; batch of the training step, 0 without one.
NETWORKS = {
    "alexnet": ((64, 72), 2, 0),
    "vgg11": ((32, 32), 2, 0),
    "googlenet": ((64, 48), 2, 4),
    "resnet18": ((40, 56), 2, 4),
    "resnet34": ((32, 32), 2, 0),
    "resnet50": ((32, 40), 2, 4),
    "mobilenet_v2": ((48, 40), 2, 4),
}


def rule(name, shape):
    """How a parameter or buffer is filled."""
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return "positive"
    if len(shape) == 1:
        return "spread 0.1"
    return f"spread {math.sqrt(6 / math.prod(shape[1:]))}"


def network(name):
    kinds = {"googlenet": {"aux_logits": False, "transform_input": False, "init_weights": False}}
    net = getattr(models, name)(num_classes=CLASSES, **kinds.get(name, {})).double()
    with torch.no_grad():
        for path, value in net.state_dict().items():
            if value.ndim:
                shape = "x".join(map(str, value.shape))
                value.copy_(torch.tensor(fill(f"{name}/{path}", f"{shape} {rule(path, value.shape)}")))
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net


def main():
    torch.use_deterministic_algorithms(True)
    arrays = {}
    for name, ((height, width), batch, training_batch) in NETWORKS.items():
        net = network(name)
        image = lambda n: torch.tensor(fill(f"{name}/image{n}", f"{n}x3x{height}x{width}"))
        with torch.no_grad():
            arrays[f"{name}/logits"] = net.eval()(image(batch)).numpy()
        if training_batch:
            target = torch.tensor(fill(f"{name}/target", f"{training_batch} ids {CLASSES}"))
            loss = torch.nn.functional.cross_entropy(net.train()(image(training_batch)), target)
            loss.backward()
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in net.parameters()))
            arrays[f"{name}/loss"] = np.array(loss.item())
            arrays[f"{name}/gradient_norm"] = np.array(norm)
        numbers = {k: float(np.abs(v).max()) for k, v in arrays.items() if k.startswith(name + "/")}
        print(", ".join(f"{k} {v:.4f}" for k, v in numbers.items()))
    store_or_check({"zoo": arrays}, tolerance=1e-6, check="--check" in sys.argv[1:])


if __name__ == "__main__":
    main()
