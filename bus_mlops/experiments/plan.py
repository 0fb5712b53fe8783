"""From the configuration to what must be trained: one file per strategy, compiled before any data is touched.

Each training stage depends on its own plan file only, so a changed parameter reruns exactly the strategies
whose rows it changes, and inside them the ledger trains exactly the cells that are new. The versions of the numerics
and of the geometry stand in the files, so that raising one reruns the stages that compute with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bus_mlops.config import Config, NetworkChoice, Search
from bus_mlops.config.base import Strict
from bus_mlops.config.searches import Value
from bus_mlops.errors import DatasetError
from bus_mlops.experiments.space import Space
from bus_mlops.experiments.starts import Start, starts_of
from bus_mlops.experiments.strategies import STRATEGIES, Row, Strategy
from bus_mlops.experiments.strategies.tuned import candidate_spec, tuned
from bus_mlops.files import read_json, write_json
from bus_mlops.images.geometry import GEOMETRY_VERSION
from bus_mlops.models.zoo import entry
from bus_mlops.spec import NUMERICS_VERSION, RunSpec

# The paper's tables end with 9.
AFTER_THE_TABLES = 10


class StrategyPlan(Strict):
    """The rows of one strategy, the folds (1-based) and seeds that each is trained with, and how its table is shown."""

    strategy: str
    order: int
    title: str
    explanation: str
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    numerics: int = NUMERICS_VERSION

    def specs(self, row: Row, fold: int) -> list[RunSpec]:
        """The specs of a row on a fold (1-based), one for each seed."""
        return [row.spec_of(fold).model_copy(update={"seed": seed}) for seed in self.seeds]

    def trainings(self, row: Row) -> list[tuple[RunSpec, list[int]]]:
        """Each spec of a row with its folds: a spec a seed, or several where a search chose for each fold."""
        found: dict[str, tuple[RunSpec, list[int]]] = {}
        for specs in zip(*(self.specs(row, fold) for fold in self.folds), strict=True):
            for fold, spec in zip(self.folds, specs, strict=True):
                found.setdefault(str(spec.canonical()), (spec, []))[1].append(fold)
        return list(found.values())

    def unique_specs(self) -> list[RunSpec]:
        """The specs without repetition, in the order of the rows."""
        return _unique(spec for row in self.rows for spec, _ in self.trainings(row))


class SearchStart(Strict):
    """A network of a search: what its trials change, and what the first of them is.

    Attributes:
        first: The value of each path that applies.
        title: The network as in tables.
    """

    network: str
    start: RunSpec
    first: dict[str, Value]
    title: str


class SearchPlan(Strict):
    """One search: its settings, the networks that it has a start for, and the folds (1-based) to choose for."""

    name: str
    settings: Search
    networks: tuple[SearchStart, ...]
    folds: tuple[int, ...]
    seed: int
    numerics: int = NUMERICS_VERSION

    @property
    def flat_folds(self) -> tuple[int, ...]:
        """The folds on which a search that is not nested judges its trials."""
        return self.settings.folds or self.folds[:1]

    def space(self, network: SearchStart) -> Space:
        """What may be changed of a network.

        Raises:
            ConfigError: As `Space.of`.
        """
        return Space.of(self.settings.space, network.start, f"searches.{self.name}.space")


def make_plans(config: Config) -> dict[str, StrategyPlan]:
    """The plan of each strategy of the profile, and `tuned`, which has no row if the profile lacks its network."""
    plans = {}
    for name in config.strategies:
        strategy = STRATEGIES.get_known(name)
        plans[name] = _plan(config, strategy, strategy.settings_of(config))
    # The tuned network is compared with those of `approaches`, so it gets as many seeds.
    candidate = tuned(config)
    plans[candidate.name] = _plan(config, candidate, config.strategy_settings.of("approaches", NetworkChoice))
    for number, (name, search) in enumerate(config.searches.items()):
        tuned_by = _tuned_plan(config, name, starts_of(config, name, search), AFTER_THE_TABLES + number)
        plans[tuned_by.strategy] = tuned_by
    return plans


def _plan(config: Config, strategy: Strategy[Any], settings: NetworkChoice) -> StrategyPlan:
    rows = tuple(strategy.make_rows(config, settings))
    # The rows of a strategy are trained on the same images, so on the same folds.
    cohort = {source for row in rows for source in row.spec.cohort} or config.cohorts["multitask"]
    return StrategyPlan(
        strategy=strategy.name,
        order=strategy.order,
        title=strategy.title,
        explanation=strategy.explanation,
        folds=config.folds_of(cohort),
        seeds=tuple(range(config.seed, config.seed + settings.seeds)),
        rows=rows,
    )


def tuned_name(search: str) -> str:
    """What the networks are called that a search has chosen for, among strategies; no strategy can be called so.

    >>> tuned_name("focal")
    'tuned-focal'
    """
    return f"tuned-{search}"


def _tuned_plan(config: Config, name: str, starts: list[Start], order: int) -> StrategyPlan:
    """One row for each network of a search, with the start's spec until something is chosen."""
    search = config.searches[name]
    settings = STRATEGIES.get_known(search.strategy).settings_of(config)
    there = [each.row.spec.network for each in starts] or search.network
    labels = list(dict.fromkeys(entry(network).label for network in there))
    models = " and ".join(labels) if len(labels) < 3 else f"{len(labels)} networks"
    how = "for each fold on images outside its test part" if search.nested else "once, on images that are tested on"
    return StrategyPlan(
        strategy=tuned_name(name),
        order=order,
        title=f"{models} after the search {name}",
        explanation=f"As in the strategy {search.strategy}, with what the search {name} chose {how}: "
        f"{', '.join(search.space)}.",
        folds=config.folds_of(starts[0].row.spec.cohort if starts else config.cohorts["multitask"]),
        seeds=tuple(range(config.seed, config.seed + settings.seeds)),
        rows=tuple(_tuned_row(each, search) for each in starts),
    )


def _tuned_row(start: Start, search: Search) -> Row:
    """Named as the paper's row that it stands beside, without what was chosen: `WBCE, tuned` or `Multi, tuned`."""
    spec, scratch = start.row.spec, ", from scratch"
    kept = {name: value for name, value in spec.options.items() if f"options.{name}" not in search.space}
    variant = start.beside.family or start.beside.variant.removesuffix(scratch)
    end = scratch if start.row.variant.endswith(scratch) else ""
    return Row(
        model=entry(spec.network).title(kept),
        variant=f"{variant}, tuned{end}",
        paper=start.beside.paper,
        spec=spec,
        choice="nested" if search.nested else "flat",
    )


def make_search_plans(config: Config) -> dict[str, SearchPlan]:
    """The plan of each search of the profile; without a network where the profile lacks all of its networks.

    Raises:
        ConfigError: Names what of a search cannot be.
    """
    return {
        name: _search_plan(config, name, starts_of(config, name, search)) for name, search in config.searches.items()
    }


def _search_plan(config: Config, name: str, starts: list[Start]) -> SearchPlan:
    return SearchPlan(
        name=name,
        settings=config.searches[name],
        networks=tuple(
            SearchStart(network=each.row.spec.network, start=each.row.spec, first=each.first, title=each.row.model)
            for each in starts
        ),
        folds=config.folds_of(starts[0].row.spec.cohort) if starts else (),
        seed=config.seed,
    )


def search_plan(config: Config) -> dict[str, Any]:
    """What the search tries: the base spec, the space and the folds whose validation parts judge it."""
    spec = candidate_spec(config)
    if spec is None:
        return {"spec": None}
    if config.search.epochs is not None:
        training = spec.training.model_copy(update={"epochs": config.search.epochs})
        spec = spec.model_copy(update={"training": training})
    search = config.search.model_dump(mode="json")
    return {"spec": spec.model_dump(mode="json"), "search": search, "numerics": NUMERICS_VERSION}


def unique_specs(plans: dict[str, StrategyPlan]) -> list[RunSpec]:
    """The specs of all plans without repetition."""
    return _unique(spec for plan in plans.values() for spec in plan.unique_specs())


def _unique(specs: Iterable[RunSpec]) -> list[RunSpec]:
    seen: dict[str, RunSpec] = {}
    for spec in specs:
        seen.setdefault(str(spec.canonical()), spec)
    return list(seen.values())


def input_sizes(plans: Mapping[str, StrategyPlan], searches: Mapping[str, SearchPlan]) -> list[int]:
    """The image sizes in pixels that the plans need, and those that the searches may choose, ascending."""
    sizes = {row.spec.training.input_size for plan in plans.values() for row in plan.rows}
    return sorted(sizes.union(*(each.space(start).sizes() for each in searches.values() for start in each.networks)))


def write_plans(config: Config, folder: Path) -> dict[str, StrategyPlan]:
    """Write `<strategy>.json`, `search.json` and `sizes.json` into a folder.

    Returns:
        The plan of each strategy.
    """
    plans = make_plans(config)
    for name, plan in plans.items():
        write_json(folder / f"{name}.json", plan.model_dump(mode="json"))
    write_json(folder / "search.json", search_plan(config))
    searches = make_search_plans(config)
    for name, each in searches.items():
        write_json(folder / f"search-{name}.json", each.model_dump(mode="json"))
    write_json(folder / "sizes.json", {"sizes": input_sizes(plans, searches), "geometry": GEOMETRY_VERSION})
    return plans


def read_plan(folder: Path, strategy: str) -> StrategyPlan:
    """Read back one strategy's plan.

    Raises:
        DatasetError: It has not been written, or by another version.
    """
    path = folder / f"{strategy}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise DatasetError(
            f"no plan for strategy {strategy!r} in {folder} (there: {known}). "
            "Put it into `strategies` of params.yaml and run `dvc repro plan`."
        )
    try:
        return StrategyPlan.model_validate(read_json(path))
    except ValidationError as error:
        raise DatasetError(
            f"{path} is of another version of bus-mlops ({error.errors()[0]['msg']}): run `dvc repro --force plan`."
        ) from error
