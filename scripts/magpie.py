"""Writes data/magpie.json and the golden vectors of the descriptors, and compares our descriptors with matminer's.

    python scripts/magpie.py table                           data/magpie.json
    python scripts/magpie.py golden DATA                     test/golden/chem/magpie.json and .f64.gz; DATA holds the four real sets
    python scripts/magpie.py compare DESCRIBED.csv --rows N  N rows of what `matgan describe FILE --out DESCRIBED.csv` wrote

Needs matminer (pip install matminer==0.10.1 pymatgen==2026.10.24). The 22 elemental properties are those that matminer ships
of Magpie (Ward et al. 2016, npj Comput. Mater. 2, 16028, supplement): from Mathematica's ElementData, Villars' Mendeleev
numbers, and elements as computed in OQMD. The ionic attributes take pymatgen's Pauling electronegativities and common
oxidation states, as matminer's IonProperty does. A value that a table does not have is null, never a mean.
"""

import argparse
import csv
import gzip
import json
import math
import random
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matminer.featurizers.composition import ElementProperty, IonProperty, Stoichiometry, ValenceOrbital
from matminer.utils.data import MagpieData
from pymatgen.core import Composition, Element

warnings.filterwarnings("ignore")
root = Path(__file__).resolve().parent.parent
packages = {name: version(name) for name in ("matminer", "pymatgen")}


def number(value):
    """Null for a missing value; whole numbers without a point."""
    if value is None or math.isnan(value):
        return None
    return int(value) if value == int(value) else float(value)


def table():
    properties = ElementProperty.from_preset("magpie").features
    values = MagpieData(impute_nan=False).all_elemental_props
    lines = []
    for z in range(1, 119):
        element = Element.from_Z(z)
        row = [number(values[name][element.symbol]) for name in properties]
        if all(value is None for value in row):
            continue
        row = [row, number(element.X), list(element.common_oxidation_states)]
        lines.append(f'    "{element.symbol}": {json.dumps(row, separators=(",", ":"))}')
    head = {
        "source": "Magpie's elemental tables (Ward et al. 2016, doi:10.1038/npjcompumats.2016.28) as matminer ships them, and "
        "pymatgen's Pauling electronegativities and common oxidation states; facts, written by scripts/magpie.py",
        "packages": packages,
        "row": "the properties in their order, the electronegativity, the oxidation states; null where a table has no value",
        "properties": properties,
    }
    text = json.dumps(head, indent=2)[:-2] + ',\n  "elements": {\n' + ",\n".join(lines) + "\n  }\n}\n"
    (root / "data" / "magpie.json").write_text(text)


class Matminer:
    """The 145 attributes of a formula by matminer, in its order."""

    def __init__(self, impute_nan):
        self.featurizers = [
            Stoichiometry(),
            ElementProperty.from_preset("magpie", impute_nan=impute_nan),
            ValenceOrbital(props=["frac"], impute_nan=impute_nan),
            IonProperty(fast=True, impute_nan=impute_nan),
        ]
        self.names = [name for f in self.featurizers for name in f.feature_labels()]

    def describe(self, text):
        composition = Composition(text)
        return [float(value) for f in self.featurizers for value in f.featurize(composition)]


def golden(folder, seed=145):
    rng = random.Random(seed)
    values = MagpieData(impute_nan=False).all_elemental_props
    properties = ElementProperty.from_preset("magpie").features
    lacking = {e.symbol for e in Element if any(math.isnan(values[name][e.symbol]) for name in properties) or math.isnan(e.X)}
    formulas = []
    sets = ["oqmd", "mp_formation_energy", "mp_band_gap", "icsd_in_mp"]
    for name in sets:
        with gzip.open(Path(folder) / f"{name}.csv.gz", "rt") as lines:
            rows = sorted({row["formula"] for row in csv.DictReader(lines)} - set(formulas))
        rng.shuffle(rows)
        # Those that lack a value are matminer's means or our refusals: not to be compared.
        rows = [text for text in rows if lacking.isdisjoint(Composition(text).get_el_amt_dict())]
        chosen = []
        # First one formula for each element that has none yet, so that every row of the table is held.
        seen = set()
        for text in rows:
            new = set(Composition(text).get_el_amt_dict()) - seen
            if new:
                chosen.append(text)
                seen |= new
        taken = set(chosen)
        chosen += [text for text in rows if text not in taken][: 250 - len(chosen)]
        formulas += chosen[:250]
    # Not real: fractions, elements without a value (NaN here, refused or NaN by us), single elements.
    others = "Fe0.95O LiNi0.8Co0.15Al0.05O2 Fe0.4O0.6 La0.67Sr0.33MnO3 CrMnFeCoNi0.5 Ti0.5N0.333 Fe U2Pu HeH2 Ne2Na ArF RnF2 AtI FrCl "
    others += "Bk2O3 CfO2 Es2O3 FmCl2 MdF3 NoO LrF3 RfCl4 CnF2 XeF4 KrF2 Po2Ac RaTh PaAm CmO2 Fe3O4"
    others = others.split()
    filled, plain = Matminer(True), Matminer(False)
    rows = [filled.describe(text) for text in formulas]
    rows += [plain.describe(text) for text in others]
    here = root / "test" / "golden" / "chem"
    facts = {
        "about": "scripts/magpie.py golden: formulas of OQMD and the Materials Project (both CC BY 4.0), 250 of each of four files, and "
        "some of our own; magpie.f64.gz has matminer's 145 attributes of all, column by column, f64 little-endian",
        "packages": packages,
        "sets": sets,
        "names": filled.names,
        "formulas": formulas,
        "others": others,
    }
    (here / "magpie.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")
    # Columns hold like values: packed smaller than rows.
    values = np.ascontiguousarray(np.array(rows, dtype="<f8").T)
    (here / "magpie.f64.gz").write_bytes(gzip.compress(values.tobytes(), 9, mtime=0))


def compare(file, count, seed):
    theirs = Matminer(True)
    with open(file, newline="") as lines:
        rows = list(csv.DictReader(lines))
    rows = random.Random(seed).sample(rows, min(count, len(rows)))
    worst, differing = 0.0, 0
    for row in rows:
        for name, value in zip(theirs.names, theirs.describe(row["formula"])):
            error = abs(float(row[name]) - value) / max(1.0, abs(value))
            worst = max(worst, error)
            if not error <= 1e-12:
                differing += 1
                if differing <= 20:
                    print(row["formula"], name, row[name], value, file=sys.stderr)
    print(json.dumps({"rows": len(rows), "differing": differing, "worst": worst, **packages}))
    return 1 if differing else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table")
    commands.add_parser("golden").add_argument("data")
    comparing = commands.add_parser("compare")
    comparing.add_argument("file")
    comparing.add_argument("--rows", type=int, default=10_000)
    comparing.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.command == "table":
        table()
    elif options.command == "golden":
        golden(options.data)
    else:
        sys.exit(compare(options.file, options.rows, options.seed))


main()
