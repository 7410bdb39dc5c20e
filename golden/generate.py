"""Writes PyTorch's results and gradients for every case of cases/*.toml to values/*.safetensors.

    pip install -r golden/requirements.txt
    python golden/generate.py            # write
    python golden/generate.py --check    # compare; exit code 1 on a mismatch

Everything is computed in f64 and stored in f32. The gradients are those of the sum of result[k]·cotangent[k] over the
results that the case calls differentiable.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F

from attention import attention
from cases import families, fill, store_or_check
from recurrent import recurrent


def number(a, key, default):
    return float(a.get(key, default))


def flag(a, key, default=False):
    return a.get(key, str(default).lower()) == "true"


def pair(a, key, default):
    """`3` or `3x5`."""
    text = a.get(key, default)
    h, _, w = text.partition("x")
    return [int(h), int(w or h)]


def numbers(a, key):
    """`[0,2,1]`."""
    text = a.get(key, "[]").strip("[]")
    return [int(n) for n in text.split(",")] if text else []


def conv(a, x, w, b=None):
    padding = a.get("padding", "0")
    if "," in padding:
        (top, bottom), (left, right) = [map(int, p.split(",")) for p in padding.split("x")]
        x, padding = F.pad(x, (left, right, top, bottom)), "0"
    return F.conv2d(
        x, w, b, stride=pair(a, "stride", "1"), padding=pair({"p": padding}, "p", "0"),
        dilation=pair(a, "dilation", "1"), groups=int(a.get("groups", 1)),
    )


UNARY = {
    "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "gelu": F.gelu, "silu": F.silu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "softplus": F.softplus, "exp": torch.exp,
    "log": torch.log, "sqrt": torch.sqrt, "neg": torch.neg, "abs": torch.abs, "square": torch.square,
    "reciprocal": torch.reciprocal, "sin": torch.sin, "cos": torch.cos, "erf": torch.erf,
}
BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "max": torch.maximum,
    "min": torch.minimum, "pow": torch.pow,
}


def unary(a, x):
    match a["kind"]:
        case "leaky_relu":
            return F.leaky_relu(x, number(a, "alpha", 0.01))
        case "elu":
            return F.elu(x, number(a, "alpha", 1))
        case kind:
            return UNARY[kind](x)


def matmul(a, x, y):
    return (x.mT if flag(a, "trans_a") else x) @ (y.mT if flag(a, "trans_b") else y)


def reduce(a, x):
    dims, keep = numbers(a, "dims") or list(range(x.ndim)), flag(a, "keepdim")
    match a["kind"]:
        case "sum":
            return x.sum(dims, keep)
        case "mean":
            return x.mean(dims, keep)
        case "reduce_max":
            return x.amax(dims, keep)
        case "reduce_min":
            return x.amin(dims, keep)
        case "prod":
            return x.prod(dims[0], keep)


def max_pool(a, x):
    return F.max_pool2d(
        x, pair(a, "kernel", "2"), pair(a, "stride", "2"), pair(a, "padding", "0"), pair(a, "dilation", "1"),
        flag(a, "ceil_mode"),
    )


def avg_pool(a, x):
    return F.avg_pool2d(
        x, pair(a, "kernel", "2"), pair(a, "stride", "2"), pair(a, "padding", "0"), flag(a, "ceil_mode"),
        flag(a, "count_include_pad", True),
    )


def adaptive_pool(a, x):
    pool = {"avg": F.adaptive_avg_pool2d, "max": F.adaptive_max_pool2d}[a.get("kind", "avg")]
    return pool(x, pair(a, "size", "1"))


def batch_norm(a, x, weight, bias, mean, var):
    return F.batch_norm(x, mean, var, weight, bias, eps=number(a, "eps", 1e-5))


def batch_norm_train(a, x, weight, bias, mean, var):
    eps = number(a, "eps", 1e-5)
    mean, var = mean.detach().clone(), var.detach().clone()
    y = F.batch_norm(x, mean, var, weight, bias, True, number(a, "momentum", 0.1), eps)
    dims = [d for d in range(x.ndim) if d != 1]
    return y, x.mean(dims), 1 / (x.var(dims, correction=0) + eps).sqrt(), mean, var


def layer_norm(a, x, weight=None, bias=None):
    dims, eps = int(a.get("dims", 1)), number(a, "eps", 1e-5)
    y = F.layer_norm(x, x.shape[x.ndim - dims :], weight, bias, eps)
    last = list(range(x.ndim - dims, x.ndim))
    return y, x.mean(last), 1 / (x.var(last, correction=0) + eps).sqrt()


def softmax(a, x):
    return (F.log_softmax if flag(a, "log") else F.softmax)(x, int(a.get("dim", 1)))


def cross_entropy(a, logits, target, weight=None):
    return F.cross_entropy(
        logits, target, weight, ignore_index=int(a.get("ignore_index", -100)),
        reduction=a.get("reduction", "mean"), label_smoothing=number(a, "label_smoothing", 0),
    )


def bce_with_logits(a, logits, target, pos_weight=None):
    reduction = a.get("reduction", "mean")
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=pos_weight, reduction=reduction)


def regression_loss(a, prediction, target):
    reduction = a.get("reduction", "mean")
    match a["kind"]:
        case "mse":
            return F.mse_loss(prediction, target, reduction=reduction)
        case "mae":
            return F.l1_loss(prediction, target, reduction=reduction)
        case "huber":
            return F.huber_loss(prediction, target, reduction=reduction, delta=number(a, "delta", 1))


def slice_(a, x):
    rule = slice(int(a["start"]), int(a["end"]), int(a.get("step", 1)))
    return x[(slice(None),) * int(a.get("dim", 0)) + (rule,)]


def pad(a, x):
    ends = list(zip(numbers(a, "before"), numbers(a, "after")))
    return F.pad(x, [n for end in reversed(ends) for n in end], value=number(a, "value", 0))


def clamp(a, x):
    return x.clamp(number(a, "min", "-inf"), number(a, "max", "inf"))


def embedding(a, ids, weight):
    padding = int(a["padding_index"]) if "padding_index" in a else None
    return F.embedding(ids, weight, padding_idx=padding)


OPERATORS = {
    "adaptive_pool": adaptive_pool,
    "argmax": lambda a, x: x.argmax(int(a.get("dim", 1)), flag(a, "keepdim")),
    "attention": attention,
    "avg_pool": avg_pool,
    "batch_norm": batch_norm,
    "batch_norm_train": batch_norm_train,
    "bce_with_logits": bce_with_logits,
    "binary": lambda a, x, y: BINARY[a["kind"]](x, y),
    "broadcast": lambda a, x: x.broadcast_to(numbers(a, "shape")),
    "cast": lambda a, x: x.to({"f32": torch.float64, "i64": torch.int64}[a["to"]]),
    "clamp": clamp,
    "concat": lambda a, *xs: torch.cat(xs, int(a.get("dim", 1))),
    "conv": conv,
    "cross_entropy": cross_entropy,
    "dropout": lambda a, x: x,
    "embedding": embedding,
    "global_norm": lambda a, *xs: torch.sqrt(sum((x * x).sum() for x in xs)),
    "layer_norm": layer_norm,
    "linear": lambda a, x, w, b=None: F.linear(x, w, b),
    "matmul": matmul,
    "max_pool": max_pool,
    "pad": pad,
    "recurrent": recurrent,
    "reduce": reduce,
    "regression_loss": regression_loss,
    "reshape": lambda a, x: x.reshape(numbers(a, "shape")),
    "slice": slice_,
    "softmax": softmax,
    "sum_to": lambda a, x: x.sum_to_size(numbers(a, "shape")),
    "transpose": lambda a, x: x.permute(numbers(a, "dims")),
    "unary": unary,
}


def stored(tensor):
    array = tensor.detach().numpy()
    return array if array.dtype == np.int64 else array.astype(np.float32)


def operator_case(case):
    """Results and gradients of one case."""
    name, attributes = case["name"], case.get("attributes", {})
    operands = [torch.tensor(fill(f"{name}/{i}", text)) for i, text in enumerate(case["inputs"])]
    reals = [i for i, x in enumerate(operands) if x.is_floating_point()]
    for i in case.get("wrt", reals):
        operands[i].requires_grad_()
    results = OPERATORS[case["op"]](attributes, *operands)
    results = results if isinstance(results, tuple) else (results,)
    values = {f"{name}/result{k}": stored(r) for k, r in enumerate(results)}
    loss = 0
    for k in case.get("differentiable", [0]):
        shape = "x".join(map(str, results[k].shape)) or "scalar"
        loss = loss + (results[k] * torch.tensor(fill(f"{name}/cotangent{k}", shape))).sum()
    if case.get("wrt", reals):
        loss.backward()
    for i in case.get("wrt", reals):
        values[f"{name}/gradient{i}"] = stored(operands[i].grad)
    return values


def optimizer(case, parameter):
    """The torch optimiser that a case describes."""
    a = case.get("attributes", {})
    common = {"lr": 0.05 * number(a, "lr_scale", 1), "weight_decay": number(a, "weight_decay", 0)}
    match case["op"]:
        case "sgd_step":
            return torch.optim.SGD(
                [parameter], momentum=number(a, "momentum", 0), dampening=number(a, "dampening", 0),
                nesterov=flag(a, "nesterov"), **common,
            )
        case "adam_step":
            kind = torch.optim.AdamW if flag(a, "decoupled") else torch.optim.Adam
            betas = (number(a, "beta1", 0.9), number(a, "beta2", 0.999))
            eps = number(a, "eps", 1e-8)
            return kind([parameter], betas=betas, eps=eps, amsgrad=flag(a, "amsgrad"), **common)
        case "rmsprop_step":
            return torch.optim.RMSprop(
                [parameter], alpha=number(a, "alpha", 0.99), eps=number(a, "eps", 1e-8),
                momentum=number(a, "momentum", 0), centered=flag(a, "centered"), **common,
            )


def optimizer_case(case, steps=10):
    """The parameter after each of ten steps from zero state; half of a new random gradient at each."""
    name, shape = case["name"], case["inputs"][0]
    parameter = torch.nn.Parameter(torch.tensor(fill(f"{name}/0", shape)))
    step = optimizer(case, parameter)
    path = []
    for t in range(1, steps + 1):
        parameter.grad = 0.5 * torch.tensor(fill(f"{name}/gradient{t}", shape))
        step.step()
        path.append(parameter.detach().clone())
    return {f"{name}/path": stored(torch.stack(path))}


def main():
    torch.use_deterministic_algorithms(True)
    files = {}
    for family, cases in families():
        files[family] = {}
        for case in cases:
            if not case.get("large") and not case.get("no_golden"):
                make = optimizer_case if family == "optimizer" else operator_case
                files[family] |= make(case)
    store_or_check(files, tolerance=1e-6, check="--check" in sys.argv[1:])


if __name__ == "__main__":
    main()
