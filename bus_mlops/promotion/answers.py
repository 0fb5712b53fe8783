"""What a package answers about the images that its candidate is judged on, each asked of networks that never saw it.

An image of a fold's test part is asked of the package as a consumer asks: through preprocessing, ONNX and the
combination of members, restricted to the members of that fold. These answers are what the gate judges, and they are
kept beside the evidence, so that the judgement can be recomputed without the networks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bus_mlops.consumer.client import BusModel
from bus_mlops.errors import RegistryError
from bus_mlops.evaluation.cells import CELL
from bus_mlops.gate.ensemble import calibrated, calibrations_of
from bus_mlops.promotion.recomputation import members_of, other_images
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.spec import CellKey

if TYPE_CHECKING:
    import pandas as pd

    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.dataset.folds.assignment import Folds

ANSWERS_FILE = "answers.csv"


@dataclass(frozen=True)
class Answers:
    """What a package answered: one row an image, fold and seed, with the member's calibrated probability (0-1).

    `unasked` says why the rest of the judged images, or all, could not be asked.
    """

    frame: pd.DataFrame = field(repr=False)
    unasked: str = ""


def ask(package: BusModel, candidate: TrainedModel, folds: Folds, benchmark: Benchmark) -> Answers:
    """Ask a package about its candidate's test images, fold by fold.

    Raises:
        RegistryError: It gives no answer for an image.
    """
    import pandas as pd

    none = pd.DataFrame({name: [] for name in [*CELL, "image_id", "probability"]})
    problem = other_images(candidate, folds, benchmark)
    if problem:
        return Answers(none, problem)
    of_run = members_of(package)
    members: dict[int, list[CellKey]] = {}
    for cell in sorted(candidate.runs):
        if candidate.runs[cell] in of_run:
            members.setdefault(cell.fold, []).append(cell)
    if not members:
        return Answers(none, "it holds none of the networks of the folds")
    images = benchmark.images(package.package.input_size)
    index = benchmark.frame.set_index("image_id")["index"]
    test = candidate.part("test")
    found = []
    for fold, cells in members.items():
        names = sorted(test.loc[test["fold"] == fold, "image_id"].unique())
        places = [of_run[candidate.runs[cell]] for cell in cells]
        squares = (np.asarray(images[i]) for i in index.reindex(names).to_numpy())
        for name, row in zip(names, package.stream(squares, members=places, refuse=False), strict=True):
            if row.members is None:
                raise RegistryError(f"the package gives no answer for {name}, on which it is judged: {row.error}")
            found += [(*cell, name, p) for cell, p in zip(cells, row.members, strict=True)]
    lacking = sorted({cell.fold for cell in candidate.runs} - set(members))
    left = f"it holds no network of fold {', '.join(map(str, lacking))}" if lacking else ""
    return Answers(pd.DataFrame(found, columns=[*CELL, "image_id", "probability"]), left)


class Distance(NamedTuple):
    """How many answers were held against recorded predictions, and the greatest difference (0-1) of one."""

    asked: int
    greatest: float


def distance_from_recorded(candidate: TrainedModel, answers: pd.DataFrame | None) -> Distance:
    """How far a package's members answer from what the runs of its candidate recorded, both calibrated alike.

    NaN where an answer has no counterpart.
    """
    calibrations = calibrations_of(candidate.predictions)
    if answers is None or answers.empty or calibrations is None:
        return Distance(0, float("nan"))
    place = [*CELL, "image_id"]
    recorded = calibrated(candidate.part("test"), calibrations)[[*place, "probability"]]
    both = answers.merge(recorded, on=place, how="left", suffixes=("", "_recorded"))
    apart = (both["probability"] - both["probability_recorded"]).abs()
    return Distance(len(answers), float(apart.max(skipna=False)))


def write_answers(folder: Path, answers: Answers) -> None:
    """Write the answers beside the evidence, if there are any."""
    if len(answers.frame):
        answers.frame.to_csv(folder / ANSWERS_FILE, index=False)


def read_answers(folder: Path) -> pd.DataFrame | None:
    """The answers beside an evidence; None where the package was not asked."""
    import pandas as pd

    path = folder / ANSWERS_FILE
    return pd.read_csv(path) if path.is_file() else None
