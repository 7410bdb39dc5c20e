"""Learning rates of PyTorch's schedulers, for crates/kessen-train/tests/schedules.rs.

    python golden/schedules.py > golden/schedules.json

Each case is our schedule as a recipe writes it, with the rates of `steps` steps from base rate 1.
"""
import json
import torch
from torch.optim import lr_scheduler as s

STEPS, PER_EPOCH = 40, 8


def run(make, by_epoch=False, steps=STEPS):
    p = torch.nn.Parameter(torch.zeros(1))
    opt = torch.optim.SGD([p], lr=1.0)
    sched = make(opt)
    rates = []
    for t in range(steps):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        if not by_epoch or (t + 1) % PER_EPOCH == 0:
            sched.step()
    return rates


def plateau():
    p = torch.nn.Parameter(torch.zeros(1))
    opt = torch.optim.SGD([p], lr=1.0)
    sched = s.ReduceLROnPlateau(opt, factor=0.5, patience=1, threshold=1e-2, cooldown=1, min_lr=0.1)
    rates = []
    for metric in METRICS:
        sched.step(metric)
        rates.append(opt.param_groups[0]["lr"])
    return rates


METRICS = [1.0, 0.9, 0.899, 0.898, 0.897, 0.896, 0.895, 0.894, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]


def warm_cosine(opt):
    warm = s.LinearLR(opt, start_factor=0.01, total_iters=8)
    return s.SequentialLR(opt, [warm, s.CosineAnnealingLR(opt, STEPS - 8)], milestones=[8])


def case(name, schedule, rates, warmup=0.0):
    return {"name": name, "schedule": schedule, "warmup": warmup, "rates": rates}


cases = [
    case("constant", {"kind": "constant"}, run(lambda o: s.LambdaLR(o, lambda t: 1.0))),
    case("step", {"kind": "step", "every": 2, "factor": 0.3}, run(lambda o: s.StepLR(o, 2, 0.3), True)),
    case("multi-step", {"kind": "multi-step", "at": [1, 3], "factor": 0.2}, run(lambda o: s.MultiStepLR(o, [1, 3], 0.2), True)),
    case("exponential", {"kind": "exponential", "factor": 0.7}, run(lambda o: s.ExponentialLR(o, 0.7), True)),
    case("cosine", {"kind": "cosine"}, run(lambda o: s.CosineAnnealingLR(o, STEPS))),
    case("cosine with floor", {"kind": "cosine", "floor": 0.05}, run(lambda o: s.CosineAnnealingLR(o, STEPS, eta_min=0.05))),
    case("one-cycle", {"kind": "one-cycle"}, run(lambda o: s.OneCycleLR(o, max_lr=1.0, total_steps=STEPS), steps=STEPS - 1)),
    case("one-cycle, early peak", {"kind": "one-cycle", "start": 0.1, "rise": 0.1, "end": 0.01},
         run(lambda o: s.OneCycleLR(o, max_lr=1.0, total_steps=STEPS, pct_start=0.1, div_factor=10.0, final_div_factor=100.0), steps=STEPS - 1)),
    case("polynomial", {"kind": "polynomial", "power": 2.0}, run(lambda o: s.PolynomialLR(o, STEPS, 2.0))),
    case("warm-up and cosine", {"kind": "cosine"}, run(warm_cosine), 1.0),
]
out = {
    "torch": torch.__version__, "steps": STEPS, "steps_per_epoch": PER_EPOCH, "cases": cases,
    "plateau": {"metrics": METRICS, "rates": plateau(),
                "schedule": {"kind": "plateau", "factor": 0.5, "patience": 1, "threshold": 1e-2, "cooldown": 1, "floor": 0.1}},
}
lines = ",\n  ".join(json.dumps(c) for c in out.pop("cases"))
head = ",\n ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items())
print("{" + head + ',\n "cases": [\n  ' + lines + "\n ]\n}")
