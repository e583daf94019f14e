"""Makes ops.json and networks.json: what PyTorch computes, in f64 on the CPU, for ops, optimisers and whole networks.

    python -m venv venv && venv/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu
    venv/bin/python test/golden/torch/make.py

Inputs are not stored: they come from a hash of (seed, place), the same in vectors.ts. Of each result a digest is kept:
its norm, its product with a hashed vector (which every element enters) and up to 48 elements at hashed places.
Tensors are written in this project's layouts: images [n,h,w,c], filters [kh,kw,in,out], where "out" of a transposed
convolution is what comes in.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
here = Path(__file__).parent


# ---- inputs
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
    """Numbers in [-1, 1), multiples of 2^-23: exact in f32."""
    return (words(seed, np.arange(n)) >> np.uint64(8)).astype(np.float64) / 2**23 - 1


def tensor(spec):
    """A leaf from a spec {shape, seed, scale, shift, above}: f32(shift + scale * unit), or 0/1 by a threshold."""
    u = units(spec["seed"], math.prod(spec["shape"]))
    if "above" in spec:
        data = (u > spec["above"]).astype(np.float64)
    else:
        data = (spec.get("shift", 0) + spec.get("scale", 1) * u).astype(np.float32).astype(np.float64)
    return torch.tensor(data.reshape(spec["shape"])).requires_grad_()


def digest(t):
    v = t.detach().numpy().astype(np.float64).reshape(-1)
    n = v.size
    at = np.arange(n) if n <= 48 else words(977, np.arange(48)) % np.uint64(n)
    return {
        "shape": list(t.shape),
        "norm": float(np.linalg.norm(v)),
        "dot": float(v @ units(4242, n)),
        "values": [float(v[int(i)]) for i in at],
    }


# ---- ops in this project's layouts
def plain(t):
    """The same numbers with plain strides, and their gradients too: PyTorch's f64 convolutions refuse others where a
    dimension is 1, though they say that they take them."""
    t = t.clone(memory_format=torch.contiguous_format)
    if t.requires_grad:
        t.register_hook(lambda g: g.clone(memory_format=torch.contiguous_format))
    return t


def chw(x):
    return plain(x.permute(0, 3, 1, 2))


def hwc(x):
    return plain(plain(x).permute(0, 2, 3, 1))


def conv2d(x, f, strides, padding):
    top, bottom, left, right = padding
    padded = F.pad(chw(x), (left, right, top, bottom))
    return hwc(F.conv2d(padded, plain(f.permute(3, 2, 0, 1)), stride=tuple(strides)))


def conv2d_transposed(y, f, strides, padding, size):
    """Every input pixel stamps the filter on a canvas, of which the padding is cut off."""
    top, _, left, _ = padding
    # PyTorch's filter is [in, out, kh, kw] with "in" what comes in: our last axis.
    full = F.conv_transpose2d(chw(y), plain(f.permute(3, 2, 0, 1)), stride=tuple(strides))
    full = F.pad(full, (0, max(0, left + size[1] - full.shape[3]), 0, max(0, top + size[0] - full.shape[2])))
    return hwc(full[:, :, top : top + size[0], left : left + size[1]])


def conv2d_weight_grad(x, y, strides, padding, kernel):
    f = torch.zeros(*kernel, x.shape[3], y.shape[3], requires_grad=True)
    return torch.autograd.grad(conv2d(x, f, strides, padding), f, y, create_graph=True)[0]


def batch_norm(x, gamma, beta, eps):
    c = x.shape[-1]
    return F.batch_norm(x.reshape(-1, c), None, None, gamma, beta, True, 0.1, eps).reshape(x.shape)


def normalise(x, stats, gamma, beta, eps):
    c = x.shape[-1]
    mean, variance = stats[0], stats[1]
    return ((x.reshape(-1, c) - mean) / torch.sqrt(variance + eps) * gamma + beta).reshape(x.shape)


def moments(x):
    rows = x.reshape(-1, x.shape[-1])
    return torch.stack([rows.mean(0), rows.var(0, unbiased=False)])


def gradient_penalty(g):
    return ((torch.sqrt(1e-8 + g.reshape(len(g), -1).square().sum(1)) - 1) ** 2).mean()


def dense(x, w, transposeX, transposeW):
    return (x.T if transposeX else x) @ (w.T if transposeW else w)


def softmax_absent(x):
    return torch.softmax(torch.cat([torch.zeros_like(x[..., :1]), x], -1), -1)[..., 1:]


functions = {
    "dense": dense,
    "conv2d": conv2d,
    "conv2dInputGrad": conv2d_transposed,
    "conv2dWeightGrad": conv2d_weight_grad,
    "batchNorm": batch_norm,
    "normalise": normalise,
    "moments": moments,
    "relu": F.relu,
    "leakyRelu": lambda x, alpha: F.leaky_relu(x, alpha),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "absentSoftmax": softmax_absent,
    "diceLoss": lambda a, b: -2 * (a * b).sum() / (a.sum() + b.sum()),
    "wassersteinCritic": lambda real, fake: fake.mean() - real.mean(),
    "wassersteinGenerator": lambda fake: -fake.mean(),
    "gradientPenalty": gradient_penalty,
}


def same(size, kernel, strides):
    """TensorFlow's SAME: ceil(size / stride) outputs, the odd zero at the end."""
    total = [max(0, (math.ceil(size[i] / strides[i]) - 1) * strides[i] + kernel[i] - size[i]) for i in (0, 1)]
    return [total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2]


def dictionary(shape, seed, **more):
    return {"shape": list(shape), "seed": seed, **more}


def op_cases():
    for rows, depth, columns in [(3, 5, 4), (17, 65, 9)]:
        for tx in (False, True):
            for tw in (False, True):
                x = [depth, rows] if tx else [rows, depth]
                w = [columns, depth] if tw else [depth, columns]
                yield "dense", [dictionary(x, 1), dictionary(w, 2)], {"transposeX": tx, "transposeW": tw}
    convs = [
        # image, filters, kernel, strides, padding (None: SAME)
        ((2, 11, 8, 3), 5, (3, 3), (1, 1), None),
        ((2, 11, 8, 3), 5, (3, 3), (2, 1), None),
        ((2, 11, 8, 4), 8, (5, 5), (2, 2), None),
        ((1, 85, 8, 1), 16, (3, 3), (2, 1), None),
        ((2, 43, 8, 16), 1, (3, 3), (2, 1), None),
        ((2, 7, 9, 3), 4, (2, 4), (3, 2), [1, 0, 0, 2]),
        ((1, 9, 9, 3), 4, (2, 2), (4, 3), [0, 0, 0, 0]),
    ]
    for image, filters, kernel, strides, padding in convs:
        n, h, w, c = image
        padding = padding or same((h, w), kernel, strides)
        out = [
            n,
            (h + padding[0] + padding[1] - kernel[0]) // strides[0] + 1,
            (w + padding[2] + padding[3] - kernel[1]) // strides[1] + 1,
            filters,
        ]
        attrs = {"strides": list(strides), "padding": padding}
        x, f, y = dictionary(image, 3), dictionary([*kernel, c, filters], 4), dictionary(out, 5)
        yield "conv2d", [x, f], attrs
        yield "conv2dInputGrad", [y, f], {**attrs, "size": [h, w]}
        yield "conv2dWeightGrad", [x, y], {**attrs, "kernel": list(kernel)}
    for shape in [(5, 3), (65, 7), (3, 6, 4, 5)]:
        vectors = [dictionary(shape[-1:], 7, shift=1, scale=0.5), dictionary(shape[-1:], 8)]
        for eps in (1e-5, 1e-2):
            yield "batchNorm", [dictionary(shape, 6, shift=0.5, scale=2), *vectors], {"eps": eps}
        stats = dictionary([2, shape[-1]], 9, shift=1, scale=0.75)
        yield "normalise", [dictionary(shape, 6), stats, *vectors], {"eps": 1e-5}
        yield "moments", [dictionary(shape, 6, shift=0.5, scale=2)], {}
    for shape in [(65,), (2, 7, 5, 3)]:
        yield "relu", [dictionary(shape, 10)], {}
        yield "leakyRelu", [dictionary(shape, 10)], {"alpha": 0.2}
        yield "sigmoid", [dictionary(shape, 10, scale=6)], {}
        yield "tanh", [dictionary(shape, 10, scale=3)], {}
        yield "diceLoss", [dictionary(shape, s, shift=0.5, scale=0.5) for s in (11, 12)], {}
    yield "diceLoss", [dictionary([2, 85, 8, 1], 11, shift=0.5, scale=0.5), dictionary([2, 85, 8, 1], 12, above=0.98)], {}
    yield "absentSoftmax", [dictionary([17, 8], 13, scale=4)], {}
    yield "wassersteinCritic", [dictionary([33, 1], 14), dictionary([65, 1], 15)], {}
    yield "wassersteinGenerator", [dictionary([65, 1], 14)], {}
    for shape in [(3, 5), (2, 85, 8, 1)]:
        yield "gradientPenalty", [dictionary(shape, 16, scale=0.3)], {}


def ops():
    result = []
    for name, specs, attrs in op_cases():
        inputs = [tensor(spec) for spec in specs]
        output = functions[name](*inputs, **attrs)
        cotangent = tensor(dictionary(output.shape, 50))
        first = torch.autograd.grad(output, inputs, cotangent, create_graph=True, allow_unused=True)
        # The gradient of <first, h> in the inputs and the cotangent.
        along = [tensor(dictionary(spec["shape"], 60 + i)).detach() for i, spec in enumerate(specs)]
        scalar = sum((g * h).sum() for g, h in zip(first, along))
        second = torch.autograd.grad(scalar, [*inputs, cotangent], allow_unused=True)
        zero = [torch.zeros_like(t) if g is None else g for g, t in zip(second, [*inputs, cotangent])]
        result.append(
            {
                "op": name,
                "inputs": specs,
                "attrs": attrs,
                "output": digest(output),
                "first": [digest(g) for g in first],
                "second": [digest(g) for g in zero],
            }
        )
    return result


def optimisers():
    size, steps = 40, 10
    made = {
        "adam": lambda w: torch.optim.Adam([w], lr=0.01, betas=(0.5, 0.9), eps=1e-8),
        "rmsProp": lambda w: torch.optim.RMSprop([w], lr=0.01, alpha=0.9, eps=1e-8),
        "sgd": lambda w: torch.optim.SGD([w], lr=0.01, momentum=0.9),
    }
    own = {
        "adam": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-8},
        "rmsProp": {"rho": 0.9, "eps": 1e-8},
        "sgd": {"momentum": 0.9},
    }
    result = []
    for name, make in made.items():
        for decay, clip in [((0, 0), 0), ((3, 9), 0), ((0, 0), 0.25)]:
            w = tensor(dictionary([size], 20))
            optimiser = make(w)
            for t in range(1, steps + 1):
                left = 1 if decay[1] == 0 else (decay[1] - t) / (decay[1] - decay[0])
                optimiser.param_groups[0]["lr"] = 0.01 * min(1, max(0, left))
                w.grad = tensor(dictionary([size], 20 + t)).detach()
                optimiser.step()
                if clip:
                    with torch.no_grad():
                        w.clamp_(-clip, clip)
            attrs = {"learningRate": 0.01, "decayFrom": decay[0], "decayTo": decay[1], "every": 1, "offset": 0, "clip": clip}
            result.append(
                {
                    "op": name,
                    "size": size,
                    "steps": steps,
                    "attrs": {**attrs, **own[name]},
                    "output": digest(w),
                }
            )
    return result


# ---- networks
class Net:
    """Parameters in the order in which they are made, hashed; `forward` on tensors in this project's layouts."""

    def __init__(self, training=True, slope=0.0):
        self.names, self.values, self.steps = [], [], []
        self.training, self.slope, self.norms = training, slope, 0

    def parameter(self, name, shape, scale, shift=0.0):
        self.names.append(name)
        self.values.append(tensor(dictionary(shape, 100 + len(self.values), scale=scale, shift=shift)))
        return self.values[-1]

    def norm(self, name, channels):
        gamma = self.parameter(f"{name}.gamma", [channels], 0.25, 1.0)
        beta = self.parameter(f"{name}.beta", [channels], 0.25)
        if self.training:
            self.steps.append(lambda x: batch_norm(x, gamma, beta, 1e-5))
        else:
            # Running moments: hashed too, the variances above zero.
            stats = tensor(dictionary([2, channels], 500 + self.norms, shift=1, scale=0.5)).detach()
            self.steps.append(lambda x: normalise(x, stats, gamma, beta, 1e-5))
        self.norms += 1

    def activate(self):
        self.steps.append(lambda x: F.leaky_relu(x, self.slope))

    def dense(self, name, inputs, outputs):
        w = self.parameter(f"{name}.weights", [inputs, outputs], math.sqrt(6 / inputs))
        b = self.parameter(f"{name}.bias", [outputs], 0.25)
        self.steps.append(lambda x: x @ w + b)

    def conv(self, name, size, channels, filters, kernel, strides):
        f = self.parameter(f"{name}.filter", [*kernel, channels, filters], math.sqrt(6 / (kernel[0] * kernel[1] * channels)))
        b = self.parameter(f"{name}.bias", [filters], 0.25)
        padding = same(size, kernel, strides)
        self.steps.append(lambda x: conv2d(x, f, strides, padding) + b)

    def transposed(self, name, size, channels, filters, kernel, strides):
        fan = kernel[0] * kernel[1] * channels / (strides[0] * strides[1])
        f = self.parameter(f"{name}.filter", [*kernel, filters, channels], math.sqrt(6 / fan))
        b = self.parameter(f"{name}.bias", [filters], 0.25)
        padding = same(size, kernel, strides)
        self.steps.append(lambda x: conv2d_transposed(x, f, strides, padding, size) + b)

    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return x


icsd_generator = (128, (6, 4, 128), [(64, (5, 5), (2, 2), (11, 8)), (32, (3, 3), (2, 1), (22, 8)), (16, (3, 3), (2, 1), (43, 8)), (1, (3, 3), (2, 1), (85, 8))])
oqmd_generator = (
    128,
    (6, 4, 256),
    [
        (128, (5, 5), (2, 2), (11, 8)),
        (128, (3, 3), (2, 1), (22, 8)),
        (64, (3, 3), (1, 1), (22, 8)),
        (64, (3, 3), (2, 1), (43, 8)),
        (32, (3, 3), (1, 1), (43, 8)),
        (32, (3, 3), (2, 1), (85, 8)),
        (1, (3, 3), (1, 1), (85, 8)),
    ],
)
paper_critic = [(16, (3, 3), (2, 1)), (32, (3, 3), (2, 1)), (64, (3, 3), (2, 1)), (128, (5, 5), (2, 2))]
released_critic = [(16, (3, 3), (1, 1)), (16, (3, 3), (2, 1)), (32, (3, 3), (1, 1)), (64, (3, 3), (1, 1)), (128, (5, 5), (2, 2))]
oqmd_critic = [(32, (3, 3), (1, 1)), (32, (3, 3), (2, 1)), (64, (3, 3), (1, 1)), (64, (3, 3), (2, 1)), (128, (3, 3), (1, 1)), (128, (3, 3), (2, 1)), (256, (5, 5), (2, 2))]
narrow_critic = [(2, (3, 3), (2, 1)), (4, (3, 3), (2, 1)), (4, (5, 5), (4, 2))]


def generator(net, spec, prefix=""):
    latent, (h, w, c), layers = spec
    net.dense(f"{prefix}head", latent, h * w * c)
    net.norm(f"{prefix}headNorm", h * w * c)
    net.activate()
    net.steps.append(lambda x: x.reshape(-1, h, w, c))
    channels = c
    for i, (filters, kernel, strides, size) in enumerate(layers):
        net.transposed(f"{prefix}transposed{i}", size, channels, filters, kernel, strides)
        if i + 1 < len(layers):
            net.norm(f"{prefix}norm{i}", filters)
            net.activate()
        channels = filters
    net.steps.append(torch.sigmoid)
    return net


def critic(net, layers, norms, outputs=1, prefix=""):
    """`norms`: the first layer that has a batch norm (as all after it), or None."""
    size, channels = (85, 8), 1
    for i, (filters, kernel, strides) in enumerate(layers):
        net.conv(f"{prefix}conv{i}", size, channels, filters, kernel, strides)
        if norms is not None and i >= norms:
            net.norm(f"{prefix}norm{i}", filters)
        net.activate()
        size = tuple(math.ceil(size[a] / strides[a]) for a in (0, 1))
        channels = filters
    width = size[0] * size[1] * channels
    net.steps.append(lambda x: x.reshape(-1, width))
    net.dense(f"{prefix}out", width, outputs)
    return net


def parameters(net):
    return [{"name": name, "shape": list(v.shape)} for name, v in zip(net.names, net.values)]


def networks():
    latent = lambda batch: dictionary([batch, 128], 30, scale=1.5)
    cells = lambda batch: dictionary([batch, 85, 8, 1], 31, above=0.98)
    made = [
        ("GAN-ICSD generator", generator(Net(), icsd_generator), latent(3), True),
        ("GAN-ICSD generator, inference", generator(Net(training=False), icsd_generator), latent(2), False),
        ("GAN-ICSD critic, the paper's", critic(Net(slope=0.2), paper_critic, None), cells(3), True),
        ("GAN-ICSD critic, the released", critic(Net(slope=0.2), released_critic, 1), cells(2), True),
        ("GAN-OQMD generator", generator(Net(), oqmd_generator), latent(2), False),
        ("GAN-OQMD critic", critic(Net(slope=0.2), oqmd_critic, 1), cells(2), False),
    ]
    autoencoder = critic(Net(), oqmd_critic, 1, 128, "encoder.")
    made.append(("AE", generator(autoencoder, oqmd_generator, "decoder."), cells(2), False))
    result = []
    for name, net, spec, gradients in made:
        x = tensor(spec)
        y = net(x)
        case = {"network": name, "input": spec, "parameters": parameters(net), "output": digest(y)}
        if gradients:
            cotangent = tensor(dictionary(y.shape, 50)).detach()
            case["gradients"] = [digest(g) for g in torch.autograd.grad(y, [*net.values, x], cotangent)]
        result.append(case)
    return result


def critic_steps():
    """WGAN-GP: loss, penalty and the gradient of loss + 10 * penalty in every parameter."""
    result = []
    for name, layers, norms, batch in [
        ("narrow", narrow_critic, None, 3),
        ("narrow, batch norm", narrow_critic, 0, 3),
        ("GAN-ICSD, the paper's", paper_critic, None, 2),
    ]:
        net = critic(Net(slope=0.2), layers, norms)
        specs = {
            "real": dictionary([batch, 85, 8, 1], 31, above=0.98),
            "fake": dictionary([batch, 85, 8, 1], 32, shift=0.5, scale=0.5),
            "share": dictionary([batch, 1, 1, 1], 33, shift=0.5, scale=0.5),
        }
        real, fake, share = (tensor(spec).detach() for spec in specs.values())
        loss = net(fake).mean() - net(real).mean()
        between = (real + share * (fake - real)).requires_grad_()
        slopes = torch.autograd.grad(net(between).sum(), between, create_graph=True)[0]
        penalty = gradient_penalty(slopes)
        gradients = torch.autograd.grad(loss + 10 * penalty, net.values)
        result.append(
            {
                "critic": name,
                "inputs": specs,
                "parameters": parameters(net),
                "loss": float(loss.detach()),
                "penalty": float(penalty.detach()),
                "slopes": digest(slopes),
                "gradients": [digest(g) for g in gradients],
            }
        )
    return result


def write(name, value):
    lines = {
        key: "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"
        for key, rows in value.items()
    }
    text = ",\n".join(f'"{key}": {rows}' for key, rows in lines.items())
    (here / name).write_text(f'{{\n"torch": {json.dumps(torch.__version__)},\n{text}\n}}\n')


write("ops.json", {"ops": ops(), "optimisers": optimisers()})
write("networks.json", {"networks": networks(), "criticSteps": critic_steps()})
