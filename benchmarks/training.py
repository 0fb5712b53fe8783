"""How fast cells train, against Keras's own loop and against a plain script, in one run.

    python benchmarks/training.py --network mobilenet --size 96 --images 256

(a) ours: gray uint8 arrays, the paper's augmentation in the graph, deterministic operations.
(b) bare: `model.fit` on float32 arrays that lie ready in memory, without any augmentation.
(c) script: every file decoded and resized with OpenCV once, then `ImageDataGenerator` with the same four
    augmentations and `model.fit`.

Each way has a process of its own, pinned to the same cores; they train one epoch at a time in turn, so that a
busy machine slows all of them alike. Printed are medians over the rounds after the first epoch, which compiles,
in wall-clock seconds and in CPU seconds: the latter hold on a machine that others use, and are the same thing on
one idle core. Images are noise: only time is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np

from bus_mlops import limits
from bus_mlops.config import Training
from bus_mlops.environment import quiet
from bus_mlops.models.zoo import entry
from bus_mlops.spec import RunSpec

FILE_SHAPE = (470, 560)  # rows and columns of a typical image of BUSI
WAYS = ("ours", "bare", "script")


class Seconds(NamedTuple):
    """What an epoch took."""

    wall: float
    cpu: float


def main() -> None:
    """Start the three processes, let them train in turn, print rates and ratios."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenet")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bus-training-") as folder:
        write_files(Path(folder), arguments.images)
        first, rounds = measure(arguments, folder)
    print(f"{arguments.network} at {arguments.size} px, batch 32, {arguments.threads} threads")
    for clock in Seconds._fields:
        seconds = {way: [getattr(epoch, clock) for epoch in rounds[way]] for way in WAYS}
        for way in WAYS:
            rate = arguments.images / statistics.median(seconds[way])
            began = getattr(first[way], clock)
            print(f"  {clock} time, {way:6s}: {rate:7.1f} images a second; first epoch {began:.1f} s")
        for other in WAYS[1:]:
            ratios = [theirs / own for own, theirs in zip(seconds[WAYS[0]], seconds[other], strict=True)]
            print(
                f"  {clock} time, ours is {statistics.median(ratios):.3f} times as fast as {other} "
                f"({min(ratios):.3f} to {max(ratios):.3f} round by round)"
            )


def measure(arguments: argparse.Namespace, folder: str) -> tuple[dict[str, Seconds], dict[str, list[Seconds]]]:
    """Seconds of the first epoch of each way, and of its later ones, round by round."""
    context = get_context("spawn")
    cores = limits.cores()[-arguments.threads :]
    ends: dict[str, Connection] = {}
    processes = []
    for way in WAYS:
        ends[way], theirs = context.Pipe()
        process = context.Process(target=serve, args=(way, theirs, cores, vars(arguments), folder), daemon=True)
        process.start()
        theirs.close()
        processes.append(process)
        ends[way].recv()  # ready: libraries loaded, network built, files read

    def epoch(way: str) -> Seconds:
        ends[way].send(True)
        return Seconds(*ends[way].recv())

    first = {way: epoch(way) for way in WAYS}
    rounds: dict[str, list[Seconds]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            rounds[way].append(epoch(way))
    for way in WAYS:
        ends[way].send(False)
    for process in processes:
        process.join()
    return first, rounds


def serve(way: str, connection: Connection, cores: list[int], options: dict[str, Any], folder: str) -> None:
    """The life of one process: one epoch for every word, answered with its seconds."""
    os.sched_setaffinity(0, cores)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    cv2.setNumThreads(len(cores))
    epochs = {"ours": ours, "bare": bare, "script": script}[way](options, Path(folder), len(cores))
    connection.send(True)
    while connection.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        next(epochs)
        connection.send((time.perf_counter() - wall, time.process_time() - cpu))


def ours(options: dict[str, Any], folder: Path, threads: int) -> Iterator[None]:
    """Way (a): the program and the epoch of `bus_mlops.training`."""
    from bus_mlops.training.process import configure_process

    configure_process(threads)
    from bus_mlops.training.fit import CellData, train_epoch
    from bus_mlops.training.program import Program

    images = np.ascontiguousarray(read_files(folder, options["size"])[..., 0])
    masks = np.zeros_like(images)
    spec = make_spec(options)
    program = Program(spec)
    program.reset(spec, 0)
    every = np.arange(len(images))
    data = CellData(images, labels(len(images)), every, None, masks if spec.task.segments else None)

    def epochs() -> Iterator[None]:
        for epoch in range(1, 1000):
            train_epoch(program, spec, data, 0, epoch)
            yield

    return epochs()


def bare(options: dict[str, Any], folder: Path, threads: int) -> Iterator[None]:
    """Way (b): `model.fit` on ready arrays."""
    images = read_files(folder, options["size"]).astype(np.float32)
    return fits(options, threads, lambda model: model.fit(images, labels(len(images)), batch_size=32, verbose=0))


def script(options: dict[str, Any], folder: Path, threads: int) -> Iterator[None]:
    """Way (c): Keras's legacy generator on images read once, `model.fit`."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    images = read_files(folder, options["size"]).astype(np.float32)
    generator = ImageDataGenerator(
        rotation_range=20, width_shift_range=0.2, height_shift_range=0.2, horizontal_flip=True, fill_mode="nearest"
    )
    flow = generator.flow(images, labels(len(images)), batch_size=32, seed=0)
    return fits(options, threads, lambda model: model.fit(flow, verbose=0))


def fits(options: dict[str, Any], threads: int, epoch: Callable[[Any], object]) -> Iterator[None]:
    """The network compiled as a script does it, and `epoch` of it again and again."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from bus_mlops.models import zoo

    model = zoo.build(make_spec(options))
    loss = {"malignancy": keras.losses.BinaryCrossentropy()}
    model.compile(optimizer=keras.optimizers.Adam(1e-5), loss=loss)

    def epochs() -> Iterator[None]:
        while True:
            epoch(model)
            yield

    return epochs()


def make_spec(options: dict[str, Any]) -> RunSpec:
    """The paper's protocol for this network and size, from random weights."""
    network = entry(options["network"])
    return RunSpec(
        network=network.name,
        options=network.resolve({}),
        cohort=("busi",),
        task=network.task,
        training=Training(input_size=options["size"], weights="random"),
        seed=0,
    )


def labels(count: int) -> np.ndarray:
    """Benign and malignant in turn."""
    return np.arange(count) % 2


def write_files(folder: Path, count: int) -> None:
    """PNG files of smooth noise, gray, of a usual size."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (FILE_SHAPE[0] // 4, FILE_SHAPE[1] // 4), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:05d}.png"), cv2.resize(coarse, FILE_SHAPE[::-1]))


def read_files(folder: Path, size: int) -> np.ndarray:
    """All files, resized: uint8 (N, S, S, 3)."""
    return np.stack([cv2.resize(cv2.imread(str(path)), (size, size)) for path in sorted(folder.glob("*.png"))])


if __name__ == "__main__":
    main()
