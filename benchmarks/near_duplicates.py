"""What the audit's search finds of altered copies of real images, by kind of change, and what it finds wrongly.

    python benchmarks/near_duplicates.py ../shared/data/busi ../shared/data/busbra --copies 100

Each folder is a collection of its own (PNG files that are no masks); of each kind of change `--copies` copies of its
images are planted, one kind at a time. *wrong* are pairs of a copy with an image that is no near-duplicate of its
original. At the end the pairs among the images themselves, by the view that found them; with `--pairs FILE` the
weakest of these as a page of pictures, for the eye to judge. Seconds are those of the processor, for all kinds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import numpy as np
from altered import EXPORTS, KINDS, Pixels
from PIL import Image

from bus_mlops.dataset.audit import components
from bus_mlops.dataset.near_duplicates import Match, Pair, near_duplicates
from bus_mlops.images.geometry import prepare

_SHOWN = 60
ALTERATIONS = KINDS | EXPORTS


def main() -> None:
    """Print a line for each kind, and a page of the weakest pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", default=list(ALTERATIONS), choices=list(ALTERATIONS), metavar="KIND")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=Path, help="a picture of the weakest pairs of the last folder")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        images = read(folder)
        print(f"{folder.name}: {len(images)} images\n{'copies':24} {'found':>9} {'wrong':>12}")
        started = time.process_time()
        for kind in arguments.kinds:
            found, wrong, touching = plant(images, kind, arguments.copies, np.random.default_rng(arguments.seed))
            print(f"{kind:24} {f'{found}/{arguments.copies}':>9} {f'{wrong} of {touching}':>12}", flush=True)
        each = (time.process_time() - started) / len(arguments.kinds)
        own = search(images)
        views = ", ".join(f"{n} {view}" for view, n in sorted(Counter(str(m.view) for m in own.values()).items()))
        print(f"{each:.1f} s of the processor a kind; pairs among the images themselves: {len(own)} ({views})\n")
        if arguments.pairs:
            show(images, own, arguments.pairs)


def read(folder: Path) -> list[Pixels]:
    """The gray images of a folder and those below it."""
    paths = [p for p in sorted(folder.rglob("*.png")) if "mask" not in p.name and "normal" not in p.parts]
    return [np.asarray(Image.open(path).convert("L")) for path in paths]


def search(images: list[Pixels]) -> dict[Pair, Match]:
    """The audit's pairs among images."""
    stack = np.stack([prepare(image, 64) for image in images])
    return near_duplicates(stack, [image.shape[1] for image in images], [image.shape[0] for image in images])


def plant(images: list[Pixels], kind: str, copies: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Copies that are paired with their original, wrong pairs with a copy, and all pairs with a copy."""
    count = len(images)
    originals = rng.choice(count, copies, replace=False)
    found = search([*images, *(ALTERATIONS[kind](images[i], rng) for i in originals)])
    cluster = components(count, [pair for pair in found if pair[1] < count])
    roots = [*cluster, *cluster[originals]]
    touching = [pair for pair in found if pair[1] >= count]
    hits = sum((int(original), count + n) in found for n, original in enumerate(originals))
    return hits, sum(roots[i] != roots[j] for i, j in touching), len(touching)


def show(images: list[Pixels], pairs: dict[Pair, Match], path: Path, side: int = 150) -> None:
    """The weakest pairs, each side by side, row by row."""
    weakest = sorted(pairs, key=lambda pair: pairs[pair].similarity)[:_SHOWN]
    across = 5
    page = Image.new("L", (across * (2 * side + 12), -(-len(weakest) // across) * (side + 8)), 128)
    for place, pair in enumerate(weakest):
        for which, index in enumerate(pair):
            tile = Image.fromarray(prepare(images[index], side))
            page.paste(tile, ((place % across) * (2 * side + 12) + which * side, place // across * (side + 8)))
    page.save(path)


if __name__ == "__main__":
    main()
