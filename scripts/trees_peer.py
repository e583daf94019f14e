"""Our boosted trees beside scikit-learn's and LightGBM's, on the same rows, splits and settings: the tables of docs/trees.md.

    pip install numpy scikit-learn lightgbm
    npx matgan describe gaps.csv --out described.csv
    python scripts/trees_peer.py --data gaps.csv --described described.csv [--rows N] [--only NAME,...] [--seeds 1,2] > peers.json

Rows of the table whose gap is above 0, the lowest gap of each reduced formula, as `train trees --descriptors magpie` takes them; the 145 Magpie
descriptors of each; 10 % of the formulas are the test set. Errors are of the test set. Seconds are of training alone, binning included.
"""
import argparse
import csv
import gzip
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from math import gcd

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def counts(formula):
    """Element -> count of a formula; parentheses with whole multipliers."""
    stack = [{}]
    for symbol, number, opened, closed, times in re.findall(r"([A-Z][a-z]?)([\d.]*)|(\()|(\))([\d.]*)", formula):
        if symbol:
            stack[-1][symbol] = stack[-1].get(symbol, 0) + float(number or 1)
        elif opened:
            stack.append({})
        else:
            for inner, n in stack.pop().items():
                stack[-1][inner] = stack[-1].get(inner, 0) + n * float(times or 1)
    return stack[0]


def features(data, described):
    """[formulas, 145] float32 and gaps, of the formulas whose gap is above 0."""
    opened = gzip.open if data.endswith(".gz") else open
    with opened(data, "rt", newline="") as rows:
        table = list(csv.DictReader(rows))
    lowest = {}
    for at, row in enumerate(table, 1):
        gap = float(row["band_gap_ev"])
        if gap <= 0:
            continue
        found = counts(row["formula"])
        divisor = gcd(*(int(n) for n in found.values()))
        key = tuple(sorted((s, int(n) // divisor) for s, n in found.items()))
        if key not in lowest or gap < lowest[key][1]:
            lowest[key] = at, gap
    wanted = {at: i for i, (at, _) in enumerate(lowest.values())}
    with open(described, newline="") as rows:
        lines = csv.reader(rows)
        first = next(lines)
        x = np.full((len(lowest), len(first) - 2), np.nan, "<f4")
        for row, _, *values in lines:
            if int(row) in wanted:
                x[wanted[int(row)]] = [float(v or "nan") for v in values]
    return x, np.array([gap for _, gap in lowest.values()])


def measured(work):
    before, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    result = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = time.perf_counter() - before
    return result, seconds, after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime


def peers(seed, threads):
    """Name -> a regressor with the settings of our preset of that name, or one of theirs."""
    import lightgbm
    from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor

    hist = dict(max_bins=255, early_stopping=False, random_state=seed)
    light = dict(verbose=-1, seed=seed, num_threads=threads, deterministic=True, force_row_wise=True, max_bin=255)
    return {
        "paper: sklearn GradientBoosting": GradientBoostingRegressor(
            learning_rate=0.06, max_depth=20, subsample=0.4, n_estimators=100, random_state=seed),
        "leaves31: sklearn HistGradientBoosting": HistGradientBoostingRegressor(
            learning_rate=0.1, max_iter=300, max_leaf_nodes=31, min_samples_leaf=20, **hist),
        "leaves31: lightgbm": lightgbm.LGBMRegressor(
            learning_rate=0.1, n_estimators=300, num_leaves=31, min_child_samples=20, min_child_weight=0, **light),
        "absolute31: sklearn HistGradientBoosting": HistGradientBoostingRegressor(
            loss="absolute_error", learning_rate=0.1, max_iter=300, max_leaf_nodes=31, min_samples_leaf=20, **hist),
        "absolute31: lightgbm": lightgbm.LGBMRegressor(
            objective="l1", learning_rate=0.1, n_estimators=300, num_leaves=31, min_child_samples=20,
            min_child_weight=0, **light),
    }


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", required=True)
    options.add_argument("--described", required=True)
    options.add_argument("--rows", type=int, default=0, help="training rows, all unless said")
    options.add_argument("--only", default="", help="words; models whose name has one of them")
    options.add_argument("--ours", default="paper,leaves31,absolute31,best", help="settings of scripts/trees-run.ts")
    options.add_argument("--seeds", default="1")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--keep", default="", help="folder to leave features.f32, target.f64, split.u8 in")
    given = options.parse_args()
    # Read when scikit-learn is first imported.
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    x, y = features(given.data, given.described)
    print(f"{len(y)} formulas, {x.shape[1]} columns", file=sys.stderr)
    random = np.random.default_rng(0)
    test = random.random(len(y)) < 0.1
    train = ~test
    if given.rows:
        chosen = random.permutation(np.flatnonzero(train))[: given.rows]
        train = np.zeros(len(y), bool)
        train[chosen] = True
    rows = []

    def report(name, seed, predicted, seconds, cpu, **more):
        error = predicted - y[test]
        r2 = 1 - (error**2).sum() / ((y[test] - y[test].mean()) ** 2).sum()
        row = dict(name=name, seed=seed, mae=np.abs(error).mean(), rmse=(error**2).mean() ** 0.5, r2=r2,
                   seconds=seconds, cpuSeconds=cpu, **more)
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)

    wanted = [word for word in given.only.split(",") if word]
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or temporary
        x.tofile(f"{folder}/features.f32")
        y.astype("<f8").tofile(f"{folder}/target.f64")
        (train + 2 * test).astype("u1").tofile(f"{folder}/split.u8")
        for seed in map(int, given.seeds.split(",")):
            for ours in filter(None, given.ours.split(",")):
                command = ["node", "--import", "tsx", "scripts/trees-run.ts", folder, str(x.shape[1]), ours, str(seed)]
                line = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
                made = json.loads(line)
                predicted = np.fromfile(f"{folder}/predicted.f64")
                report(f"{ours}: ours", seed, predicted, made.pop("seconds"), made.pop("cpuSeconds"), **made)
            for name, model in peers(seed, given.threads).items():
                if wanted and not any(word in name for word in wanted):
                    continue
                _, seconds, cpu = measured(lambda: model.fit(x[train], y[train]))
                report(name, seed, model.predict(x[test]), seconds, cpu)
    print(json.dumps(dict(rows=int(train.sum()), test=int(test.sum()), columns=x.shape[1], results=rows), indent=1))


if __name__ == "__main__":
    main()
