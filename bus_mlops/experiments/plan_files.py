"""The plan files between the stages: one a strategy and one a search, written before any data is touched.

Each training stage depends on its own plan file only, so a changed parameter reruns exactly the strategies
whose rows it changes, and inside them the ledger trains exactly the cells that are new. The versions of the numerics
and of the geometry stand in the files, so that raising one reruns the stages that compute with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from bus_mlops.config import Config
from bus_mlops.config.base import Strict
from bus_mlops.errors import DatasetError
from bus_mlops.experiments.left_out import Planned, planned, write_left_out
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.experiments.search_plan import SearchPlan
from bus_mlops.files import read_json, write_json
from bus_mlops.images.geometry import GEOMETRY_VERSION


def input_sizes(plans: Mapping[str, StrategyPlan], searches: Mapping[str, SearchPlan]) -> list[int]:
    """The image sizes in pixels that the plans need, and those that the searches may choose, ascending."""
    sizes = {part.spec.training.input_size for plan in plans.values() for row in plan.rows for part in row.parts}
    return sorted(sizes.union(*(each.space(start).sizes() for each in searches.values() for start in each.networks)))


def write_plans(config: Config, folder: Path) -> Planned:
    """Write `<strategy>.json`, `search-<name>.json`, `tuned-<name>.json`, `sizes.json` and `left_out.csv`.

    Returns:
        What was written.
    """
    found = planned(config)
    for name, plan in found.plans.items():
        write_json(folder / f"{name}.json", plan.model_dump(mode="json"))
    for name, each in found.searches.items():
        write_json(folder / f"search-{name}.json", each.model_dump(mode="json"))
    sizes = input_sizes(found.plans, found.searches)
    write_json(folder / "sizes.json", {"sizes": sizes, "geometry": GEOMETRY_VERSION})
    write_left_out(folder, found.left_out)
    return found


def read_plan(folder: Path, strategy: str) -> StrategyPlan:
    """Read back the plan of one strategy, or of `tuned-NAME`.

    Raises:
        DatasetError: It has not been written, or by another version.
    """
    return _read(folder, strategy, StrategyPlan, f"Put {strategy!r} into `strategies`")


def read_search_plan(folder: Path, name: str) -> SearchPlan:
    """Read back the plan of one search.

    Raises:
        DatasetError: It has not been written, or by another version.
    """
    return _read(folder, f"search-{name}", SearchPlan, f"Put {name!r} into `searches`")


P = TypeVar("P", bound=Strict)


def _read(folder: Path, name: str, kind: type[P], remedy: str) -> P:
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise DatasetError(
            f"no plan {name!r} in {folder} (there: {known}). {remedy} of params.yaml and run `dvc repro plan`."
        )
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise DatasetError(
            f"{path} is of another version of bus-mlops ({error.errors()[0]['msg']}): run `dvc repro --force plan`."
        ) from error
