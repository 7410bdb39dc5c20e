"""PyTorch's attention: `F.scaled_dot_product_attention` with a mask made of everything that hides a key; ln Σ eˢ, which it
does not return, from the products. A query that sees no key gives 0 here, NaN there."""

import torch
import torch.nn.functional as F


def flag(a, key):
    return a.get(key, "false") == "true"


def attention(a, *operands):
    """out [B, T, E] and logsumexp [B, H, T]."""
    operands, heads = list(operands), int(a.get("heads", 1))
    q, k, v = operands.pop(0).chunk(3, 2) if flag(a, "packed") else [operands.pop(0) for _ in range(3)]
    split = lambda x: x.unflatten(2, (heads, -1)).transpose(1, 2)
    q, k, v = split(q), split(k), split(v)
    hidden = torch.zeros(q.shape[0], 1, q.shape[2], k.shape[2], dtype=torch.bool)
    bias = torch.zeros(q.shape[2], k.shape[2], dtype=q.dtype)
    if flag(a, "causal"):
        hidden = hidden | torch.ones(q.shape[2], k.shape[2]).triu(1).bool()
    if flag(a, "lengths"):
        hidden = hidden | (torch.arange(k.shape[2])[None, :] >= operands.pop(0)[:, None])[:, None, None]
    if flag(a, "key_mask"):
        hidden = hidden | (operands.pop(0) == 0)[:, None, None]
    if flag(a, "bias"):
        bias = operands.pop(0)
    scale = float(a["scale"]) if "scale" in a else q.shape[3] ** -0.5
    none = hidden.all(-1, keepdim=True)
    mask = bias.masked_fill(hidden, float("-inf")).masked_fill(none, 0)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).masked_fill(none, 0)
    sums = torch.logsumexp(scale * q @ k.mT + mask, -1).masked_fill(none[..., 0], float("inf"))
    return out.transpose(1, 2).flatten(2), sums
