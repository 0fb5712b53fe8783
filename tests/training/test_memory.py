"""A worker's memory does not grow with the number of cells that its program has trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import sys
sys.path.insert(0, "tests/helpers")
from bus_mlops.training.process import configure_process
configure_process(1)
import numpy as np, psutil
from small_cells import make_data, make_spec
from bus_mlops.training.fit import CellData, fit
from bus_mlops.training.program import Program

data, index, memory = make_data(40, 32), np.arange(40), []
program = Program(make_spec())
for cell in range(50):
    # Other losses, strengths, sizes of batches and of parts, as in a grid.
    spec = make_spec(
        epochs=1,
        batch_size=(8, 16)[cell % 2],
        loss={"positive_weight": 1 + cell % 5},
        augmentation={"rotation": cell % 3, "zoom": 0.1 * (cell % 2)},
    )
    count = 20 + cell % 7
    fit(program, spec, CellData(data.images, data.labels, index[:count], index[30:35]), seed=cell)
    program.predict(data.images, index[35:])
    memory.append(psutil.Process().memory_info().rss)
print(memory[4], memory[49])
"""


@pytest.mark.slow
def test_memory_after_50_cells_is_that_after_5():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after_5, after_50 = (int(word) / 2**20 for word in done.stdout.split()[-2:])
    print(f"{after_5:.0f} MiB after 5 cells, {after_50:.0f} MiB after 50")
    assert after_50 < 1.2 * after_5
