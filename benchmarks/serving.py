"""What a prediction costs: our ONNX package against the same networks in Keras, and the service under load.

    python benchmarks/serving.py                                   # MobileNet at 224 px, one network
    python benchmarks/serving.py --network mt_estan --encoder mobilenet --width 0.25 --size 128 --members 5
    python benchmarks/serving.py --load --clients 4 --requests 400

The package and the `.keras` files hold the same weights (random ones: only time is measured). Cold start is a new
process from its start to its first prediction, imports and the check of all checksums included; latencies are medians
in a process that has predicted before. Keras predicts with `model.predict`, on images prepared in the same way. Both
ways are timed in one run, in turns, on the cores that this process may use. `--load` starts `bus-mlops serve` on
loopback and sends single images from a fixed number of clients, each waiting for its answer: requests a second, p50,
p99 and failures.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from bus_mlops import limits

ROOT = Path(__file__).resolve().parents[1]

ONNX = """
import json, sys, time
from bus_mlops.consumer.client import load_model
model = load_model(sys.argv[1])
images = sys.argv[2:]
predict = lambda n: [row.probability for row in model.predict(images[:n])]
"""
KERAS = """
import json, sys, time
from pathlib import Path
import numpy as np
from bus_mlops.images.decode import decode_image
from bus_mlops.images.geometry import prepare
from bus_mlops.packaging.onnx_export import load_network
folder, images = Path(sys.argv[1]), sys.argv[2:]
networks = [load_network(path) for path in sorted(folder.glob("members/*.keras"))]
size = networks[0].input_shape[1]
def predict(n):
    squares = np.stack([prepare(decode_image(Path(path)), size) for path in images[:n]])
    batch = np.repeat(squares[..., None], 3, axis=-1).astype(np.float32)
    return np.mean([network.predict(batch, verbose=0)["malignancy"][:, 0] for network in networks], axis=0).tolist()
"""
MEASURE = """
first = predict(1)
if sys.stdin.readline():  # how often to repeat; nothing for a cold start
    def median(n, times):
        predict(n)
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            predict(n)
            seconds.append(time.perf_counter() - started)
        return sorted(seconds)[times // 2]
    print(json.dumps({"one": median(1, 15), "many": median(32, 3), "answers": predict(32)}))
"""


def main() -> None:
    """Write a package of random networks, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenet")
    parser.add_argument("--width", type=float, help="of mt_estan")
    parser.add_argument("--encoder", help="of mt_estan")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--starts", type=int, default=5, help="cold starts of each way")
    parser.add_argument("--load", action="store_true", help="load the service instead")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bus-serving-") as folder:
        package, images = prepare_files(arguments, Path(folder))
        options = f"{arguments.network}, {arguments.size} px, {arguments.members} member(s)"
        print(f"{options}; {limits.core_count()} cores")
        if arguments.load:
            load(package, images[0], arguments.clients, arguments.requests)
        else:
            compare(package, images, arguments.starts)


def prepare_files(arguments: argparse.Namespace, folder: Path) -> tuple[Path, list[Path]]:
    """The package and 32 gray images of 560 x 470 pixels; made in a process of its own, so that ours stays small."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:4]; import json, serving; from pathlib import Path; "
        "serving.write_files(json.loads(sys.argv[1]), Path(sys.argv[4]))"
    )
    command = [sys.executable, "-c", code, json.dumps(vars(arguments)), str(Path(__file__).parent), str(ROOT)]
    subprocess.run([*command, str(folder)], check=True, stderr=subprocess.DEVNULL)
    return folder / "package", sorted((folder / "images").iterdir())


def write_files(values: dict[str, Any], folder: Path) -> None:
    """Networks with random weights, packaged, and images of noise."""
    import keras
    from PIL import Image

    from bus_mlops.config import Training
    from bus_mlops.models.zoo import build, entry
    from bus_mlops.packaging.package import write_package
    from bus_mlops.spec import RunSpec

    name, size = values["network"], values["size"]
    options = {key: values[key] for key in ("width", "encoder") if values[key] is not None}
    rng = np.random.default_rng(0)
    paths = []
    for seed in range(values["members"]):
        keras.utils.set_random_seed(seed)
        spec = RunSpec(
            network=name,
            options=entry(name).resolve(options),
            cohort=("busi",),
            task=entry(name).task,
            training=Training(input_size=size, weights="random", batch_norm_momentum=0.5),
            seed=seed,
        )
        paths.append(folder / f"{seed}.keras")
        network = build(spec)
        for _ in range(8):  # else batch normalisation, never having seen an image, lets nothing through
            network(rng.uniform(0, 255, (4, size, size, 3)) * rng.random((4, 1, 1, 1)), training=True)
        network.save(paths[-1])
    (folder / "images").mkdir()
    for number in range(32):
        pixels = rng.uniform(0, 255, (470, 560)) * rng.random()
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number:02d}.png")
    metadata = {"name": f"{name}-phantom", "phantom": True, "trained_on": "noise"}
    write_package(
        folder / "package",
        paths,
        input_size=size,
        color="gray",
        threshold=0.5,
        metadata=metadata,
        example_image=rng.integers(0, 256, (96, 96), dtype=np.uint8),
    )


def compare(package: Path, images: list[Path], starts: int) -> None:
    """Both ways in turns, and their ratios."""
    ways = {"ONNX package": ONNX, "Keras": KERAS}
    cold: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(starts):
        for way, code in ways.items():
            started = time.perf_counter()
            process(code, package, images[:1], "")
            cold[way].append(time.perf_counter() - started)
    warm = {way: json.loads(process(code, package, images, "repeat\n")) for way, code in ways.items()}
    ours, theirs = (np.array(warm[way]["answers"]) for way in ways)
    print(f"32 probabilities from {ours.min():.3f} to {ours.max():.3f}")
    print(f"greatest difference between the two ways: {abs(ours - theirs).max():.1e}")
    rows = {
        "cold start to first prediction, s": {way: statistics.median(cold[way]) for way in ways},
        "latency of one image, ms": {way: 1000 * warm[way]["one"] for way in ways},
        "latency of 32 images, ms": {way: 1000 * warm[way]["many"] for way in ways},
    }
    for title, values in rows.items():
        onnx, keras = values.values()
        print(f"{title:36s} ONNX package {onnx:9.2f}   Keras {keras:9.2f}   ratio {keras / onnx:6.1f}")


def process(code: str, package: Path, images: list[Path], told: str) -> str:
    """Run one of the two ways in a new process; what it prints."""
    command = [sys.executable, "-c", code + MEASURE, str(package), *map(str, images)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, input=told, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def load(package: Path, image: Path, clients: int, count: int) -> None:
    """Send `count` requests from `clients` threads, each with one connection; print rate, latencies, failures."""
    import requests

    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from service import served

    text = base64.b64encode(image.read_bytes()).decode()
    body = json.dumps({"dataframe_records": [{"image": text}]}).encode()
    seconds: list[float] = []
    failures: list[int] = []
    left = iter(range(count))
    lock = threading.Lock()

    def client(url: str) -> None:
        with requests.Session() as session:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                started = time.perf_counter()
                answer = session.post(url, body, headers={"Content-Type": "application/json"}, timeout=60)
                seconds.append(time.perf_counter() - started)
                if answer.status_code != 200 or answer.json()["predictions"][0]["error"] is not None:
                    failures.append(answer.status_code)

    with served(package) as url:
        requests.post(f"{url}/invocations", body, headers={"Content-Type": "application/json"}, timeout=60)
        threads = [threading.Thread(target=client, args=(f"{url}/invocations",)) for _ in range(clients)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total = time.perf_counter() - started
    p50, p99 = (1000 * float(np.percentile(seconds, q)) for q in (50, 99))
    print(f"{count} requests of one image from {clients} clients: {count / total:.1f} requests/s, "
          f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, {len(failures)} failures")  # fmt: skip


if __name__ == "__main__":
    main()
