"""The assembly against the straightforward loop, in one run on the same files: throughput, memory, epochs.

    python benchmarks/assemble.py --images 3641 --size 224

Draws a collection of realistic size (HMSS's JPEGs with crops, BUSI's PNGs with masks, in the proportion of the
real ones) into a temporary folder. Ours decodes every image once into memory-mapped arrays, with one process a
core. The straightforward loop opens each image with PIL, crops, pads and saves it as PNG, and then reads and
resizes that with OpenCV in every epoch. Both ways prepare the masks too. Memory is the peak of all processes
together, sampled every 20 ms: first their own pages, then all that is resident, which counts libraries and
mapped files once for each process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from bus_mlops.config import Config
from bus_mlops.dataset.assemble import assemble
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.project import parse_config
from bus_mlops.sources.record import Record
from bus_mlops.sources.registry import read_sources

# Images of the five real sources, and those of them that have masks.
ALL, MASKED = 3641, 1372
_DRAWN = 24
_BATCH = 32
T = TypeVar("T")


def main() -> None:
    """Draw, assemble both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=ALL)
    parser.add_argument("--size", type=int, default=224, help="input size in pixels")
    parser.add_argument("--workers", type=int, help="processes of the assembly; default: one a core")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bus-assemble-") as name:
        folder = Path(name)
        config = draw(folder / "raw", arguments.images)
        records = read_sources(config.data)
        print(f"{len(records)} images, {sum(bool(r.masks) for r in records)} with mask, at {arguments.size} pixels")
        seconds, memory, benchmark = watched(
            lambda: assemble(config, [arguments.size], folder / "benchmark", arguments.workers)
        )
        epoch, _, _ = watched(lambda: read_epoch(benchmark, arguments.size))
        loop, loop_memory, prepared = watched(lambda: save_padded(records, folder / "png"))
        loop_epoch, _, _ = watched(lambda: read_pngs(prepared, arguments.size))
    count = len(records)
    for way, first, each, peak in (("ours", seconds, epoch, memory), ("loop", loop, loop_epoch, loop_memory)):
        print(
            f"{way}: prepared in {first:.1f} s, {count / first:.0f} images a second, "
            f"peak {peak[0]:.0f} MiB ({peak[1]:.0f} resident); "
            f"an epoch read in {each:.2f} s, {count / each:.0f} images a second"
        )
    print(f"throughput until the first epoch is read: {(loop + loop_epoch) / (seconds + epoch):.1f} times the loop's")
    print(f"preparing alone: {loop / seconds:.1f} times; reading an epoch: {loop_epoch / epoch:.0f} times")
    print(f"peak memory: {memory[1]:.0f} MiB resident ({'under' if memory[1] < 500 else 'OVER'} 500 MiB)")


def draw(root: Path, count: int) -> Config:
    """Write HMSS and BUSI in their own layouts; the pictures are copies of a few, under different names."""
    rng = np.random.default_rng(0)
    masked = max(2, round(count * MASKED / ALL))
    drawn = root.parent / "drawn"
    drawn.mkdir(parents=True)
    for number in range(_DRAWN):
        height, width = int(rng.integers(420, 600)), int(rng.integers(480, 720))
        image = speckle(rng, height, width)
        Image.fromarray(image).convert("RGB").save(drawn / f"{number}.jpg", quality=90)
        Image.fromarray(image).convert("RGB").save(drawn / f"{number}.png")
        rows, columns = np.mgrid[:height, :width]
        inside = ((rows / height - 0.5) / 0.2) ** 2 + ((columns / width - 0.5) / 0.2) ** 2 < 1
        Image.fromarray(inside).save(drawn / f"{number}_mask.png")
    for label in ("benign", "malignant"):
        (root / "busi" / label).mkdir(parents=True)
    for number in range(masked):
        label = ("benign", "malignant")[number % 2]
        for end in ("", "_mask"):
            data = (drawn / f"{number % _DRAWN}{end}.png").read_bytes()
            (root / "busi" / label / f"{label} ({number + 1}){end}.png").write_bytes(data)
    (root / "hmss" / "imgs").mkdir(parents=True)
    lines = ["img name,case id/cover img id,crop r1,crop r2,crop col1,crop col2,tumor type"]
    for number in range(max(2, count - masked)):
        data = (drawn / f"{number % _DRAWN}.jpg").read_bytes()
        (root / "hmss" / "imgs" / f"{number}.jpg").write_bytes(data)
        lines.append(f"{number},{number},20,380,20,440,{('Benign', 'Malignant')[number % 2]}")
    (root / "hmss" / "HMSS.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return parse_config(
        {
            "profile": "benchmark",
            "seed": 0,
            "data": {"kind": "real", "root": str(root), "sources": ["hmss", "busi"]},
            "cohorts": {"all": ["busi"], "multitask": ["busi"]},
            "networks": {},
            "strategies": ["approaches"],
        }
    )


def speckle(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """An ultrasound-like gray image, 0-255, which compresses about as a real one does."""
    fine = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 1.5) * 3
    depth = np.linspace(1.3, 0.4, height)[:, None]
    image: NDArray[np.uint8] = np.clip(80 * depth * np.exp(0.4 * fine), 0, 255).astype(np.uint8)
    return image


def read_epoch(benchmark: Benchmark, size: int) -> float:
    """Every image and mask once, in random batches, as training reads them."""
    images, masks = benchmark.images(size), benchmark.masks(size)
    order = np.random.default_rng(0).permutation(len(images))
    total = 0.0
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        total += float(images[rows].astype(np.float32)[0, 0, 0]) + float(masks[rows][0, 0, 0])
    return total


def save_padded(records: list[Record], folder: Path) -> list[tuple[Path, Path | None]]:
    """The straightforward loop: PIL open, crop, pad, save."""
    folder.mkdir()
    prepared: list[tuple[Path, Path | None]] = []
    for number, record in enumerate(records):
        paths = [folder / f"{number}.png", *(folder / f"{number}_mask.png" for _ in record.masks[:1])]
        for source, target in zip((record.image, *record.masks[:1]), paths, strict=True):
            image = Image.open(source).convert("L")
            if record.crop is not None:
                top, left, height, width = record.crop
                image = image.crop((left, top, left + width, top + height))
            side = max(image.size)
            square = Image.new("L", (side, side))
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            square.save(target)
        prepared.append((paths[0], paths[1] if len(paths) > 1 else None))
    return prepared


def read_pngs(prepared: list[tuple[Path, Path | None]], size: int) -> float:
    """What the loop does in every epoch: OpenCV reads and resizes each image and mask."""
    total = 0.0
    for image, mask in prepared:
        pixels = cv2.resize(cv2.imread(str(image), cv2.IMREAD_GRAYSCALE), (size, size), interpolation=cv2.INTER_AREA)
        total += float(pixels.astype(np.float32)[0, 0])
        if mask is not None:
            read = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
            total += float(cv2.resize(read, (size, size), interpolation=cv2.INTER_NEAREST)[0, 0])
    return total


def watched(function: Callable[[], T]) -> tuple[float, tuple[float, float], T]:
    """Seconds, peak MiB of this process and its children while it ran (own, resident), and its result."""
    peak, stop = [(0.0, 0.0)], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            now = memory_now()
            peak[0] = (max(peak[0][0], now[0]), max(peak[0][1], now[1]))
            stop.wait(0.02)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - started
    stop.set()
    watcher.join()
    return seconds, peak[0], result


def memory_now() -> tuple[float, float]:
    """MiB of this process and its children: their own pages (Linux), and all resident ones."""
    own = resident = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            info: Any = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        own += (info.rss - getattr(info, "shared", 0)) / 2**20
        resident += info.rss / 2**20
    return own, resident


if __name__ == "__main__":
    main()
