"""Which row of a family (the weights of Table 6, its focal pairs) is chosen: for each fold, on its own validation part.

A choice made once on all validation parts would rest on test images: what validates in one fold is tested in others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import by_cell
from bus_mlops.evaluation.choice import Candidate, choose, mean_value
from bus_mlops.evaluation.results import PlannedRow, split_rows
from bus_mlops.evaluation.search_words import labels, shown

if TYPE_CHECKING:
    import pandas as pd

CRITERION = "f1"
PER_FOLD = "chosen per fold"


def with_choice(predictions: pd.DataFrame, planned: Sequence[PlannedRow]) -> list[PlannedRow]:
    """The same rows, and in front of each (model, family) of several rows the one that stands for it.

    It is marked `chosen`, and its `chosen_in` says which row was chosen for each fold: by the rule of
    `evaluation.choice` on the mean validation F1 at 0.5 of all seeds of that fold, where the first candidate is the
    row with the paper's parameters (else the first of the plan). `compose` makes its predictions. A family of one row
    is chosen as it is.

    The paper says that it chose on validation, not by which metric. Of its seven, F1 is the only one that explains
    what it printed: in Table 6 weighting lowers accuracy, specificity and balanced accuracy of every network below
    that of cross-entropy, which is weight 1 of the grid, and sensitivity alone would favour the largest weight. F1 has
    a price: where half of the images are malignant, calling everything malignant scores 0.67.

    Raises:
        EvaluationError: A row has no validation predictions of a fold, or they cannot be measured.
    """
    select = split_rows(predictions, "validation")
    families: dict[tuple[str, str], list[PlannedRow]] = {}
    for row in planned:
        if row.family:
            families.setdefault((row.model, row.family), []).append(row)
    parts = {row.title: _by_fold(select(row), row) for rows in families.values() for row in rows}
    found = []
    for row in planned:
        if row.family is None:
            found.append(row)
            continue
        family = families[row.model, row.family]
        if row is family[0] and len(family) > 1:
            found.append(_chosen(family, parts))
        value = float(np.mean([_value(steps, row, fold) for fold, steps in parts[row.title].items()]))
        found.append(replace(row, validation=value, chosen=len(family) == 1))
    return found


def compose(frame: pd.DataFrame, planned: Iterable[PlannedRow]) -> pd.DataFrame:
    """A frame by strategy, model, variant and fold, and after it the lines of the rows that `with_choice` has added.

    Of each fold they are those of the row that was chosen for it.
    """
    import pandas as pd

    added = []
    for row in planned:
        for fold, variant in row.chosen_in.items():
            own = (frame["strategy"] == row.strategy) & (frame["model"] == row.model)
            lines = frame[own & (frame["variant"] == variant) & (frame["fold"] == fold)]
            added.append(lines.assign(variant=row.variant))
    return pd.concat([frame, *added], ignore_index=True) if added else frame


def parameters_of(variant: str) -> dict[str, Any]:
    """What stands in the parentheses of a variant, or the variant itself.

    >>> parameters_of("Focal(gamma=2,alpha=0.5), from scratch"), parameters_of("BCE")
    ({'gamma': '2', 'alpha': '0.5'}, {'variant': 'BCE'})
    """
    found = re.findall(r"(\w+)=([^,()]+)", variant)
    return dict(found) if found else {"variant": variant}


def in_words(parameters: Mapping[int, Mapping[str, Any]]) -> str:
    """What was chosen for each fold, in their order, and how much that varies.

    >>> in_words({1: {"w_z": "3"}, 2: {"w_z": "3"}, 3: {"w_z": "5"}})
    'w_z 3, 3, 5 (2 choices in 3 folds)'
    >>> in_words({1: {"loss.gamma": 2.0}, 2: {"loss.gamma": 2.0}})
    'gamma 2 (the same in 2 folds)'
    """
    folds = [parameters[fold] for fold in sorted(parameters)]
    names = labels(name for each in folds for name in each)
    different = len({str(sorted(each.items())) for each in folds})
    said = []
    for path, label in names.items():
        name = label if "." in path else path  # such as the paper's w_z
        values = [shown(each.get(path, "-")) for each in folds]
        said.append(f"{name} {values[0] if len(set(values)) == 1 else ', '.join(values)}")
    count = f"the same in {len(folds)} folds" if different == 1 else f"{different} choices in {len(folds)} folds"
    return f"{'; '.join(said)} ({count})"


def _chosen(family: Sequence[PlannedRow], parts: Mapping[str, Mapping[int, list[pd.DataFrame]]]) -> PlannedRow:
    printed = next((row for row in family if row.paper is not None), family[0])
    ordered = [printed, *(row for row in family if row is not printed)]
    chosen, values = {}, []
    for fold in printed.folds:
        candidates = [
            Candidate(number, parameters_of(row.variant), _value(steps, row, fold), steps)
            for number, (row, steps) in enumerate((row, parts[row.title][fold]) for row in ordered)
        ]
        number = choose(candidates, CRITERION, printed.standard_errors).number
        chosen[fold] = ordered[number].variant
        values.append(candidates[number].value)
    scratch = ", from scratch" if printed.variant.endswith(", from scratch") else ""
    return replace(
        printed,
        variant=f"{printed.family}, {PER_FOLD}{scratch}",
        # The paper's number stands beside its own parameters.
        paper=printed.paper if set(chosen.values()) == {printed.variant} else None,
        chosen=True,
        choice="nested",
        validation=float(np.mean(values)),
        chosen_in=chosen,
        parameters={fold: parameters_of(variant) for fold, variant in chosen.items()},
    )


def _by_fold(part: pd.DataFrame, row: PlannedRow) -> dict[int, list[pd.DataFrame]]:
    """The validation predictions of each fold, seed by seed."""
    cells: dict[int, list[pd.DataFrame]] = {}
    for (fold, _), cell in by_cell(part):
        cells.setdefault(fold, []).append(cell.sort_values("image_id"))
    missing = [fold for fold in row.folds if fold not in cells]
    if missing:
        raise EvaluationError(
            f"{row.strategy}: {row.title} has no validation predictions to choose by in fold {missing[0]}: "
            f"run `dvc repro train@{row.strategy}`."
        )
    return cells


def _value(steps: Sequence[pd.DataFrame], row: PlannedRow, fold: int) -> float:
    try:
        return mean_value(steps, CRITERION)
    except EvaluationError as error:
        raise EvaluationError(f"{row.strategy}: {row.title}, validation part of fold {fold}: {error}") from error
