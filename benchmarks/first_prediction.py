"""What the first answer of a package of large networks costs: seconds, seconds of the processor, and memory.

    python benchmarks/first_prediction.py FOLDER                       # MT-ESTAN as in the paper, 256 px, five members
    python benchmarks/first_prediction.py FOLDER --network mobilenet --size 224 --members 15

One network with random weights is exported (once: FOLDER keeps it), and each member is that file under a name of its
own, which the runtime opens as if it were another. A new process then loads the package, with the check of all
checksums, predicts one image, and another one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from bus_mlops.consumer.package_files import write_sums
from bus_mlops.consumer.package_format import EXAMPLE_IMAGE, EXAMPLE_PREDICTION, PACKAGE_FILE

ROOT = Path(__file__).resolve().parents[1]

CONSUMER = """
import resource, sys, time
import numpy as np
def told(what, started):
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds, processor = time.perf_counter() - started, used.ru_utime + used.ru_stime
    print(f"{what:34s} {seconds:6.2f} s, of the processor until now {processor:6.2f} s, most memory "
          f"{used.ru_maxrss / 2**20:5.2f} GiB", flush=True)
started = time.perf_counter()
from bus_mlops.consumer.client import load_model
told("import", started)
started = time.perf_counter()
model = load_model(sys.argv[1])
told("load, with all checksums", started)
image = np.random.default_rng(0).integers(0, 256, (470, 560), dtype=np.uint8)
for which in ("first", "second"):
    started = time.perf_counter()
    (row,) = model.predict([image])
    assert row.error is None, row.error
    told(f"{which} prediction", started)
"""


def main() -> None:
    """Write the package where there is none, and measure in a new process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", default="mt_estan")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--members", type=int, default=5)
    arguments = parser.parse_args()
    exported = arguments.folder / f"{arguments.network}-{arguments.size}"
    if not exported.with_suffix(".onnx").exists():
        command = [sys.executable, __file__, "--export", arguments.network, str(arguments.size), str(exported)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    package = packaged(exported, arguments.size, arguments.members)
    size = sum(path.stat().st_size for path in package.rglob("*.onnx")) / 2**20
    print(
        f"{arguments.network}, {arguments.size} px, {arguments.members} member(s), {size:.0f} MiB of ONNX", flush=True
    )
    command = [sys.executable, "-c", CONSUMER, str(package)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def export(name: str, size: int, exported: Path) -> None:
    """Write a network of the zoo with random weights, for Keras and as ONNX."""
    from bus_mlops.config import Training
    from bus_mlops.models.zoo import build, entry
    from bus_mlops.packaging.onnx_export import write_onnx
    from bus_mlops.spec import RunSpec

    known = entry(name)
    training = Training(input_size=size, weights="random")
    options = known.resolve({})
    spec = RunSpec(network=name, options=options, cohort=("busi",), task=known.task, training=training, seed=0)
    network = build(spec)
    exported.parent.mkdir(parents=True, exist_ok=True)
    network.save(exported.with_suffix(".keras"))
    write_onnx(network, exported.with_suffix(".onnx"))


def packaged(exported: Path, size: int, members: int) -> Path:
    """A package whose members are all the exported network."""
    from PIL import Image

    folder = exported.parent / f"{exported.name}-{members}"
    if folder.exists():
        return folder
    (folder / "members").mkdir(parents=True)
    files = [{kind: f"members/{number}.{kind}" for kind in ("keras", "onnx")} for number in range(members)]
    for each in files:
        for kind, name in each.items():
            os.link(exported.with_suffix(f".{kind}"), folder / name)
    described = {
        **{"name": "large-phantom", "bus_mlops_version": "0", "input_size": size, "color": "gray", "threshold": 0.5},
        **{"outputs": ["malignancy"], "phantom": True, "trained_on": "noise"},
        "members": [{**each, "max_difference": 0.0} for each in files],
    }
    (folder / PACKAGE_FILE).write_text(json.dumps(described), encoding="utf-8")
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(folder / EXAMPLE_IMAGE)
    (folder / EXAMPLE_PREDICTION).write_text(json.dumps({"probability": 0.5, "label": "malignant"}), encoding="utf-8")
    write_sums(folder)
    return folder


if __name__ == "__main__":
    if sys.argv[1:2] == ["--export"]:
        export(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
