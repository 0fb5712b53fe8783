"""How much one reused program saves: seconds of n short cells with one program, and rebuilt for every cell.

    python benchmarks/program.py --network mobilenet --cells 3 --size 64

Prints one line a way and the ratio. Images are noise: only time is measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from bus_mlops.config import Training
from bus_mlops.experiments.spec import RunSpec
from bus_mlops.models.zoo import entry

if TYPE_CHECKING:
    from bus_mlops.training.program import Program


def main() -> None:
    """Time both ways and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenet")
    parser.add_argument("--width", type=float, help="of mt_estan")
    parser.add_argument("--encoder", help="of mt_estan")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--images", type=int, default=160, help="training images of a cell")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    from bus_mlops.training.process import configure_process

    configure_process(arguments.threads)
    from bus_mlops.training.program import Program

    spec = make_spec(arguments)
    cell = cell_runner(spec, arguments.images)

    def reused() -> None:
        program = Program(spec)
        for seed in range(arguments.cells):
            cell(program, seed)

    def rebuilt() -> None:
        for seed in range(arguments.cells):
            cell(Program(spec), seed)

    # The first program of a process also pays for libraries being loaded: neither way should bear that alone.
    cell(Program(spec), 0)
    seconds = {way.__name__: timed(way) for way in (reused, rebuilt)}
    for name, total in seconds.items():
        print(f"{name:8s} {total:6.1f} s for {arguments.cells} cells, {total / arguments.cells:.1f} s a cell")
    print(f"ratio    {seconds['rebuilt'] / seconds['reused']:6.2f}")


def make_spec(arguments: argparse.Namespace) -> RunSpec:
    """The specification that the arguments describe."""
    given = {"width": arguments.width, "encoder": arguments.encoder}
    options = {name: value for name, value in given.items() if value is not None}
    return RunSpec(
        network=arguments.network,
        options=entry(arguments.network).resolve(options),
        cohort=("busi",),
        multitask=entry(arguments.network).multitask,
        training=Training(input_size=arguments.size, weights="random", epochs=arguments.epochs),
        seed=0,
    )


def cell_runner(spec: RunSpec, count: int) -> Callable[..., None]:
    """A function that trains one cell on `count` images and predicts a quarter as many."""
    from bus_mlops.training.fit import fit

    size, rng = spec.training.input_size, np.random.default_rng(0)
    total = count + 2 * (count // 4)
    images = rng.integers(0, 256, (total, size, size), dtype=np.uint8)
    masks = rng.integers(0, 2, (total, size, size), dtype=np.uint8)
    labels = np.arange(total) % 2
    train, validation, test = np.split(np.arange(total), [count, count + count // 4])

    def run(program: Program, seed: int) -> None:
        fit(program, spec, images, labels, masks, train, validation, seed=seed)
        program.predict(images, test)

    return run


def timed(function: Callable[[], None]) -> float:
    """Seconds of wall clock that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
