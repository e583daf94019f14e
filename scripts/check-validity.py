"""Compares `matgan check --json` with two other implementations, row by row.

    npx matgan check data.csv.gz --json > verdicts.jsonl
    python scripts/check-validity.py verdicts.jsonl --rows 20000

Needs pymatgen and smact (pip install pymatgen smact). Compared are
- the formula: reduced by pymatgen;
- CN and EN by an independent script: all choices of one SMACT-2014 state per element, as sets of sums, cut by cut;
- CN and EN by SMACT's own neutral_ratios and pauling_test, for rows with at most --product choices.
Prints the counts of disagreement as JSON; ends with 1 where there is any.
"""

import argparse
import itertools
import json
import math
import random
import sys
import warnings

import smact
from pymatgen.core import Composition
from smact.screening import pauling_test

warnings.filterwarnings("ignore")


def sums(parts):
    """All sums of count * state with one state for each part."""
    reached = {0}
    for count, states in parts:
        reached = {total + count * state for total in reached for state in states}
    return reached


def independent(counts, states, values):
    if math.gcd(*counts) != 1:
        return False, False
    if 0 not in sums(list(zip(counts, states))):
        return False, False
    if any(v is None for v in values):
        return True, False
    for cut in sorted(set(values)):  # everything up to the cut is a cation, everything above it an anion
        signed = [
            (c, [s for s in ss if (s > 0 if v <= cut else s < 0)]) for c, ss, v in zip(counts, states, values)
        ]
        if 0 in sums(signed):
            return True, True
    return True, False


def by_smact(counts, states, values):
    neutral = False
    ratios = [(c,) for c in counts]
    for choice in itertools.product(*states):
        if smact.neutral_ratios(choice, stoichs=ratios, threshold=max(counts)):
            neutral = True
            if pauling_test(choice, values):
                return True, True
    return neutral, False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("verdicts")
    parser.add_argument("--rows", type=int, default=20_000, help="rows drawn at random (default 20000)")
    parser.add_argument("--product", type=int, default=20_000, help="most choices of states tried through SMACT")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with open(options.verdicts, encoding="utf8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = random.Random(options.seed).sample(rows, min(options.rows, len(rows)))
    facts = {}
    count = dict.fromkeys(
        ["rows", "errors", "formula", "cnIndependent", "enIndependent", "smactRows", "cnSmact", "enSmact", "assignment"], 0
    )
    neutral = balanced = 0
    for row in rows:
        count["rows"] += 1
        if row.get("error"):
            count["errors"] += 1
            continue
        theirs = Composition(row["formula"]).get_el_amt_dict()
        divisor = math.gcd(*[int(v) for v in theirs.values()])
        theirs = {s: int(v) // divisor for s, v in theirs.items()}
        ours = Composition(row["reduced"]).get_el_amt_dict()
        count["formula"] += theirs != {s: int(v) for s, v in ours.items()}
        for symbol in theirs:
            if symbol not in facts:
                e = smact.Element(symbol)
                facts[symbol] = (e.oxidation_states_smact14 or [], e.pauling_eneg)
        counts = list(theirs.values())
        states = [facts[s][0] for s in theirs]
        values = [facts[s][1] for s in theirs]
        verdict = (row["chargeNeutral"], row["electronegativityBalanced"])
        neutral += verdict[0]
        balanced += verdict[1]
        other = independent(counts, states, values)
        count["cnIndependent"] += verdict[0] != other[0]
        count["enIndependent"] += verdict[1] != other[1]
        if math.prod(map(len, states)) <= options.product:
            count["smactRows"] += 1
            other = by_smact(counts, states, values)
            count["cnSmact"] += verdict[0] != other[0]
            count["enSmact"] += verdict[1] != other[1]
        charges = row["oxidationStates"]
        good = charges is None
        if charges is not None:
            good = set(charges) == set(theirs) and sum(theirs[s] * charges[s] for s in theirs) == 0
            good = good and all(charges[s] in facts[s][0] for s in theirs)
        count["assignment"] += not (good and (charges is not None) == verdict[0])
    usable = max(1, count["rows"] - count["errors"])
    print(json.dumps({**count, "cn": round(neutral / usable, 4), "en": round(balanced / usable, 4)}))
    wrong = ["formula", "cnIndependent", "enIndependent", "cnSmact", "enSmact", "assignment"]
    sys.exit(1 if any(count[key] for key in wrong) else 0)


main()
