"""Our t-SNE beside openTSNE and scikit-learn, at the same perplexity, iterations and start: the table of docs/map.md.

    pip install numpy scipy scikit-learn openTSNE
    python scripts/tsne-peer.py [blobs] [digits] [formulas=map.csv:COUNT] > peers.json

Each map is judged by one measure of its own: the KL divergence of openTSNE's P (exact neighbours, 3 x perplexity) to the map with
all pairs summed in f64; of its ten nearest points on the map the share with the point's own label (purity); and the share of the
ten nearest in the features that are among the ten nearest on the map (recall). Processor seconds are of all threads.
"""
import csv
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import openTSNE
import sklearn
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

PERPLEXITY, ITERATIONS, SEED = 30, 750, 1
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
ELEMENTS = (
    "H Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag "
    "Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Ac Th Pa U Np Pu"
).split()


def blobs():
    random = np.random.default_rng(1)
    centres = 3 * random.normal(size=(10, 20))
    labels = np.arange(2000) % 10
    return centres[labels] + random.normal(size=(2000, 20)), labels


def digits():
    found = load_digits()
    return PCA(50, svd_solver="full").fit_transform(found.data / 16), found.target


def formulas(file, count):
    """One-hot matrices of the first formulas of a map's CSV; the label is the anion group that a formula has, if any."""
    with open(file, newline="") as rows:
        texts = [row["formula"] for row in csv.DictReader(rows)]
    texts = list(dict.fromkeys(texts))
    texts = [texts[i] for i in sorted(np.random.default_rng(1).permutation(len(texts))[:count])]
    matrix = np.zeros((len(texts), 85, 8))
    labels = []
    for row, text in enumerate(texts):
        pairs = {symbol: int(n or 1) for symbol, n in re.findall(r"([A-Z][a-z]?)(\d*)", text)}
        for symbol, n in pairs.items():
            matrix[row, ELEMENTS.index(symbol), n - 1] = 1
        labels.append(next((k for k, s in enumerate(("O", "F", "S", "Cl", "Se", "N", "C", "H")) if s in pairs), 8))
    return PCA(50, svd_solver="full").fit_transform(matrix.reshape(len(texts), -1)), np.array(labels)


def used():
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def ours(features, _start):
    with tempfile.TemporaryDirectory() as folder:
        source, out = os.path.join(folder, "features"), os.path.join(folder, "positions")
        features.astype("<f4").tofile(source)
        words = [source, *features.shape, PERPLEXITY, ITERATIONS, SEED, out]
        run = subprocess.run(
            ["node", "--import", "tsx", "scripts/tsne-run.ts", *map(str, words)], cwd=ROOT, check=True, capture_output=True
        )
        return np.fromfile(out, "<f4").reshape(-1, 2).astype(float), json.loads(run.stdout)


def open_tsne(features, start):
    made = openTSNE.TSNE(
        perplexity=PERPLEXITY, n_iter=ITERATIONS - 250, early_exaggeration_iter=250, initialization=start,
        neighbors="exact", negative_gradient_method="bh", n_jobs=2, random_state=SEED,
    ).fit(features)
    return np.asarray(made), {}


def scikit_exact(features, start):
    made = TSNE(
        perplexity=PERPLEXITY, max_iter=ITERATIONS, init=start.astype(np.float32), method="exact", random_state=SEED
    )
    return made.fit_transform(features.astype(np.float32)).astype(float), {"divergence": float(made.kl_divergence_)}


def divergence(affinities, y):
    p = affinities.P.tocoo()
    z = 0.0
    for at in range(0, len(y), 512):
        z += (1 / (1 + ((y[at : at + 512, None] - y[None]) ** 2).sum(-1))).sum()
    z -= len(y)
    q = 1 / (1 + ((y[p.row] - y[p.col]) ** 2).sum(-1)) / z
    return float((p.data * np.log(p.data / q)).sum())


def near(points):
    return NearestNeighbors(n_neighbors=11).fit(points).kneighbors(return_distance=False)[:, :10]


def judge(name, features, labels):
    features = features.astype(np.float32).astype(float)
    affinities = openTSNE.affinity.PerplexityBasedNN(features, perplexity=PERPLEXITY, method="exact", n_jobs=2)
    start = features[:, :2] / features[:, 0].std() * 1e-4
    by_features = near(features)
    peers = {"ours": ours, "openTSNE": open_tsne}
    if len(features) <= 2000:
        peers["scikit-learn exact"] = scikit_exact
    for peer, run in peers.items():
        wall, cpu = time.perf_counter(), used()
        y, more = run(features, start)
        times = {"seconds": time.perf_counter() - wall, "cpuSeconds": used() - cpu}
        by_map = near(y)
        row = {
            "data": name, "points": len(features), "peer": peer, "divergence": divergence(affinities, y),
            "purity": float((labels[by_map] == labels[:, None]).mean()),
            "recall": float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(by_features, by_map)])),
            **times, "own": more,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    print(json.dumps({"openTSNE": openTSNE.__version__, "scikit-learn": sklearn.__version__}), flush=True)
    for word in sys.argv[1:] or ["blobs", "digits"]:
        if word.startswith("formulas="):
            file, count = word[9:].rsplit(":", 1)
            judge("formulas", *formulas(file, int(count)))
        else:
            judge(word, *{"blobs": blobs, "digits": digits}[word]())
