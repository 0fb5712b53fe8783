"""Reading what the training stages left under `results/`: predictions, plans, learning curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.errors import EvaluationError
from bus_mlops.files import read_json, sha256_file, write_json

if TYPE_CHECKING:
    import pandas as pd

PREDICTION_COLUMNS = (
    *("strategy", "model", "variant", "network", "fingerprint", "seed", "fold", "part", "image_id"),
    *("case_id", "group", "source", "label", "probability", "dice", "iou"),
)
# What predictions that earlier versions recorded lack: there it is NaN.
ADDED_COLUMNS = ("hd95", "nsd")
CURVE_COLUMNS = (
    "strategy",
    "model",
    "variant",
    "fold",
    "seed",
    "epoch",
    "loss",
    "validation_loss",
    "validation_roc_auc",
)
# What a strategy leaves, and the file that says what the others were and which runs they rest on.
COLLECTED = ("{}.parquet", "{}_curves.csv", "{}_samples.npz")
RUNS_FILE = "{}_runs.json"


@dataclass(frozen=True)
class Heading:
    """What stands above the table of a strategy; `order` is its place among the tables."""

    order: int
    title: str
    explanation: str


@dataclass(frozen=True)
class PlannedRow:
    """One row that a strategy's table must have, and where the paper prints its own number for it.

    Attributes:
        training: That of the row's spec.
        family: "BCE", "WBCE" or "Focal"; groups the rows of a model of which one is chosen on validation.
        validation: By what it was chosen (a fraction), see `families.with_choice`.
        chosen: Whether it was.
        seeds: Those that each fold was planned with; empty when they are not checked.
        standard_errors: By how many of the difference another row of the family must beat the paper's.
        chosen_in: Of a row that stands for its family: the variant that was chosen for each fold (1-based).
        parameters: What was chosen for each fold, of such a row and of one that a search has tuned.
        ensemble: It averages other rows, and has no network of its own.
        choice: How that was chosen: "nested", for each fold on images outside its test part, or "flat".
    """

    strategy: str
    model: str
    variant: str
    cohort: tuple[str, ...]
    folds: tuple[int, ...]
    paper: tuple[int, str, str] | None
    task: str = "classification"
    network: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    family: str | None = None
    validation: float = float("nan")
    chosen: bool = False
    seeds: tuple[int, ...] = ()
    standard_errors: float = 1.0
    chosen_in: Mapping[int, str] = field(default_factory=dict)
    parameters: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    choice: str = ""
    ensemble: bool = False

    @property
    def title(self) -> str:
        """Model and variant, as printed."""
        return f"{self.model} {self.variant}"

    @property
    def names(self) -> dict[str, str]:
        """What names it in a table of rows."""
        return {"strategy": self.strategy, "model": self.model, "variant": self.variant, "network": self.network}

    @property
    def classifies(self) -> bool:
        """Whether there are probabilities; a segmentation row has masks only."""
        return self.task != "segmentation"

    @property
    def headline(self) -> bool:
        """Whether the row is shown first: of a family only the chosen one is."""
        return self.family is None or self.chosen


def read_plans(folder: Path) -> dict[str, list[PlannedRow]]:
    """The planned rows of each strategy from `<strategy>.json`, in the order of the tables.

    Raises:
        EvaluationError: There is none.
    """
    return {name: _planned(values, path) for name, (_, values, path) in _plan_files(folder).items()}


def read_headings(folder: Path) -> dict[str, Heading]:
    """The heading of each strategy that has rows, in the order of the tables.

    Raises:
        EvaluationError: There is none.
    """
    return {name: heading for name, (heading, _, _) in _plan_files(folder).items()}


def _plan_files(folder: Path) -> dict[str, tuple[Heading, dict[str, Any], Path]]:
    plans = {}
    for path in sorted(folder.glob("*.json")):
        values = read_json(path)
        # Beside the strategies lie other plans (search, sizes), and a strategy may have nothing to do.
        if isinstance(values, dict) and values.get("rows") and "strategy" in values:
            try:
                heading = Heading(int(values["order"]), str(values["title"]), str(values["explanation"]))
            except KeyError as error:
                raise EvaluationError(f"{path} lacks {error}: run `dvc repro --force plan`.") from error
            plans[str(values["strategy"])] = heading, values, path
    if not plans:
        raise EvaluationError(f"no strategy is planned in {folder}: run `make reproduce` or `dvc repro` first.")
    return dict(sorted(plans.items(), key=lambda each: (each[1][0].order, each[0])))


def _planned(values: dict[str, Any], path: Path) -> list[PlannedRow]:
    try:
        folds, seeds = (tuple(int(value) for value in values[name]) for name in ("folds", "seeds"))
        rows = []
        for row in values["rows"]:
            paper = row["paper"]
            rows.append(
                PlannedRow(
                    strategy=values["strategy"],
                    model=row["model"],
                    variant=row["variant"],
                    cohort=tuple(row["spec"]["cohort"]),
                    folds=folds,
                    seeds=seeds,
                    paper=(paper["table"], paper["model"], paper["variant"]) if paper else None,
                    task=row["spec"]["task"],
                    network=row["spec"]["network"],
                    training=row["spec"]["training"],
                    family=row.get("family") or None,
                    standard_errors=float(row.get("standard_errors", 1.0)),
                    choice=row.get("choice", ""),
                    ensemble=bool(row.get("members")),
                )
            )
    except (KeyError, TypeError) as error:
        raise EvaluationError(f"{path} lacks {error}: run `dvc repro --force plan`.") from error
    return rows


def with_parameters(rows: Sequence[PlannedRow], folder: Path) -> list[PlannedRow]:
    """The rows of a strategy with what a search has chosen for each fold, as its stage wrote it beside predictions.

    Raises:
        EvaluationError: It is not there of a row that a search tunes, or was chosen otherwise than is planned.
    """
    about = folder / RUNS_FILE.format(rows[0].strategy) if rows else folder
    written = read_json(about).get("chosen", []) if about.is_file() else []
    chosen = {(each["model"], each["variant"]): each for each in written}

    def of(row: PlannedRow) -> PlannedRow:
        if not row.choice:
            return row
        each = chosen.get((row.model, row.variant))
        if each is None or each["choice"] != row.choice:
            raise EvaluationError(
                f"{about} does not say what was chosen ({row.choice}) for each fold of {row.title}: run `dvc repro "
                f"--force {row.strategy.replace('-', '@', 1)}`; what was trained is not trained again."
            )
        return replace(row, parameters={int(fold): values for fold, values in each["parameters"].items()})

    return [of(row) for row in rows]


def seal(
    folder: Path,
    strategy: str,
    runs: Mapping[str, Any],
    chosen: Sequence[Mapping[str, Any]] = (),
    experiment: str = "",
) -> None:
    """Write `<strategy>_runs.json`: the sha256 of what was collected of a strategy, and the runs that it rests on.

    Args:
        folder: With the strategy's other files.
        strategy: Its name.
        runs: Run id -> what it holds: fingerprint, fold, and the sha256 of each of its files.
        chosen: Of each row that a search has tuned: model, variant, choice, and parameters by fold.
        experiment: The id of the runs' experiment in MLflow.
    """
    paths = [folder / name.format(strategy) for name in COLLECTED]
    files = {path.name: sha256_file(path) for path in paths if path.is_file()}
    about = {"experiment": experiment} if experiment else {}
    values = {"files": files, **about, "runs": dict(runs), **({"chosen": list(chosen)} if chosen else {})}
    write_json(folder / RUNS_FILE.format(strategy), values)


def check_collected(folder: Path, strategies: Iterable[str]) -> None:
    """Compare the files of these strategies with what was collected; a strategy without predictions is passed over.

    Raises:
        EvaluationError: A file was changed, is missing, or nothing says what it was.
    """
    for strategy in strategies:
        if not (folder / COLLECTED[0].format(strategy)).is_file():
            continue
        about = folder / RUNS_FILE.format(strategy)
        remedy = f"`dvc repro` collects the predictions of {strategy} from the ledger again; nothing is trained for it."
        try:
            files = read_json(about)["files"]
            found = {name: sha256_file(folder / name) if (folder / name).is_file() else None for name in files}
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            raise EvaluationError(
                f"{about} {reason}: nothing says that {strategy}'s files are whole. {remedy}"
            ) from error
        for name, digest in files.items():
            if found[name] != digest:
                what = "is missing" if found[name] is None else "was changed or cut after it had been collected"
                raise EvaluationError(f"{folder / name} {what} (its sha256 stands in {about.name}). {remedy}")


def read_predictions(path: Path) -> pd.DataFrame:
    """One strategy's predictions, validation and test parts.

    Raises:
        EvaluationError: The file is missing.
    """
    import pandas as pd

    if not path.is_file():
        raise EvaluationError(f"{path} is missing: run `dvc repro` so that strategy {path.stem!r} is trained.")
    return checked_predictions(pd.read_parquet(path), str(path))


def checked_predictions(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The same frame, with NaN in the columns that were added since it was recorded.

    Raises:
        EvaluationError: A column of the contract is missing, or a part is unknown.
    """
    missing = [column for column in PREDICTION_COLUMNS if column not in frame.columns]
    if missing:
        raise EvaluationError(f"{where} lacks the column {missing[0]!r}: train the strategy again.")
    parts = set(frame["part"].unique()) - {"test", "validation"}
    if parts:
        raise EvaluationError(f"{where} has part {min(parts)!r}: only 'test' and 'validation' are known.")
    return frame.assign(**{name: float("nan") for name in ADDED_COLUMNS if name not in frame.columns})


def read_curves(folder: Path, strategies: Iterable[str]) -> pd.DataFrame:
    """Learning curves of the planned strategies (`<strategy>_curves.csv`), one row an epoch; may be empty.

    Curves of other strategies, left in the folder by an earlier plan, are not read.
    """
    import pandas as pd

    frames = []
    for path in (folder / f"{name}_curves.csv" for name in strategies):
        if not path.is_file():
            continue
        frame = pd.read_csv(path)
        missing = [column for column in CURVE_COLUMNS if column not in frame.columns]
        if missing:
            raise EvaluationError(f"{path} lacks the column {missing[0]!r}: train the strategy again.")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(CURVE_COLUMNS))


def select_row(frame: pd.DataFrame, model: str, variant: str) -> pd.DataFrame:
    """The test predictions of one (model, variant)."""
    return frame[(frame["model"] == model) & (frame["variant"] == variant) & (frame["part"] == "test")]


def split_rows(frame: pd.DataFrame, part: str = "test") -> Callable[[PlannedRow], pd.DataFrame]:
    """`select_row` for many rows of one strategy: the frame is split once. A row without predictions gets none."""
    chosen = frame[frame["part"] == part]
    parts = {(str(key[0]), str(key[1])): rows for key, rows in chosen.groupby(["model", "variant"], sort=False)}
    return lambda row: parts.get((row.model, row.variant), chosen.iloc[:0])


def resampling_ratio(folds: pd.DataFrame, row: PlannedRow) -> float:
    """n_test / n_train on the row's cohort, the mean over its folds.

    Raises:
        EvaluationError: A fold has no train images.
    """
    parts = [parts_of(folds, fold, row.cohort, row.training.get("validation")) for fold in row.folds]
    counts = [((part == "test").sum(), (part == "train").sum()) for part in parts]
    if any(train == 0 for _, train in counts):
        raise EvaluationError(f"{row.strategy}: {row.title}: a fold has no train image: run `dvc repro folds`.")
    return float(np.mean([test / train for test, train in counts]))


def expected_images(folds: pd.DataFrame, cohort: Iterable[str], fold: int) -> set[str]:
    """The images that a row on `cohort` must predict in the test part of `fold` (1-based), from folds.csv."""
    column = f"fold_{fold}"
    if column not in folds.columns:
        raise EvaluationError(f"folds.csv has no {column}: the plan is for other folds; run `dvc repro`.")
    chosen = (folds[column] == "test") & folds["source"].isin(list(cohort))
    return set(folds.loc[chosen, "image_id"])
