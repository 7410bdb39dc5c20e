"""Runs PyTorch's recurrent layers (stacked, in both directions, with lengths and initial states) and Transformer layers on
weights that follow from each parameter's name, and writes outputs and gradients to values/sequences.safetensors.

    python golden/sequences.py            # write
    python golden/sequences.py --check    # compare; exit code 1 on a mismatch

Everything is computed in f64. The gradients are those of the sum of output·cotangent to the input and every parameter.
"""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cases import fill, store_or_check

B, T, S, E = 3, 5, 4, 8
LENGTHS = torch.tensor([5, 2, 4])
MEMORY_LENGTHS = torch.tensor([4, 1, 3])


def operand(name, what, *shape):
    return torch.tensor(fill(f"{name}/{what}", "x".join(map(str, shape))), requires_grad=True)


def filled(name, module):
    with torch.no_grad():
        for path, value in module.named_parameters():
            value.copy_(torch.tensor(fill(f"{name}/{path}", "x".join(map(str, value.shape)) + " spread 0.5")))
    return module


def values(name, module, inputs, outputs):
    """Outputs, and gradients to inputs and parameters."""
    loss = sum(
        (v * torch.tensor(fill(f"{name}/cotangent_{k}", "x".join(map(str, v.shape))))).sum()
        for k, v in outputs.items()
    )
    loss.backward()
    named = outputs | {f"d{k}": v.grad for k, v in [*inputs.items(), *module.named_parameters()]}
    return {f"{name}/{k}": v.detach().numpy().astype(np.float32) for k, v in named.items()}


def recurrent(name, module, states):
    """`states` of each layer and direction: h, and c of an LSTM."""
    module = filled(name, module)
    count = module.num_layers * (2 if module.bidirectional else 1)
    inputs = {"x": operand(name, "x", B, T, E)}
    for s in states:
        inputs |= {f"{s}{i}": operand(name, f"{s}{i}", B, module.hidden_size) for i in range(count)}
    first = [torch.stack([inputs[f"{s}{i}"] for i in range(count)]) for s in states]
    packed = pack_padded_sequence(inputs["x"], LENGTHS, batch_first=True, enforce_sorted=False)
    state = (tuple(first) if len(first) == 2 else first[0]) if first else None
    packed, last = module(packed, state)
    y, _ = pad_packed_sequence(packed, batch_first=True, total_length=T)
    last = last if isinstance(last, tuple) else (last,)
    outputs = {"y": y} | {f"last_{'hc'[k]}{i}": v[i] for k, v in enumerate(last) for i in range(count)}
    return values(name, module, inputs, outputs)


def hidden(lengths, time):
    return torch.arange(time)[None, :] >= lengths[:, None]


def encoder(name, causal, lengths, **options):
    module = filled(name, nn.TransformerEncoderLayer(E, 2, 12, dropout=0.0, batch_first=True, **options).double())
    x = operand(name, "x", B, T, E)
    mask = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64) if causal else None
    padding = hidden(LENGTHS, T) if lengths else None
    padding = None if padding is None else torch.zeros(B, T, dtype=torch.float64).masked_fill(padding, float("-inf"))
    y = module(x, src_mask=mask, src_key_padding_mask=padding)
    return values(name, module, {"x": x}, {"y": y})


def decoder(name, **options):
    module = filled(name, nn.TransformerDecoderLayer(E, 2, 12, dropout=0.0, batch_first=True, **options).double())
    x, memory = operand(name, "x", B, T, E), operand(name, "memory", B, S, E)
    y = module(
        x, memory, tgt_mask=nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64),
        memory_key_padding_mask=torch.zeros(B, S, dtype=torch.float64).masked_fill(
            hidden(MEMORY_LENGTHS, S), float("-inf")
        ),
    )
    return values(name, module, {"x": x, "memory": memory}, {"y": y})


def main():
    options = {"batch_first": True, "bidirectional": True, "num_layers": 2}
    arrays = (
        recurrent("elman", nn.RNN(E, 3, nonlinearity="relu", **options).double(), "h")
        | recurrent("lstm", nn.LSTM(E, 3, **options).double(), "hc")
        | recurrent("gru", nn.GRU(E, 3, **options).double(), "")
        | recurrent("gru_stack", nn.GRU(E, 5, num_layers=3, bias=False, batch_first=True).double(), "h")
        | encoder("post_norm", False, True)
        | encoder("pre_norm", True, False, norm_first=True, activation="gelu")
        | encoder("pre_norm_masked", True, True, norm_first=True, layer_norm_eps=1e-3)
        | decoder("decoder_post_norm", activation="gelu")
        | decoder("decoder_pre_norm", norm_first=True)
    )
    store_or_check({"sequences": arrays}, tolerance=1e-6, check="--check" in sys.argv[1:])


if __name__ == "__main__":
    main()
