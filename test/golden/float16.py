"""Makes float16.safetensors: float32 numbers and what numpy rounds them to in float16, the hard ones among them.

pip install safetensors numpy
python test/golden/float16.py                  writes the golden file beside this script
python test/golden/float16.py FILE             checks FILE, the same numbers as test/models/safetensors.test.ts writes them
"""

import sys
from pathlib import Path

import numpy as np

here = Path(__file__).resolve().parent
# The folder has a script with the package's name: it must not come first.
sys.path = [p for p in sys.path if Path(p or ".").resolve() != here]
from safetensors.numpy import load_file, save_file  # noqa: E402

# Every finite float16, the middle to the next one, and the float32 on either side of the middle.
halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
middles = ((halves[:-1].astype(np.float64) + halves[1:]) / 2).astype(np.float32)
near = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
random = np.random.default_rng(1).normal(0, 1, 1024).astype(np.float32) * np.float32(2.0) ** np.random.default_rng(2).integers(-30, 12, 1024).astype(np.float32)
odd = np.array([65519.996, 2**-24, 2**-25, np.nextafter(np.float32(2**-25), np.float32(1)), 1e-40, 1e-45, np.inf, np.nan], np.float32)
some = np.random.default_rng(3).permutation(len(middles))[:800]
values = np.concatenate([halves[::61], *(part[some] for part in (middles, *near)), random, odd, [np.float32(0)]])
values = np.concatenate([values, -values]).astype(np.float32)
tensors = {"values": values, "halves": values.astype(np.float16)}

if len(sys.argv) == 1:
    save_file(tensors, here / "float16.safetensors")
else:
    ours = load_file(sys.argv[1])["values"]
    assert ours.dtype == np.float16
    # A NaN is a NaN, whatever its payload.
    equal = (ours.view(np.uint16) == tensors["halves"].view(np.uint16)) | (np.isnan(ours) & np.isnan(values))
    assert equal.all(), values[~equal]
    print("equal")
