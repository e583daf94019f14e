"""PyTorch as a peer: the presets' own nets, steps and ops, held against this project's results and then timed.

    python torch_peer.py [--cases TEXT] [--device cuda|cpu] [--modes eager,graph] [--compile] [--out FILE]

Everything comes from cases.json beside this file (made by cases.ts): configurations, weights and inputs as hashes, and
what they must give. Needs torch and numpy; no network. A line of JSON a row: framework, mode, name, medianMs,
spreadMs (distance of the quartiles), samples, gflops, and note; or why there is no time.

Modes: eager; graph, the whole step as one CUDA graph, draws and optimiser included; compiled, torch.compile of the
networks inside an eager step; compiled graph, the same captured. "TF32" says that products may round their factors to
ten bits. Both memory layouts are timed, and the faster one is the row.
"""

import argparse
import json
import logging
import math
import resource
import signal
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

# Deprecation of the switches for TF32 and the like: nothing that a reader of rows could act on.
warnings.filterwarnings("ignore")
logging.getLogger("torch").setLevel(logging.ERROR)

data_rows = 4096
# Largest differences allowed, as a share of the norm. Behind the kinks of ReLU and many batch norms a gradient in f32 is
# little exact: PyTorch's own f32 is off its f64 by 5e-3 in GAN-OQMD's generator and by 2.5e-2 in the AE, whose case says
# how much it may be. Adam turns what is left into steps, so later losses agree less. TF32 rounds each factor to 2^-11,
# which such gradients don't survive: then they and later steps only have to be finite.
allowed = {
    "f32": {"loss": 1e-4, "gradient": 1e-2, "later": 2e-2, "op": 1e-5},
    "TF32": {"loss": 5e-2, "gradient": math.inf, "later": math.inf, "op": 1e-2},
}


# ---- hashed tensors, as pieces.mjs makes them
def words(seed, places):
    """32-bit words of (seed, place); arithmetic modulo 2^32."""
    h = (places.astype(np.uint64) * 0x9E3779B1 + seed * 0x85EBCA6B + 0x165667B1) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    h = (h * 0x7FEB352D) & 0xFFFFFFFF
    h ^= h >> np.uint64(15)
    h = (h * 0x846CA68B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return h


def units(seed, n):
    return (words(seed, np.arange(n)) >> np.uint64(8)).astype(np.float64) / 2**23 - 1


cache = {}


def tensor(spec, device="cpu"):
    key = json.dumps(spec)
    if key not in cache:
        cache[key] = hashed(spec)
    return cache[key].to(device, copy=True)


def hashed(spec):
    u = units(spec["seed"], math.prod(spec["shape"]))
    if "above" in spec:
        data = u > spec["above"]
    else:
        data = spec.get("shift", 0) + spec.get("scale", 1) * u
    return torch.tensor(data.astype(np.float32).reshape(spec["shape"]))


def distance(t, digest):
    """How far a tensor's norm and hashed product are off, as a share of the norm; in this project's layout."""
    v = t.detach().cpu().numpy().astype(np.float64).reshape(-1)
    norm, dot = float(np.linalg.norm(v)), float(v @ units(4242, v.size))
    # A random vector's product with the hash is about norm / sqrt(3).
    return max(abs(norm - digest["norm"]), abs(dot - digest["dot"])) / max(digest["norm"], 1e-30)


# ---- layouts: ours is [n, h, w, c]; PyTorch's [n, c, h, w], in memory as written or with the channels last
formats = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def image(t, layout):
    """[n, h, w, c] to [n, c, h, w]."""
    return t.permute(0, 3, 1, 2).contiguous(memory_format=formats[layout])


def kernel(t, layout):
    """[kh, kw, in, out] to [out, in, kh, kw]; of a transposed convolution to PyTorch's [in, out, kh, kw]."""
    return t.permute(3, 2, 0, 1).contiguous(memory_format=formats[layout])


def convolve(x, f, bias, strides, padding):
    """Where the padding is unequal the rest goes on by hand, after the image: SAME never has more before it."""
    top, bottom, left, right = padding
    if (bottom, right) != (top, left):
        x = F.pad(x, (0, right - left, 0, bottom - top))
    return F.conv2d(x, f, bias, stride=strides, padding=(top, left))


def transpose_convolve(y, f, bias, strides, padding, size):
    """The adjoint of convolve from `size`: PyTorch crops alike on both sides, what is too much at the end goes after."""
    top, _, left, _ = padding
    whole = [(y.shape[2 + i] - 1) * strides[i] + f.shape[2 + i] - 2 * (top, left)[i] for i in (0, 1)]
    more = [max(0, size[i] - whole[i]) for i in (0, 1)]
    x = F.conv_transpose2d(y, f, bias, stride=strides, padding=(top, left), output_padding=more)
    return x if list(x.shape[2:]) == list(size) else x[:, :, : size[0], : size[1]]


def same(size, k, strides):
    """TensorFlow's SAME: ceil(size / stride) outputs, the odd zero at the end."""
    total = [max(0, (math.ceil(size[i] / strides[i]) - 1) * strides[i] + k[i] - size[i]) for i in (0, 1)]
    return [total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2]


# ---- networks
class Net:
    """A network of a resolved configuration, its parameters from cases.json, features in the order of the layout."""

    def __init__(self, layout, eps):
        self.layout, self.eps = layout, eps
        self.layers, self.parts, self.names, self.order = [], {}, [], {}
        self.running = []

    def permuted(self, name, h, w, c, axis):
        """A vector or matrix whose `axis` runs over [h, w, c] with us and [c, h, w] with PyTorch's usual layout."""
        if self.layout == "nchw":
            self.order[name] = (h, w, c, axis)

    def to(self, name, t):
        if name.endswith(".filter"):
            return kernel(t, self.layout)
        if name in self.order:
            h, w, c, axis = self.order[name]
            index = torch.arange(h * w * c, device=t.device).reshape(h, w, c).permute(2, 0, 1).reshape(-1)
            return t.index_select(axis, index).contiguous()
        return t

    def back(self, name, t):
        """A gradient in this project's layout."""
        if name.endswith(".filter"):
            return t.permute(2, 3, 1, 0).contiguous()
        if name in self.order:
            h, w, c, axis = self.order[name]
            index = torch.arange(h * w * c, device=t.device).reshape(c, h, w).permute(1, 2, 0).reshape(-1)
            return t.index_select(axis, index).contiguous()
        return t

    def load(self, specs, device):
        self.names = [spec["name"] for spec in specs]
        for spec in specs:
            self.parts[spec["name"]] = self.to(spec["name"], tensor(spec, device)).requires_grad_()
        self.initial = [p.detach().clone() for p in self.values]
        for norm in self.running:
            channels = self.parts[f"{norm['name']}.gamma"].shape
            norm["mean"], norm["var"] = torch.zeros(channels, device=device), torch.ones(channels, device=device)
        return self

    def reset(self):
        with torch.no_grad():
            for p, start in zip(self.values, self.initial):
                p.copy_(start)

    @property
    def values(self):
        return [self.parts[name] for name in self.names]

    def dense(self, name):
        self.layers.append(lambda x, mode: torch.addmm(self.parts[f"{name}.bias"], x, self.parts[f"{name}.weights"]))

    def conv(self, name, size, layer):
        padding, strides = same(size, layer["kernel"], layer["strides"]), tuple(layer["strides"])
        self.layers.append(
            lambda x, mode: convolve(x, self.parts[f"{name}.filter"], self.parts[f"{name}.bias"], strides, padding)
        )

    def transposed(self, name, layer):
        size, strides = layer["size"], tuple(layer["strides"])
        padding = same(size, layer["kernel"], strides)
        self.layers.append(
            lambda x, mode: transpose_convolve(
                x, self.parts[f"{name}.filter"], self.parts[f"{name}.bias"], strides, padding, size
            )
        )

    def norm(self, kind, name):
        if kind == "none":
            return
        if kind != "batch":
            raise NotImplementedError(f"norm {kind}")
        moments = {"name": name}
        self.running.append(moments)

        def layer(x, mode):
            gamma, beta = self.parts[f"{name}.gamma"], self.parts[f"{name}.beta"]
            # The variance that PyTorch keeps is n/(n-1) of ours: it costs the same.
            mean, var = (moments["mean"], moments["var"]) if mode != "train" else (None, None)
            return F.batch_norm(x, mean, var, gamma, beta, mode != "eval", 0.1, self.eps)

        self.layers.append(layer)

    def activate(self, activation):
        if activation == "relu":
            self.layers.append(lambda x, mode: F.relu(x))
        else:
            slope = activation["leakyRelu"]
            self.layers.append(lambda x, mode: F.leaky_relu(x, slope))

    def __call__(self, x, mode="train"):
        """`mode`: train; track, which also moves the running moments; eval, which uses them."""
        for layer in self.layers:
            x = layer(x, mode)
        return x


def generator(net, config, prefix=""):
    assert config["kind"] == "conv" and config["output"] == "sigmoid"
    h, w, c = config["head"]
    net.dense(f"{prefix}head")
    net.permuted(f"{prefix}head.weights", h, w, c, 1)
    for name in ("head.bias", "headNorm.gamma", "headNorm.beta"):
        net.permuted(f"{prefix}{name}", h, w, c, 0)
    net.norm(config["norm"], f"{prefix}headNorm")
    net.activate(config["activation"])
    if net.layout == "nchw":
        net.layers.append(lambda x, mode: x.view(-1, c, h, w))
    else:
        net.layers.append(lambda x, mode: x.view(-1, h, w, c).permute(0, 3, 1, 2))
    for i, layer in enumerate(config["layers"]):
        net.transposed(f"{prefix}transposed{i}", layer)
        if i + 1 < len(config["layers"]):
            net.norm(layer.get("norm", config["norm"]), f"{prefix}norm{i}")
            net.activate(config["activation"])
    net.layers.append(lambda x, mode: torch.sigmoid(x))
    return net


def critic(net, config, prefix=""):
    assert config["kind"] == "conv"
    size = (85, 8)
    for i, layer in enumerate(config["layers"]):
        net.conv(f"{prefix}conv{i}", size, layer)
        net.norm(layer.get("norm", config["norm"]), f"{prefix}norm{i}")
        net.activate(config["activation"])
        size = tuple(math.ceil(size[a] / layer["strides"][a]) for a in (0, 1))
    channels = config["layers"][-1]["filters"]
    net.permuted(f"{prefix}out.weights", *size, channels, 0)
    if net.layout == "nchw":
        net.layers.append(lambda x, mode: x.flatten(1))
    else:
        net.layers.append(lambda x, mode: x.permute(0, 2, 3, 1).flatten(1))
    net.dense(f"{prefix}out")
    return net


class Optimiser:
    """PyTorch's fastest form of the configuration's optimiser."""

    # Its counter on the device, as a CUDA graph wants it.
    capturable = False

    def __init__(self, net, config, clip=0):
        self.net, self.clip = net, clip
        if config["name"] == "adam":
            self.inner = torch.optim.Adam(
                net.values,
                lr=config["learningRate"],
                betas=(float(config["beta1"]), float(config["beta2"])),
                eps=config["eps"],
                fused=True,
                capturable=self.capturable,
            )
        elif config["name"] == "rmsProp":
            self.inner = torch.optim.RMSprop(
                net.values,
                lr=config["learningRate"],
                alpha=config["rho"],
                eps=config["eps"],
                foreach=True,
                capturable=self.capturable,
            )
        else:
            raise NotImplementedError(config["name"])

    def apply(self, gradients):
        for p, g in zip(self.net.values, gradients):
            # As autograd's own accumulation would: with the parameter's strides.
            p.grad = g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        self.inner.step()
        if self.clip:
            with torch.no_grad():
                torch._foreach_clamp_min_(self.net.values, -self.clip)
                torch._foreach_clamp_max_(self.net.values, self.clip)

    def reset(self):
        """In place, so that a captured graph goes on from here."""
        for state in self.inner.state.values():
            for value in state.values():
                if torch.is_tensor(value):
                    value.zero_()


# ---- whole steps
class Step:
    """One training step of a case. `given`: tensors in place of what the step draws, by the names of cases.json."""

    def __init__(self, case, batch, layout, device, given=None):
        self.case, self.config, self.batch, self.layout, self.device = case, case["config"], batch, layout, device
        self.given = given
        self.losses = {}
        generator_of = torch.Generator(device="cpu").manual_seed(1)
        cells = (torch.rand(data_rows, 1, 85, 8, generator=generator_of) > 0.99).to(torch.float32)
        self.data = None if given else cells.to(device)
        config, eps = self.config, self.config["batchNorm"]["eps"]
        if config["model"] == "ae":
            net = generator(critic(Net(layout, eps), config["encoder"], "encoder."), config["decoder"], "decoder.")
            self.nets = {"autoencoder": net.load(case["parameters"]["autoencoder"], device)}
            self.optimisers = {"autoencoder": Optimiser(net, config["optimiser"])}
        else:
            up, down = generator(Net(layout, eps), config["generator"]), critic(Net(layout, eps), config["critic"])
            up.load(case["parameters"]["generator"], device)
            down.load(case["parameters"]["critic"], device)
            constraint = config["constraint"]
            clip = constraint["clip"] if constraint["name"] == "clipping" else 0
            self.nets = {"generator": up, "critic": down}
            self.optimisers = {
                "generator": Optimiser(up, config["generatorOptimiser"]),
                "critic": Optimiser(down, config["criticOptimiser"], clip),
            }
            self.average = [p.detach().clone() for p in up.values] if config["averaging"] else None
        self.call, self.compiled = dict(self.nets), False
        # A penalty differentiates twice, which compiled code cannot: there the network itself is called.
        self.plain = dict(self.nets)

    def compile(self):
        self.compiled = True
        for name, net in self.nets.items():
            self.call[name] = torch.compile(net.__call__, dynamic=False)

    def reset(self):
        for net in self.nets.values():
            net.reset()
        for optimiser in self.optimisers.values():
            optimiser.reset()

    def real(self, k):
        if self.given:
            return self.given[f"real{k}"]
        rows = torch.randint(data_rows, (self.batch,), device=self.device)
        return self.data.index_select(0, rows)

    def noise(self, name):
        if self.given:
            return self.given[name]
        return torch.randn(self.batch, self.config["generator"]["latent"], device=self.device)

    def share(self, k, n):
        if self.given:
            return self.given[f"share{k}"].view(n, 1, 1, 1)
        return torch.rand(n, 1, 1, 1, device=self.device)

    def autoencoder_loss(self, mode="track"):
        x = self.real(0)
        y = self.call["autoencoder"](x, mode)
        return -2 * (x * y).sum() / (x.sum() + y.sum())

    def critic_loss(self, k):
        constraint, judge = self.config["constraint"], self.call["critic"]
        real = self.real(k)
        with torch.no_grad():
            fake = self.call["generator"](self.noise(f"noise{k}"))
        if self.nets["critic"].running:
            on_real, on_fake = judge(real), judge(fake)
        else:
            on_real, on_fake = judge(torch.cat([real, fake])).split(self.batch)
        loss = on_fake.mean() - on_real.mean()
        if constraint["name"] != "gradientPenalty":
            return loss, loss, None
        n = constraint.get("rows", self.batch)
        between = torch.lerp(real[:n], fake[:n], self.share(k, n)).requires_grad_()
        slopes = torch.autograd.grad(self.plain["critic"](between).sum(), between, create_graph=True)[0]
        penalty = ((slopes.square().sum((1, 2, 3)) + 1e-8).sqrt() - 1).square().mean()
        return loss + constraint["lambda"] * penalty, loss, penalty

    def generator_loss(self, mode="track"):
        made = self.call["generator"](self.noise("noise"), mode)
        if not self.compiled:
            return -self.call["critic"](made).mean()
        # Autograd leaves out gradients that nobody asks for; compiled code must be told.
        for p in self.nets["critic"].values:
            p.requires_grad_(False)
        loss = -self.call["critic"](made).mean()
        for p in self.nets["critic"].values:
            p.requires_grad_(True)
        return loss

    def learn(self, name, loss):
        self.optimisers[name].apply(torch.autograd.grad(loss, self.nets[name].values))

    def __call__(self):
        if "autoencoder" in self.nets:
            loss = self.autoencoder_loss()
            self.learn("autoencoder", loss)
            self.losses = {"loss": loss.detach()}
            return
        for k in range(self.config["criticSteps"]):
            total, loss, penalty = self.critic_loss(k)
            self.learn("critic", total)
        made = self.generator_loss()
        self.learn("generator", made)
        self.losses = {"lossCritic": loss.detach(), "lossGenerator": made.detach()}
        if penalty is not None:
            self.losses["gradientPenalty"] = penalty.detach()
        if self.average:
            torch._foreach_lerp_(self.average, [p.detach() for p in self.nets["generator"].values], 1 - self.config["averaging"])

    def gradients(self):
        """Losses and gradients of each network before any update."""
        if "autoencoder" in self.nets:
            losses = {"autoencoder": self.autoencoder_loss("train")}
        else:
            losses = {"critic": self.critic_loss(0)[0], "generator": self.generator_loss("train")}
        return {name: (loss, torch.autograd.grad(loss, self.nets[name].values)) for name, loss in losses.items()}


def given_inputs(case, layout, device):
    return {
        name: image(tensor(spec, device), layout) if len(spec["shape"]) == 4 else tensor(spec, device)
        for name, spec in case["inputs"].items()
    }


def require(what, off, most):
    if not off <= most:
        raise ArithmeticError(f"{what} is off by {off:.1e}, {most:.0e} is allowed")
    return off


def check_step(case, layout, device, precision, prepare):
    """Losses and gradients before any update, then the losses of three steps as `prepare` makes them run."""
    most = allowed[precision]
    step = Step(case, check_batch, layout, device, given_inputs(case, layout, device))
    worst = 0
    for name, (loss, gradients) in step.gradients().items():
        expected = case["expected"]["networks"][name]
        off = abs(float(loss) - expected["loss"]) / max(1e-2, abs(expected["loss"]))
        worst = max(worst, require(f"the {name}'s loss", off, most["loss"]))
        # A gradient that is zero but for round-off (a bias before a batch norm) is measured against the largest.
        largest = max(d["norm"] for d in expected["gradients"])
        net = step.nets[name]
        for part, g, digest in zip(net.names, gradients, expected["gradients"]):
            off = distance(net.back(part, g), digest) * digest["norm"] / max(digest["norm"], 1e-3 * largest)
            require(f"the gradient in {name} {part}", off, max(most["gradient"], case["gradientTolerance"]))
    run = prepare(step)
    step.reset()
    for k, expected in enumerate(case["expected"]["losses"]):
        run()
        actual = {name: float(value) for name, value in step.losses.items()}
        # Together: a difference of two means can be next to nothing by itself.
        norm = math.sqrt(sum(v * v for v in expected.values()))
        off = math.sqrt(sum((actual[name] - v) ** 2 for name, v in expected.items())) / norm
        require(f"the losses of step {k + 1}", off, most["loss" if k == 0 else "later"])
    return worst


# ---- generating
class Generate:
    def __init__(self, case, batch, layout, device, decoded, noise=None):
        self.case, self.batch, self.decoded, self.given, self.device = case, batch, decoded, noise, device
        self.latent = case["config"]["generator"]["latent"]
        self.net = generator(Net(layout, case["config"]["batchNorm"]["eps"]), case["config"]["generator"])
        self.net.load(case["parameters"], device)
        for norm, stats in zip(self.net.running, case["running"]):
            mean, var = tensor(stats["spec"], device)
            norm["mean"].copy_(self.net.to(f"{norm['name']}.gamma", mean))
            norm["var"].copy_(self.net.to(f"{norm['name']}.gamma", var))
        self.call = self.net
        self.host = None
        if decoded and str(device) == "cuda":
            self.host = torch.empty(batch, 85, dtype=torch.uint8, pin_memory=True)

    def compile(self):
        self.call = torch.compile(self.net.__call__, dynamic=False)

    def __call__(self):
        with torch.no_grad():
            noise = torch.randn(self.batch, self.latent, device=self.device) if self.given is None else self.given
            self.cells = self.call(noise, "eval")
            if self.decoded:
                self.counts = decode(self.cells)
                if self.host is not None:
                    self.host.copy_(self.counts, non_blocking=True)


def decode(cells):
    """The count of each element [n, 85] (0 for absent) of the greatest cell of at least 0.5; none of 1 or over 8 elements."""
    best, at = cells[:, 0].max(-1)
    counts = (at + 1) * (best >= 0.5)
    elements = (counts > 0).sum(1, keepdim=True)
    return (counts * ((elements >= 2) & (elements <= 8))).to(torch.uint8)


def check_generate(case, layout, device, precision, prepare):
    made = Generate(case, check_batch, layout, device, False, tensor(case["inputs"]["noise"], device))
    prepare(made)()
    off = distance(made.cells.permute(0, 2, 3, 1).contiguous(), case["expected"]["cells"])
    require("the cells", off, allowed[precision]["loss"])
    assert case["config"]["decoding"] == "argmax"
    counts = decode(image(tensor(case["inputs"]["cells"], device), "nchw"))
    elements = torch.arange(1, 86, device=device)
    require("the decoded formulas", abs(int((counts * elements).sum()) - case["expected"]["decoded"]), 0)
    return off


# ---- ops, forward and backward
class Op:
    """One op's value and gradients, from tensors that stay where they are."""

    def __init__(self, case, batch, layout, device):
        self.case, self.layout, self.device = case, layout, device
        conv, inputs = case.get("conv"), {}
        for name, spec in case["inputs"].items():
            shape = list(spec["shape"])
            filters = name == "filter" or (case["op"] == "conv2dWeightGrad" and name == "cotangent")
            if batch != check_batch and case["op"] == "matmul":
                shape = [batch, batch]
            elif batch != check_batch and len(shape) == 4 and not filters:
                shape[0] = batch
            if shape == list(spec["shape"]):
                t = tensor(spec, device)
            else:
                t = torch.rand(shape, device=device) - 0.5  # hashing millions takes seconds
            if len(shape) == 4:
                t = kernel(t, layout) if filters else image(t, layout)
            inputs[name] = t
        self.cotangent = inputs.pop("cotangent", None)
        self.inputs = {name: t.requires_grad_() for name, t in inputs.items()}
        self.strides, self.padding = (tuple(conv["strides"]), conv["padding"]) if conv else (None, None)
        if case["op"] == "conv2dWeightGrad":
            # Only its shape and layout are asked for.
            self.like = kernel(torch.zeros(*conv["kernel"], conv["x"][2], conv["filters"], device=device), layout)

    def value(self):
        op, i = self.case["op"], self.inputs
        if op == "matmul":
            return i["x"] @ i["w"]
        if op == "batchNorm":
            return F.batch_norm(i["x"], None, None, i["gamma"], i["beta"], True, 0.1, 1e-5)
        if op == "conv2d":
            return convolve(i["x"], i["filter"], None, self.strides, self.padding)
        if op == "conv2dTranspose":
            return transpose_convolve(i["x"], i["filter"], None, self.strides, self.padding, self.case["conv"]["x"][:2])
        top, bottom, left, right = self.padding
        x = F.pad(i["x"], (0, right - left, 0, bottom - top)) if (bottom, right) != (top, left) else i["x"]
        return torch.ops.aten.convolution_backward(
            i["y"], x, self.like, None, self.strides, (top, left), (1, 1), False, (0, 0), 1, (False, True, False)
        )[1]

    def __call__(self):
        if self.cotangent is None:
            with torch.no_grad():
                self.results = {"value": self.value()}
            return
        value = self.value()
        gradients = torch.autograd.grad(value, list(self.inputs.values()), self.cotangent)
        self.results = {"value": value.detach(), **dict(zip(self.inputs, gradients))}


def check_op(case, layout, device, precision, prepare):
    op = Op(case, check_batch, layout, device)
    prepare(op)()
    worst = 0
    for name, digest in case["expected"].items():
        t = op.results[name]
        if t.dim() == 4:
            filters = name == "filter" or (case["op"] == "conv2dWeightGrad" and name == "value")
            t = t.permute(2, 3, 1, 0).contiguous() if filters else t.permute(0, 2, 3, 1).contiguous()
        worst = max(worst, require(f"{name}", distance(t, digest), allowed[precision]["op"]))
    return worst


# ---- ways to run
def set_tf32(on):
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


def captured(run):
    """A run as a CUDA graph, after three on a side stream, where cuDNN makes its choices."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="relaxed"):
        run()

    def replay():
        graph.replay()

    replay.kept = run  # what the graph was made of must outlive it
    return replay


class TooLong(Exception):
    pass


def within(seconds, function):
    """A function's result. @raises TooLong after so many seconds"""

    late = TooLong(f"it took more than {seconds} s")
    rung = []

    def ring(*_):
        rung.append(True)
        raise late

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        result = function()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    # The compiler catches what its passes raise, and goes on without them.
    if rung:
        raise late
    return result


def measure(run, device, seconds, least, sample_ms):
    """Milliseconds of a run in each sample: so many in a row that a sample takes `sample_ms`, waited for at its end."""

    def sample(count):
        start = time.perf_counter()
        for _ in range(count):
            run()
        synchronise(device)
        return 1000 * (time.perf_counter() - start)

    took = sample(1)
    if took < 1000:
        sample(2)
    count = 1
    while (took := sample(count)) < sample_ms and count < 4096:
        count = min(4096, max(2 * count, math.ceil(count * sample_ms / max(took, 1e-3))))
    samples = []
    start = time.perf_counter()
    while len(samples) < least or (time.perf_counter() - start < seconds and len(samples) < 400):
        samples.append(sample(count) / count)
        if time.perf_counter() - start > 10 * seconds and len(samples) >= 3:
            break
    return samples


def summary(samples):
    quarters = statistics.quantiles(samples, n=4) if len(samples) > 1 else [samples[0]] * 3
    return {"medianMs": statistics.median(samples), "spreadMs": quarters[2] - quarters[0], "samples": len(samples)}


def driver():
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except Exception:
        return None


class Runner:
    def __init__(self, options, cases):
        self.options, self.cases, self.device = options, cases, options.device
        self.rows = []
        self.out = open(options.out, "w") if options.out else None
        self.started = time.perf_counter()

    def emit(self, **row):
        row = {"framework": "PyTorch CUDA" if self.device == "cuda" else "PyTorch CPU", **row}
        self.rows.append(row)
        line = json.dumps(row)
        print(line, flush=True)
        if self.out:
            self.out.write(line + "\n")
            self.out.flush()

    def spent(self):
        return time.perf_counter() - self.started

    def prepare(self, mode):
        def prepared(work):
            if "compiled" in mode:
                if not hasattr(work, "compile"):
                    raise NotImplementedError("only nets are compiled")
                # All nets share one function's code, whose versions are counted; past the limit nothing is compiled.
                torch._dynamo.reset()
                torch._dynamo.config.recompile_limit = 64
                work.compile()
                within(self.options.compile_seconds, work)
            return captured(work) if "graph" in mode else work

        return prepared

    def row(self, name, mode, precision, make, check, flops):
        """The faster layout of those that compute the right thing."""
        o = self.options
        label = f"{mode}{', TF32' if precision == 'TF32' else ''}"
        best, faults, others = None, [], {}
        if self.spent() > (o.budget if "compiled" not in mode else o.budget + o.compile_budget):
            self.emit(mode=label, name=name, why="the time for the whole run was spent; name it with --cases")
            return
        for layout in o.layouts:
            try:
                set_tf32(precision == "TF32")
                Optimiser.capturable = "graph" in mode
                off = None if o.no_check else check(layout, self.device, precision, self.prepare(mode))
                if self.device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                work = make(layout)
                run = self.prepare(mode)(work)
                samples = measure(run, self.device, o.seconds_per_case, o.samples, o.sample_ms)
                result = {"mode": label, "name": name, **summary(samples), "layout": layout, "error": off}
                if flops:
                    result["gflops"] = flops / result["medianMs"] / 1e6
                if self.device == "cuda":
                    result["memoryMiB"] = torch.cuda.max_memory_allocated() / 2**20
                others[layout] = result["medianMs"]
                if best is None or result["medianMs"] < best["medianMs"]:
                    best = result
                del run, work
            except Exception as error:  # a peer that cannot is a row, not the end of the run
                reason = str(error).strip().split("\n")[0][:300]
                faults.append(f"{layout}: {type(error).__name__}: {reason}")
                if o.debug:
                    traceback.print_exc()
            if self.device == "cuda":
                try:
                    torch.cuda.synchronize()
                    torch.cuda.empty_cache()
                except Exception as error:
                    sys.exit(f"the device is lost after {name}, {label}: {error}; run the rest with --cases")
        if best is None:
            self.emit(mode=label, name=name, why="; ".join(faults))
            return
        notes = [f"{layout} {ms:.4g} ms" for layout, ms in others.items() if layout != best["layout"]] + faults
        if notes:
            best["note"] = "; ".join(notes)
        self.emit(**best)

    def planned(self):
        """All cases: name, batch, make by layout, check, FLOP."""
        planned = []
        for case in self.cases["steps"]:
            planned.append(
                (
                    case["name"],
                    case["batch"],
                    lambda layout, case=case: Step(case, case["batch"], layout, self.device),
                    lambda *rest, case=case: check_step(case, *rest),
                    case["flops"],
                )
            )
        case = self.cases["generate"]
        for batch in case["batches"]:
            for decoded in (False, True):
                planned.append(
                    (
                        f"{case['name']} batch {batch}{' decoded' if decoded else ''}",
                        batch,
                        lambda layout, b=batch, d=decoded: Generate(case, b, layout, self.device, d),
                        lambda *rest: check_generate(case, *rest),
                        case["flopsPerSample"] * batch,
                    )
                )
        for op in self.cases["ops"]:
            planned.append(
                (
                    op["name"],
                    op["batch"],
                    lambda layout, case=op: Op(case, case["batch"], layout, self.device),
                    lambda *rest, case=op: check_op(case, *rest),
                    op["flops"],
                )
            )
        return planned

    def run(self):
        o, text = self.options, [part for part in self.options.cases.split(";") if part] or [""]
        chosen = lambda name: any(part in name for part in text)
        precisions = ["f32", "TF32"] if self.device == "cuda" and not o.no_tf32 else ["f32"]
        modes = [mode for mode in o.modes.split(",") if mode]
        planned = [t for t in self.planned() if chosen(t[0])]
        if not planned:
            sys.exit(f"torch_peer: no case has {o.cases!r} in its name")
        if o.list:
            print("\n".join(t[0] for t in planned))
            return
        # What matters most first: the time may run out.
        for name, batch, make, check, flops in planned:
            for mode in modes:
                if self.device != "cuda" and mode != "eager":
                    self.emit(mode=mode, name=name, why="a CUDA graph needs a CUDA device")
                    continue
                for precision in precisions:
                    self.row(name, mode, precision, make, check, flops)
        if o.compile:
            self.started = time.perf_counter() - o.budget
            for name, batch, make, check, flops in planned:
                if not name.startswith(("step", "generate")):
                    continue
                for mode in ["compiled", "compiled graph"] if self.device == "cuda" else ["compiled"]:
                    for precision in precisions:
                        self.row(name, mode, precision, make, check, flops)


def serve(runner):
    """Answers run.mjs: a line of JSON in, a line out; the same words as child.mjs."""
    o, work, run = runner.options, None, None
    mode = o.modes.split(",")[0]
    precision = "TF32" if o.device == "cuda" and not o.no_tf32 else "f32"
    answer = lambda **value: print(json.dumps(value), flush=True)
    answer(about={"version": torch.__version__, "threads": torch.get_num_threads()})
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if "sample" in message:
                start = time.perf_counter()
                for _ in range(message["sample"]):
                    run()
                synchronise(o.device)
                rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                answer(ms=1000 * (time.perf_counter() - start) / message["sample"], rssMiB=rss)
                continue
            case = message.get("first") or message["prepare"]
            _, _, make, check, _ = next(t for t in runner.planned() if t[0] == case["name"])
            set_tf32(precision == "TF32")
            Optimiser.capturable = "graph" in mode
            if "first" in message:
                make("nhwc")()
                synchronise(o.device)
                answer(rssMiB=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
                continue
            work = run = None
            best = math.inf
            for layout in o.layouts:
                check(layout, o.device, precision, runner.prepare(mode))
                candidate = make(layout)
                go = runner.prepare(mode)(candidate)
                ms = min(measure(go, o.device, 0.05, 2, 1))
                if ms < best:
                    best, work, run, chosen = ms, candidate, go, layout
            answer(note=f"{chosen}, the faster layout")
        except Exception as error:
            answer(why=f"{type(error).__name__}: {error}".split("\n")[0][:300])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cuda = torch.cuda.is_available()
    parser.add_argument("--cases", default="", help="only names with one of these texts, apart by ';'")
    parser.add_argument("--file", default=str(Path(__file__).with_name("cases.json")), help="what to compute")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if cuda else "cpu")
    parser.add_argument("--modes", default="eager,graph" if cuda else "eager", help="eager, graph")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, at the end")
    parser.add_argument("--compile-seconds", type=int, default=60, help="given up after so long, a net")
    parser.add_argument("--compile-budget", type=float, default=180, help="seconds for all that is compiled")
    parser.add_argument("--budget", type=float, default=150, help="seconds for all the rest")
    parser.add_argument("--seconds-per-case", type=float, default=None)
    parser.add_argument("--samples", type=int, default=None, help="the least number of samples")
    parser.add_argument("--sample-ms", type=float, default=None)
    parser.add_argument("--layouts", default="", help="nchw, nhwc or both")
    parser.add_argument("--no-tf32", action="store_true")
    parser.add_argument("--no-check", action="store_true", help="time without comparing: not for results")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", default="")
    parser.add_argument("--list", action="store_true", help="the names of the cases")
    parser.add_argument("--serve", action="store_true", help="answers run.mjs on standard input")
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    if on_gpu and not cuda:
        sys.exit("torch_peer: this PyTorch finds no CUDA device; take --device cpu")
    unknown = set(options.modes.split(",")) - {"eager", "graph"}
    if unknown:
        sys.exit(f"torch_peer: --modes {', '.join(sorted(unknown))}: it takes eager and graph")
    options.seconds_per_case = options.seconds_per_case or (0.2 if on_gpu else 1.0)
    options.samples = options.samples or (20 if on_gpu else 5)
    options.sample_ms = options.sample_ms or (4 if on_gpu else 1)
    options.layouts = options.layouts.split(",") if options.layouts else ["nchw", "nhwc"]
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    with open(options.file) as file:
        cases = json.load(file)
    global check_batch
    check_batch = cases["checkBatch"]
    runner = Runner(options, cases)
    if options.serve:
        serve(runner)
        return
    if not options.list:
        runner.emit(
            name="about",
            torch=torch.__version__,
            cuda=torch.version.cuda if on_gpu else None,
            cudnn=torch.backends.cudnn.version() if on_gpu else None,
            device=torch.cuda.get_device_name() if on_gpu else None,
            driver=driver() if on_gpu else None,
            threads=torch.get_num_threads(),
            cases=cases["made"],
            sampleMs=options.sample_ms,
            why="no time: what the rows below were measured with",
        )
    runner.run()


if __name__ == "__main__":
    main()
