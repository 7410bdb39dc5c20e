"""Writes the parameters' paths, shapes and order in torchvision's classifiers to zoo_parameters.txt, for
crates/kessen-zoo/tests/zoo.rs: one line per network, its number of tensors and the 64-bit FNV-1a hash of the lines
"path AxBxC" of its state dict (without the counters num_batches_tracked).

    python golden/zoo_parameters.py            # write
    python golden/zoo_parameters.py --check    # compare; exit code 1 on a mismatch
"""

import pathlib
import sys

import torch
import torchvision.models as models

NETWORKS = [
    "alexnet", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    "googlenet", "googlenet(aux_logits=true)",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2",
]


def line(network):
    name = network.split("(")[0]
    kinds = {"googlenet": {"aux_logits": "aux_logits=true" in network, "init_weights": False}}
    with torch.device("meta"):
        net = getattr(models, name)(weights=None, **kinds.get(name, {}))
    state = [(k, v) for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")]
    text = "".join(f"{k} {'x'.join(map(str, v.shape))}\n" for k, v in state)
    digest = 0xCBF29CE484222325
    for byte in text.encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return f"{network} {len(state)} {digest:016x}\n"


def main():
    path = pathlib.Path(__file__).parent / "zoo_parameters.txt"
    text = "".join(map(line, NETWORKS))
    if "--check" not in sys.argv:
        path.write_text(text)
    elif path.read_text() != text:
        sys.exit(f"{path} differs from torchvision {torch.__version__}:\n{text}")


main()
