"""Small ElemNets in PyTorch: predictions, mean absolute error and its gradients -> elemnet.json. Run: python3 test/golden/torch/elemnet.py

Weights and inputs follow from formulas that test/models/elemnet.test.ts repeats: nothing is stored but what comes out."""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
ELEMENTS, ROWS = 85, 5


def wave(shape, k):
    n = 1
    for d in shape:
        n *= d
    return (0.4 * torch.sin(0.7 * torch.arange(n) + k)).reshape(shape)


x = torch.zeros(ROWS, ELEMENTS)
for r in range(ROWS):
    parts = [1 + (r * 3 + j) % 4 for j in range(2 + r % 3)]
    for j, part in enumerate(parts):
        x[r, (7 * r + 19 * j) % ELEMENTS] = part / sum(parts)
wanted = torch.sin(torch.arange(ROWS) * 2.0 + 1.0)


class Parameters(list):
    def __call__(self, name, *shape):
        p = wave(shape, len(self)).requires_grad_(True)
        self.append((name, p))
        return p

    def dense(self, name, inputs, outputs):
        w, b = self(f"{name}.weights", inputs, outputs), self(f"{name}.bias", outputs)
        return lambda h: h @ w + b


def plain():
    p = Parameters()
    layers = [p.dense("dense6.0", ELEMENTS, 6), p.dense("dense6.1", 6, 6), p.dense("dense4.0", 6, 4)]
    out = p.dense("out", 4, 1)
    h = x
    for layer in layers:
        h = F.relu(layer(h))
    return p, out(h)


def residual():
    p = Parameters()
    width, hidden, embedding, bumps = 5, 4, 3, [(0.3, 0.2), (0.6, 0.1)]
    first = p.dense("fractions", ELEMENTS, width)
    on_bumps = p("bumps.weights", ELEMENTS * len(bumps), width)
    elements = p("elements", ELEMENTS, embedding)
    on_mean, on_variance = p("mean.weights", embedding, width), p("variance.weights", embedding, width)

    def norm(name):
        gamma, beta = p(f"{name}.gamma", width), p(f"{name}.beta", width)
        return lambda h: F.layer_norm(h, (width,), gamma, beta, 1e-5)

    blocks = [(norm(f"block{i}.norm"), p.dense(f"block{i}.in", width, hidden), p.dense(f"block{i}.out", hidden, width)) for i in range(2)]
    last, out = norm("norm"), p.dense("out", width, 1)
    over = torch.stack([torch.exp(-(((x - at) / w) ** 2)) * (x > 0) for at, w in bumps], -1).reshape(ROWS, -1)
    mean = x @ elements
    h = first(x) + over @ on_bumps + mean @ on_mean + (x @ elements**2 - mean**2) @ on_variance
    for normed, down, up in blocks:
        h = h + up(F.relu(down(normed(h))))
    return p, out(F.relu(last(h)))


result = {}
for name, make in (("plain", plain), ("residual", residual)):
    parameters, y = make()
    loss = (y[:, 0] - wanted).abs().mean()
    gradients = torch.autograd.grad(loss, [p for _, p in parameters])
    result[name] = {
        "predictions": y[:, 0].tolist(),
        "loss": float(loss),
        # Length, and projection on a wave: what differs anywhere differs in these.
        "gradients": [
            {"name": n, "norm": float(g.norm()), "dot": float((g * wave(g.shape, 0.5)).sum())}
            for (n, _), g in zip(parameters, gradients)
        ],
    }
pathlib.Path(__file__).with_name("elemnet.json").write_text(json.dumps(result, indent=1) + "\n")
