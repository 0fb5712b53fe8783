"""How much one compiled program for many cells saves: Table 6's 14 cells of a network, four ways, in one run.

    python benchmarks/grid.py --size 64 --images 200 --epochs 3

shared:  one process keeps its compiled program from cell to cell, as a worker does.
process: every cell has a process of its own.
rebuilt: one process builds and compiles the network anew for every cell, by the same code.
keras:   the same in the way of a script: build, `compile`, `fit` on float32 arrays without augmentation.

The cells are five weights of the cross-entropy, then nine focal pairs: one program. The ways take a cell each in
turn, on the same cores, so that a busy machine slows all alike. Seconds, of the wall clock and of the CPU, count
from the start of a process to the end of its last cell.

    python benchmarks/grid.py --workers --cells 8

compares two pinned workers of one thread with one worker of two threads; CPU seconds say nothing there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from bus_mlops import limits
from bus_mlops.config import CrossEntropy, Focal, TrackingConfig, Training
from bus_mlops.environment import quiet
from bus_mlops.experiments.cell import Cell, Job
from bus_mlops.models.zoo import entry
from bus_mlops.spec import RunSpec

LOSSES = [CrossEntropy(positive_weight=weight) for weight in (1, 2, 3, 4, 5)] + [
    Focal(gamma=gamma, alpha=alpha) for gamma in (2, 3, 4) for alpha in (0.25, 0.5, 0.8)
]


class Spent(NamedTuple):
    """Seconds so far, of the wall clock (this worker's turns only) and of the CPU, and memory now, in MiB."""

    wall: float
    cpu: float
    memory: float


class Worker:
    """A process that trains, in one of the ways, the cells it is told to, pinned to its own cores."""

    def __init__(self, options: dict[str, Any], cores: list[int], way: str = "shared") -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, options, cores, way), daemon=True)
        self._started = time.perf_counter()
        self._process.start()
        theirs.close()
        self._wall = 0.0
        self.spent = Spent(0.0, 0.0, 0.0)

    def begin(self, cell: int) -> None:
        """Tell it to train a cell; `finish` waits for it."""
        if self.spent.wall:
            self._started = time.perf_counter()
        self._connection.send(cell)

    def finish(self) -> None:
        """Wait for the cell and add up what it took."""
        cpu, memory = self._connection.recv()
        self.spent = Spent(self.spent.wall + time.perf_counter() - self._started, cpu, memory)

    def train(self, cell: int) -> None:
        """Both."""
        self.begin(cell)
        self.finish()

    def end(self) -> None:
        """Let the process end."""
        self._connection.send(None)
        self._process.join()


def main() -> None:
    """Run what the arguments ask for and print it."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenet")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--cells", type=int, default=len(LOSSES), help=f"the first so many of {len(LOSSES)}")
    parser.add_argument("--images", type=int, default=200, help="training images of a cell")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", action="store_true", help="compare numbers of workers instead")
    arguments = parser.parse_args()
    print(f"{arguments.cells} cells, {arguments.network} at {arguments.size} px", flush=True)
    cores = limits.cores()
    if arguments.workers:
        compare_workers(vars(arguments), cores)
    else:
        compare_ways(vars(arguments), cores[: arguments.threads])


def compare_ways(options: dict[str, Any], cores: list[int]) -> None:
    """Every cell in all four ways, one after the other."""
    kept: dict[str, Worker] = {}
    process = Spent(0.0, 0.0, 0.0)
    for cell in range(options["cells"]):
        for way in ("shared", "rebuilt", "keras"):
            if way not in kept:
                kept[way] = Worker(options, cores, way)
            kept[way].train(cell)
        alone = Worker(options, cores)
        alone.train(cell)
        alone.end()
        wall, cpu, memory = alone.spent
        process = Spent(process.wall + wall, process.cpu + cpu, max(process.memory, memory))
    spent = {way: worker.spent for way, worker in kept.items()} | {"process": process}
    for worker in kept.values():
        worker.end()
    for way, (wall, cpu, memory) in spent.items():
        print(
            f"{way:8s}{wall:7.1f} s of wall clock ({wall / spent['shared'].wall:.2f} times shared), "
            f"{cpu:7.1f} s of CPU ({cpu / spent['shared'].cpu:.2f} times), memory {memory:.0f} MiB"
        )


def compare_workers(options: dict[str, Any], cores: list[int]) -> None:
    """The same number of cells by one worker of two threads, and by two of one: in turn, after a first cell each."""
    rounds = max(1, options["cells"] // 2)
    one = Worker(options, cores[:2])
    one.train(0)
    two = [Worker(options, [core]) for core in cores[:2]]
    for worker in two:
        worker.begin(0)
    for worker in two:
        worker.finish()
    seconds = {"one": 0.0, "two": 0.0}
    for _ in range(rounds):
        started = time.perf_counter()
        one.train(0)
        one.train(0)
        seconds["one"] += time.perf_counter() - started
        started = time.perf_counter()
        for worker in two:
            worker.begin(0)
        for worker in two:
            worker.finish()
        seconds["two"] += time.perf_counter() - started
    for worker in (one, *two):
        worker.end()
    print(f"one worker of two threads: {seconds['one']:.1f} s for {2 * rounds} cells after its first")
    print(f"two workers of one thread: {seconds['two']:.1f} s, {seconds['one'] / seconds['two']:.2f} times as fast")


def make_spec(options: dict[str, Any], cell: int) -> RunSpec:
    """The paper's protocol from random weights, with one of Table 6's losses."""
    network = entry(options["network"])
    return RunSpec(
        network=network.name,
        options=network.resolve({}),
        cohort=("busi",),
        task=network.task,
        training=Training(
            input_size=options["size"], weights="random", scaling="unit", epochs=options["epochs"], loss=LOSSES[cell]
        ),
        seed=0,
    )


def _serve(connection: Connection, options: dict[str, Any], cores: list[int], way: str) -> None:
    """The life of one process: trains the cells that it is told, answers with its CPU seconds and memory (MiB)."""
    os.sched_setaffinity(0, cores)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    train = keras_cell(options, len(cores)) if way == "keras" else our_cell(options, len(cores), keep=way == "shared")
    import psutil

    while (number := connection.recv()) is not None:
        train(number)
        connection.send((time.process_time(), psutil.Process().memory_info().rss / 2**20))


def our_cell(options: dict[str, Any], threads: int, keep: bool) -> Callable[[int], None]:
    """A function that trains a cell as a worker does, with its latest program or a new one."""
    from bus_mlops.training.process import configure_process

    configure_process(threads)
    from bus_mlops.experiments.programs import Programs
    from bus_mlops.training.fit import CellData, fit

    images, labels, masks, (train, validation, test) = noise(options)
    job = Job(Path(), Path(), TrackingConfig(), Path(), None, threads, "benchmark")
    programs = Programs()

    def run(number: int) -> None:
        nonlocal programs
        programs = programs if keep else Programs()
        spec = make_spec(options, number)
        program = programs.get(Cell(spec, 1, "", "", "", "", ""), job)
        fit(program, spec, CellData(images, labels, train, validation, masks), seed=number)
        program.predict(images, test)

    return run


def keras_cell(options: dict[str, Any], threads: int) -> Callable[[int], None]:
    """A function that trains a cell of a network that classifies as a script does; the loss is always plain."""
    import keras
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from bus_mlops.models import zoo

    gray, labels, _, (train, validation, test) = noise(options)
    images = np.repeat(gray[..., np.newaxis], 3, axis=-1).astype(np.float32)

    def run(number: int) -> None:
        keras.backend.clear_session()
        keras.utils.set_random_seed(number)
        spec = make_spec(options, number)
        model = zoo.build(spec)
        model.compile(keras.optimizers.Adam(1e-5), loss={"malignancy": keras.losses.BinaryCrossentropy()})
        given = {"batch_size": 32, "epochs": options["epochs"], "verbose": 0}
        model.fit(images[train], labels[train], validation_data=(images[validation], labels[validation]), **given)
        model.predict(images[test], verbose=0)

    return run


def noise(options: dict[str, Any]) -> tuple[Any, Any, Any, list[Any]]:
    """Gray images (N, S, S), labels, masks, and the indices of the three parts."""
    import numpy as np

    count, size = options["images"], options["size"]
    total, rng = count + 2 * (count // 4), np.random.default_rng(0)
    images = rng.integers(0, 256, (total, size, size), dtype=np.uint8)
    masks = rng.integers(0, 2, (total, size, size), dtype=np.uint8)
    return images, np.arange(total) % 2, masks, np.split(np.arange(total), [count, count + count // 4])


if __name__ == "__main__":
    main()
