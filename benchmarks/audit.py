"""How the audit's cost grows: processor seconds, memory and planted copies found among more and more thumbnails.

    python benchmarks/audit.py --sizes 1000 2000 5000 10000

Thumbnails are synthetic speckle with layers and a lesion, each one different; a tenth of them are altered
copies (other brightness, mirrored, cropped by up to a tenth of either side) of others. Prints a line a size,
and the exponent of the growth from one size to the next: 1 is linear, 2 would be the square. Processor seconds
are those of all threads, so that a busy machine does not bend the curve. Every size runs in a process of its
own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np
from numpy.typing import NDArray

from bus_mlops.dataset.near_duplicates import near_duplicates

SIDE = 64
_DRAWN = 96


def main() -> None:
    """Measure every size and print the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 5000, 10_000])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{'images':>8} {'cpu s':>8} {'ms an image':>12} {'exponent':>9} {'MiB':>6} {'found':>12} {'wrong':>6}")
    former: tuple[int, float] | None = None
    for size in arguments.sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, peak, found, planted, wrong = pool.apply(measure, (size, arguments.seed))
        exponent = "" if former is None else f"{math.log(seconds / former[1]) / math.log(size / former[0]):.2f}"
        print(
            f"{size:8d} {seconds:8.1f} {1000 * seconds / size:12.2f} {exponent:>9} {peak:6.0f} "
            f"{f'{found}/{planted}':>12} {wrong:6d}",
            flush=True,
        )
        former = (size, seconds)


def measure(count: int, seed: int) -> tuple[float, float, int, int, int]:
    """Processor seconds, peak MiB of the process, planted copies found, planted copies, pairs that were not planted."""
    thumbnails, copies = draw(count, np.random.default_rng(seed))
    sides = [SIDE] * count
    started = time.process_time()
    pairs = set(near_duplicates(thumbnails, sides, sides))
    seconds = time.process_time() - started
    # Linux counts kilobytes, macOS bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**10 if sys.platform != "darwin" else 2**20)
    return seconds, peak, len(pairs & copies), len(copies), len(pairs - copies)


def draw(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], set[tuple[int, int]]]:
    """(count, 64, 64) thumbnails, the last tenth of them copies, and the pairs (original, copy)."""
    copied = max(1, count // 10)
    originals = rng.choice(count - copied, copied, replace=False)
    place = {int(original): count - copied + number for number, original in enumerate(originals)}
    stack = np.empty((count, SIDE, SIDE), dtype=np.uint8)
    for index in range(count - copied):
        image = _drawn(rng)
        stack[index] = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        if index in place:
            stack[place[index]] = _altered(image, place[index] % 3, rng)
    return stack, set(place.items())


def _drawn(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Layers, a dark ellipse and speckle of two grains, 0-255."""
    rows, columns = np.mgrid[:_DRAWN, :_DRAWN] / _DRAWN
    tilt = rows + rng.normal(0, 0.05) * columns
    image = 1.2 - 0.7 * rows + sum(rng.normal(0, 0.12) * np.sin(k * 4 * tilt + rng.uniform(0, 6)) for k in range(1, 7))
    y, x, ry, rx = rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.75), rng.uniform(0.06, 0.2), rng.uniform(0.08, 0.28)
    image = np.where(((rows - y) / ry) ** 2 + ((columns - x) / rx) ** 2 < 1, rng.uniform(0.2, 0.6) * image, image)
    coarse = cv2.GaussianBlur(rng.standard_normal(image.shape), (0, 0), 4) * 7
    fine = cv2.GaussianBlur(rng.standard_normal(image.shape), (0, 0), 1.2) * 2.5
    texture = np.exp(0.35 * coarse + 0.35 * fine)
    drawn: NDArray[np.uint8] = np.clip(110 * image * texture, 0, 255).astype(np.uint8)
    return drawn


def _altered(image: NDArray[np.uint8], kind: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    if kind == 0:
        image = np.clip(image * rng.uniform(0.75, 1.25) + rng.uniform(-15, 15), 0, 255).astype(np.uint8)
    elif kind == 1:
        image = image[:, ::-1]
    else:
        cut = int(rng.uniform(0.04, 0.1) * _DRAWN)
        top, left = rng.integers(0, cut + 1, 2)
        image = image[top : _DRAWN - cut + top, left : _DRAWN - cut + left]
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


if __name__ == "__main__":
    main()
