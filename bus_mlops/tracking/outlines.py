"""The same test images in every run that predicts masks, with the true and the predicted outline, to page through.

Which images these are is decided once for folds, over sources, classes and how well the networks of that moment did. It
stands in a tag of the experiment: networks that are trained later show the same ones.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.spec import Task
from bus_mlops.tracking.ledger import MASKS, Ledger
from bus_mlops.tracking.views import OUTLINED

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

IMAGES = 8
# Tags: of a run which images it shows, of an experiment which ones runs of some folds are to show.
SHOWN, CHOSEN = "outlines", "outlines."
# Pixels of a side, about as many as the interface shows.
SIDE = 256
GREEN, RED = (64, 220, 96), (235, 64, 52)


def show_outlines(ledger: Ledger, benchmark: Benchmark) -> int:
    """Add the images to those runs of rows that lack them, where their sources are in the benchmark.

    Returns:
        To how many runs.
    """
    by_folds: dict[str, list[Run]] = {}
    for run in ledger.runs("tags.kind = 'spec' and tags.folds_finished LIKE '%' and tags.strategy LIKE '%'"):
        if Task(run.data.params.get("task", Task.CLASSIFICATION)).segments and run.data.tags["folds_finished"]:
            by_folds.setdefault(run.data.tags.get("folds_digest", ""), []).append(run)
    return sum(_show(ledger, benchmark, digest, runs) for digest, runs in by_folds.items())


def _show(ledger: Ledger, benchmark: Benchmark, folds: str, runs: Sequence[Run]) -> int:
    tag = f"{CHOSEN}{folds[:16]}"
    recorded = ledger.client.get_experiment(ledger.experiment).tags.get(tag)
    if recorded and not [run for run in runs if run.data.tags.get(SHOWN) != _words(json.loads(recorded))]:
        return 0
    cells = {run.info.run_id: _cells(ledger, run) for run in runs}
    if recorded:
        chosen = json.loads(recorded)
    else:
        shared = set.intersection(*({*own} for own in cells.values()))
        if not shared:
            return 0
        fold = min(shared)
        chosen = {"fold": fold, "images": choose([ledger.predictions(own[fold]) for own in cells.values()])}
    known = set(benchmark.frame["image_id"])
    if not chosen["images"] or not known.issuperset(chosen["images"]):
        return 0
    if not recorded:
        ledger.client.set_experiment_tag(ledger.experiment, tag, json.dumps(chosen))
    count = 0
    for run in runs:
        cell = cells[run.info.run_id].get(chosen["fold"])
        if cell is not None and run.data.tags.get(SHOWN) != _words(chosen):
            for step, image in enumerate(_pictures(ledger, benchmark, cell, chosen["images"])):
                ledger.client.log_image(run.info.run_id, image, key=OUTLINED, step=step)
            ledger.writer.tag(run.info.run_id, {SHOWN: _words(chosen)})
            count += 1
    return count


def choose(predictions: Sequence[pd.DataFrame], count: int = IMAGES) -> list[str]:
    """Ids of test images, in turn from every source and class: the one with the worst outlines, the best, the median.

    Args:
        predictions: Of each network, of one fold.
        count: At most so many.
    """
    import pandas as pd

    every = pd.concat([each[each["part"] == "test"] for each in predictions])
    means = every.groupby(["source", "label", "image_id"])["dice"].mean().dropna().reset_index()
    queues: list[list[str]] = []
    for _, own in means.groupby(["source", "label"]):
        ids = own.sort_values(["dice", "image_id"])["image_id"].tolist()
        queues.append(list(dict.fromkeys(ids[place] for place in (len(ids) // 2, 0, -1))))
    chosen = [queue[turn] for turn in range(3) for queue in queues if turn < len(queue)]
    return [str(each) for each in chosen[:count]]


def draw(image: npt.NDArray[np.uint8], true: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """An image (S, S) or (S, S, 3) with both outlines, (side, side, 3), enlarged by a whole factor."""
    factor = max(1, SIDE // image.shape[0])
    large = [np.repeat(np.repeat(each, factor, axis=0), factor, axis=1) for each in (image, true, predicted)]
    drawn = np.array(large[0] if image.ndim == 3 else np.repeat(large[0][..., None], 3, axis=2), dtype=np.uint8)
    for mask, color in zip(large[1:], (GREEN, RED), strict=True):
        drawn[_border(mask > 0)] = color
    return drawn


def _border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _pictures(
    ledger: Ledger, benchmark: Benchmark, cell: str, images: Sequence[str]
) -> Iterable[npt.NDArray[np.uint8]]:
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder, np.load(ledger.artifact(cell, MASKS, Path(folder))) as stored:
        size, ids = int(stored["size"]), [str(each) for each in stored["image_id"]]
        predicted = np.unpackbits(stored["packed"], axis=1, count=size * size).reshape(-1, size, size)
    rows = benchmark.frame.set_index("image_id").index.get_indexer(pd.Index(images))
    for image_id, row in zip(images, rows, strict=True):
        yield draw(benchmark.images(size)[row], benchmark.masks(size)[row], predicted[ids.index(image_id)])


def _cells(ledger: Ledger, run: Run) -> dict[int, str]:
    """The finished runs of a row's folds that have masks."""
    found = ledger.finished([run.data.tags["fingerprint"]])
    return {key.fold: run_id for key, run_id in found.items() if MASKS in ledger.artifact_digests(run_id)}


def _words(chosen: Mapping[str, Any]) -> str:
    return f"fold {chosen['fold']}: {', '.join(chosen['images'])}"
