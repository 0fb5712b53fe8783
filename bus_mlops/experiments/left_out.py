"""Rows whose pretrained weights cannot be had: an error once they are trained, or left out of the plan by name.

Only with `missing_weights: leave_out` is anything left out, and it is told: by the stage `plan`, and in
`results/plan/left_out.csv`, which summary and report read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bus_mlops.config import Config
from bus_mlops.config.base import Strict
from bus_mlops.errors import WeightsError
from bus_mlops.experiments.plan import StrategyPlan, make_plans
from bus_mlops.experiments.search_plan import SearchPlan, make_search_plans
from bus_mlops.experiments.strategies import Row
from bus_mlops.files import replacing
from bus_mlops.models.weight_files import pretrained_weights
from bus_mlops.models.zoo import entry
from bus_mlops.paths import LEFT_OUT_FILE
from bus_mlops.spec import RunSpec

# Kind of weights, and the application whose they are.
Start = tuple[str, str]


class LeftOut(Strict):
    """A row that is not trained, named as it would be in its table, and why."""

    strategy: str
    network: str
    variant: str
    reason: str

    @property
    def sentence(self) -> str:
        """For people."""
        return f"left out: {self.strategy}: {self.network} {self.variant}: {self.reason}"


class Planned(Strict):
    """What is to be trained and searched, and the rows that are left out."""

    plans: dict[str, StrategyPlan]
    searches: dict[str, SearchPlan]
    left_out: tuple[LeftOut, ...]


def planned(config: Config) -> Planned:
    """The plans of a configuration, without the rows that it lets be left out.

    Weights that are on no disk are downloaded.

    Raises:
        ConfigError: As `make_plans` and `make_search_plans`.
    """
    plans, searches = make_plans(config), make_search_plans(config)
    if config.missing_weights == "error":
        return Planned(plans=plans, searches=searches, left_out=())
    specs = [part.spec for plan in plans.values() for row in plan.rows for part in row.parts]
    specs += [start.start for search in searches.values() for start in search.networks]
    missing = _missing(specs, config.weights_folder)
    return Planned(
        plans={
            name: plan.model_copy(update={"rows": tuple(r for r in plan.rows if not _reason_of(r, missing))})
            for name, plan in plans.items()
        },
        searches={name: _without(search, missing) for name, search in searches.items()},
        left_out=tuple(_left_out(plans, missing)),
    )


def write_left_out(folder: Path, rows: Iterable[LeftOut]) -> None:
    """Write `left_out.csv` into a folder: a line a row, only its header where nothing is left out."""
    with replacing(folder / LEFT_OUT_FILE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(LeftOut.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.model_dump() for row in rows)


def read_left_out(folder: Path) -> list[LeftOut]:
    """The rows that the plan in a folder leaves out; none where it was written by an earlier version."""
    path = folder / LEFT_OUT_FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [LeftOut.model_validate(values) for values in csv.DictReader(file)]


def _missing(specs: Iterable[RunSpec], folder: Path | None) -> dict[Start, str]:
    """What of that which the specs start from cannot be had, and why."""
    missing = {}
    for weights, backbone in dict.fromkeys(filter(None, map(_start, specs))):
        try:
            pretrained_weights(weights, backbone, folder)
        except WeightsError as error:
            where = "weights_folder, Keras's cache" if folder else "Keras's cache"
            missing[weights, backbone] = (
                f"no ImageNet weights of {backbone} in {where} or by download ({error.__cause__})"
                if weights == "imagenet"
                else f"no RadImageNet weights of {backbone} in {where}"
            )
    return missing


def _start(spec: RunSpec) -> Start | None:
    """The weights that a spec starts from, and the application whose they are; None for random ones."""
    weights = spec.training.weights
    return None if weights == "random" else (weights, entry(spec.network).backbone_of(spec.options))


def _reason(spec: RunSpec, missing: Mapping[Start, str]) -> str:
    start = _start(spec)
    return "" if start is None else missing.get(start, "")


def _reason_of(row: Row, missing: Mapping[Start, str]) -> str:
    """Of an ensemble it is that of the first member which is left out."""
    return next(filter(None, (_reason(part.spec, missing) for part in row.parts)), "")


def _without(search: SearchPlan, missing: Mapping[Start, str]) -> SearchPlan:
    reasons = [_reason(each.start, missing) for each in search.networks]
    kept = tuple(each for each, reason in zip(search.networks, reasons, strict=True) if not reason)
    gone = "" if kept else next(filter(None, reasons), "")
    return search.model_copy(update={"networks": kept, "left_out": gone})


def _left_out(plans: Mapping[str, StrategyPlan], missing: Mapping[Start, str]) -> Iterator[LeftOut]:
    for name, plan in plans.items():
        for row in plan.rows:
            if reason := _reason_of(row, missing):
                yield LeftOut(strategy=name, network=row.model, variant=row.variant, reason=reason)
