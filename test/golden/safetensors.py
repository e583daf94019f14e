"""Makes safetensors.safetensors with the format's own Python package, and reads back a file that ours wrote.

pip install safetensors numpy
python test/golden/safetensors.py                  writes the golden file beside this script
python test/golden/safetensors.py FILE             checks FILE, written by test/models/safetensors.test.ts
"""

import sys
from pathlib import Path

import numpy as np

# This script has the package's name: its own folder must not come first.
here = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != here]
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

tensors = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4) / 8 - 0.5,
    "packed": np.array([[1, 2**32 - 1], [0x01010101, 7]], dtype=np.uint32),
    "signed": np.array([-1, 0, 2**31 - 1], dtype=np.int32),
    "step": np.array([2**53 + 1], dtype=np.uint64),
    "scalar": np.array(1.5, dtype=np.float32),
    "empty": np.zeros((0, 5), dtype=np.float32),
}
metadata = {"format": "golden", "größe": "\"quoted\"\n"}

if len(sys.argv) == 1:
    save_file(tensors, here / "safetensors.safetensors", metadata)
else:
    with safe_open(sys.argv[1], framework="numpy") as file:
        assert file.metadata() == metadata, file.metadata()
        assert set(file.keys()) == set(tensors), file.keys()
        for name, wanted in tensors.items():
            found = file.get_tensor(name)
            assert found.dtype == wanted.dtype and found.shape == wanted.shape, name
            assert np.array_equal(found, wanted), name
    print("equal")
