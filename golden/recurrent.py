"""PyTorch's recurrent layers, one direction at a time, with lengths and initial states: `torch.nn.RNN`, `LSTM` and
`GRU` on packed sequences. What they don't return (gates, cells) is computed from their outputs by the formulas of
their documentation."""

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

NAMES = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
OTHERS = {
    "sigmoid": torch.sigmoid, "leaky_relu": F.leaky_relu, "elu": F.elu, "softplus": F.softplus,
    "identity": lambda u: u,
}


def flag(a, key, default=False):
    return a.get(key, str(default).lower()) == "true"


def layer(kind, activation, features, hidden, bias):
    match kind:
        case "elman":
            return torch.nn.RNN(features, hidden, nonlinearity=activation, bias=bias, batch_first=True).double()
        case "lstm":
            return torch.nn.LSTM(features, hidden, bias=bias, batch_first=True).double()
        case "gru":
            return torch.nn.GRU(features, hidden, bias=bias, batch_first=True).double()


def elman_by_formula(f, x, lengths, h, w, u, b, c):
    """For functions that `torch.nn.RNN` lacks."""
    outputs = []
    for t in range(x.shape[1]):
        valid = (t < lengths)[:, None]
        new = f(F.linear(x[:, t], w, b) + F.linear(h, u, c))
        h = torch.where(valid, new, h)
        outputs.append(torch.where(valid, new, torch.zeros_like(new)))
    return torch.stack(outputs, 1), h


def reversed_in(x, lengths):
    """Each sequence's own steps from the last to the first; padding stays."""
    t = torch.arange(x.shape[1])[None, :]
    index = torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return torch.gather(x, 1, index[:, :, None].expand_as(x))


def recurrent(a, x, weight_ih, weight_hh, *rest):
    """y, the last states, gates and cells."""
    kind, activation, rest = a.get("kind", "elman"), a.get("activation", "tanh"), list(rest)
    bias = [rest.pop(0), rest.pop(0)] if flag(a, "bias", True) else []
    lengths = rest.pop(0) if flag(a, "lengths") else torch.full((x.shape[0],), x.shape[1])
    hidden = weight_hh.shape[1]
    zero = torch.zeros(x.shape[0], hidden, dtype=x.dtype)
    h0 = rest.pop(0) if rest else zero
    c0 = rest.pop(0) if rest else zero
    steps = reversed_in(x, lengths) if flag(a, "reverse") else x

    if kind == "elman" and activation in OTHERS:
        y, h = elman_by_formula(
            OTHERS[activation], steps, lengths, h0, weight_ih, weight_hh, *(bias or [None, None])
        )
        last = (h,)
    else:
        # Packing refuses empty sequences: they run one step that is then taken back.
        packed = pack_padded_sequence(steps, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
        module = layer(kind, activation, x.shape[2], hidden, bool(bias))
        state = (h0[None], c0[None]) if kind == "lstm" else h0[None]
        params = dict(zip(NAMES, [weight_ih, weight_hh, *bias]))
        packed, last = torch.func.functional_call(module, params, (packed, state))
        y, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
        some = (lengths > 0)[:, None]
        y = torch.where(some[:, :, None], y, torch.zeros_like(y))
        first = (h0, c0) if kind == "lstm" else (h0,)
        last = last if kind == "lstm" else (last,)
        last = tuple(torch.where(some, v[0], v0) for v, v0 in zip(last, first))
    kept = kept_by_formula(kind, steps, y, lengths, h0, c0, weight_ih, weight_hh, *(bias or [None, None]))
    results = [y, *last, *kept]
    if flag(a, "reverse"):
        results = [reversed_in(r, lengths) if r.ndim == 3 else r for r in results]
    return tuple(results)


def kept_by_formula(kind, x, y, lengths, h0, c0, w, u, b, c):
    """Gates (and cells) of each step from the hidden units."""
    before = torch.cat([h0[:, None], y[:, :-1]], 1)
    valid = (torch.arange(x.shape[1])[None, :] < lengths[:, None])[:, :, None]
    from_x, from_h = F.linear(x, w, b), F.linear(before, u, c)
    mask = lambda v: torch.where(valid, v, torch.zeros_like(v))
    match kind:
        case "elman":
            return ()
        case "lstm":
            i, f, g, o = (from_x + from_h).chunk(4, 2)
            i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
            cells, cell = [], c0
            for t in range(x.shape[1]):
                cell = f[:, t] * cell + i[:, t] * g[:, t]
                cells.append(cell)
            return mask(torch.cat([i, f, g, o], 2)), mask(torch.stack(cells, 1))
        case "gru":
            (xr, xz, xn), (hr, hz, m) = from_x.chunk(3, 2), from_h.chunk(3, 2)
            r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
            return (mask(torch.cat([r, z, torch.tanh(xn + r * m), m], 2)),)
