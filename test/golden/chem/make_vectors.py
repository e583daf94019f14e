"""Makes the vectors beside this file with pymatgen and SMACT (pip install pymatgen smact), from formulas enumerated here.

formulas.json: text -> amounts by pymatgen's Composition, and its integer formula.
validity.json: reduced formula -> [charge-neutral, electronegativity-balanced] by SMACT's neutral_ratios and pauling_test over
every choice of one SMACT-2014 oxidation state per element.
"""

import itertools
import json
import math
import random
import warnings
from pathlib import Path

import smact
from pymatgen.core import Composition
from smact.screening import pauling_test

warnings.filterwarnings("ignore")
here = Path(__file__).parent
rng = random.Random(20201)
SYMBOLS = (
    "H Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn "
    "Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Ac Th Pa U Np Pu"
).split()


def amount():
    kind = rng.random()
    if kind < 0.35:
        return ""
    if kind < 0.85:
        return str(rng.randint(1, 12))
    return rng.choice(["0.5", "0.95", "1.25", "2.0", ".5", "0.333", "10", "0.1", "1.05"])


def group(depth):
    text = ""
    for _ in range(rng.randint(1, 3)):
        if depth > 0 and rng.random() < 0.35:
            left, right = rng.choice(["()", "[]", "{}", "()"])
            text += left + group(depth - 1) + right + amount()
        else:
            text += rng.choice(SYMBOLS) + amount()
    return text


def verdict(counts):
    elements = [smact.Element(s) for s in counts]
    values = [e.pauling_eneg for e in elements]
    ratios = [(n,) for n in counts.values()]
    neutral = balanced = False
    for states in itertools.product(*[e.oxidation_states_smact14 or [] for e in elements]):
        if smact.neutral_ratios(states, stoichs=ratios, threshold=max(counts.values())):
            neutral = True
            if pauling_test(states, values):
                balanced = True
                break
    return [neutral, balanced]


texts = ["NaCl", "Fe3O4", "Ca(OH)2", "[Co(NH3)6]Cl3", "Ba(LuSe2)2", "K4Mn4O8", "Fe0.95O", "Fe.95O", "Na Cl", "Fe2 O3", "CHNOPS", "COs", "CoS"]
texts += [group(rng.randint(0, 3)) for _ in range(400)]
formulas = []
for text in texts:
    composition = Composition(text)
    amounts = {str(e): n for e, n in composition.items()}
    # Left out: single elements and peroxides, which pymatgen doubles by name (O2, Na2O2).
    plain = Composition(composition.get_integer_formula_and_factor(max_denominator=10_000)[0])
    special = len(plain) == 1 or plain.reduced_formula in Composition.special_formulas.values()
    integer = None if special else {str(e): n for e, n in plain.items()}
    formulas.append({"text": text, "amounts": amounts, "integer": integer})
# Hydrates: pymatgen reads the parts, the sum is ours.
for salt, n in [("CuSO4", 5), ("CaSO4", 0.5), ("Na2CO3", 10), ("MgCl2", 6), ("K2Al2(SO4)4", 24)]:
    total = Composition(salt) + Composition("H2O") * n
    for dot in ["\u00b7", "\u2022", "\u22c5", "\u2219", "*", " \u00b7 "]:
        formulas.append({"text": f"{salt}{dot}{n}H2O", "amounts": {str(e): v for e, v in total.items()}, "integer": None})

validity = {}
wanted = {1: 20, 2: 300, 3: 300, 4: 150, 5: 40}
for n, number in wanted.items():
    for _ in range(number):
        counts = {s: rng.randint(1, 8) for s in rng.sample(SYMBOLS, n)}
        # Half of them with oxygen, fluorine or sulfur, so that enough pass.
        if n > 1 and rng.random() < 0.5:
            counts.pop(next(iter(counts)))
            counts[rng.choice("OFS")] = rng.randint(1, 8)
        divisor = math.gcd(*counts.values())
        counts = {s: c // divisor for s, c in counts.items()}
        validity["".join(f"{s}{c}" for s, c in counts.items())] = verdict(counts)

(here / "formulas.json").write_text(json.dumps(formulas, ensure_ascii=False, separators=(",", ":")).replace('},{"text"', '},\n{"text"') + "\n")
lines = ",\n".join(f"{json.dumps(f)}:{json.dumps(v)}" for f, v in validity.items())
(here / "validity.json").write_text("{\n" + lines + "\n}\n")
print(len(formulas), "formulas,", len(validity), "verdicts,", sum(v[0] for v in validity.values()), "neutral,", sum(v[1] for v in validity.values()), "balanced")
