"""From the configuration to what must be trained: one file per strategy, compiled before any data is touched.

Each training stage depends on its own plan file only, so a changed parameter reruns exactly the strategies
whose rows it changes, and inside them the ledger trains exactly the cells that are new. The versions of the numerics
and of the geometry stand in the files, so that raising one reruns the stages that compute with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from bus_mlops.config import Config, NetworkChoice, Search
from bus_mlops.config.base import Strict
from bus_mlops.config.searches import Value
from bus_mlops.errors import ConfigError, DatasetError
from bus_mlops.experiments.space import Space
from bus_mlops.experiments.starts import Start, starts_of
from bus_mlops.experiments.strategies import STRATEGIES, Row, Strategy
from bus_mlops.files import read_json, write_json
from bus_mlops.images.geometry import GEOMETRY_VERSION
from bus_mlops.models.zoo import entry
from bus_mlops.spec import NUMERICS_VERSION, RunSpec

# Samplers that try every combination once.
EXHAUSTIVE = ("grid", "brute_force")
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

    @property
    def missing(self) -> str:
        """Why a search without networks has none."""
        verb = "is" if len(self.settings.network) == 1 else "are"
        return f"{' and '.join(self.settings.network)} {verb} not among the networks of params.yaml"

    @property
    def explanation(self) -> str:
        """What there is to do, in words."""
        if not self.networks:
            return f"no search {self.name}: {self.missing}"
        search = self.settings
        cells = sum(self.cells(each) for each in self.networks)
        how = f"{search.inner_folds} inner folds of each" if search.inner_folds else "the validation part of each"
        where = f"{len(self.folds)} folds, {how}" if search.nested else f"folds {', '.join(map(str, self.flat_folds))}"
        names = ", ".join(each.network for each in self.networks)
        return f"search {self.name} of {names} ({search.engine}, {search.sampler}) on {where}: up to {cells} cells"

    def trials(self, network: SearchStart) -> int:
        """How many trials a study of a network has at most; those that fail do not count.

        Raises:
            ConfigError: Every combination is asked for, and they cannot be listed.
        """
        search = self.settings
        if search.trials is not None and search.sampler not in EXHAUSTIVE:
            return search.trials
        whole = len(self.space(network).grid())  # the first trial among them
        return min(whole, search.trials or whole)

    def cells(self, network: SearchStart) -> int:
        """How many trainings the trials of a network are, if nothing is stopped or was trained before."""
        studies = len(self.folds) if self.settings.nested else 1
        steps = self.settings.steps if self.settings.nested else len(self.flat_folds) * self.settings.seeds
        return self.trials(network) * studies * steps

    def space(self, network: SearchStart) -> Space:
        """What may be changed of a network.

        Raises:
            ConfigError: As `Space.of`.
        """
        return Space.of(self.settings.space, network.start, f"searches.{self.name}.space")


def make_plans(config: Config) -> dict[str, StrategyPlan]:
    """The plan of each strategy of the profile, and of `tuned-NAME` for each search NAME.

    The latter has no row if the profile lacks the networks of the search.

    Raises:
        ConfigError: Names what cannot be planned.
    """
    candidate = config.promotion.candidate_network
    if candidate in config.networks and not entry(candidate).task.classifies:
        raise ConfigError(
            f"promotion.candidate_network must be a network that names a class, but {candidate!r} only draws masks"
        )
    plans = {}
    for name in config.strategies:
        strategy = STRATEGIES.get_known(name)
        plans[name] = _plan(config, strategy, strategy.settings_of(config))
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
    search = config.searches[name]
    folds = config.folds_of(starts[0].row.spec.cohort) if starts else ()
    for fold in search.folds or () if starts else ():
        if fold not in folds:
            among = ", ".join(map(str, folds))
            raise ConfigError(
                f"searches.{name}.folds must be among the folds that are trained ({among}) but got {fold}"
            )
    for each in starts:
        epochs = search.epochs or each.row.spec.training.epochs
        if search.pruning.rungs and search.pruning.rungs[-1] >= epochs:
            raise ConfigError(
                f"searches.{name}.pruning.rungs must be less than the {epochs} epochs of a trial of "
                f"{each.row.spec.network} but got {search.pruning.rungs[-1]}"
            )
    return SearchPlan(
        name=name,
        settings=search,
        networks=tuple(
            SearchStart(network=each.row.spec.network, start=each.row.spec, first=each.first, title=each.row.model)
            for each in starts
        ),
        folds=folds,
        seed=config.seed,
    )


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
    """Write `<strategy>.json`, `search-<name>.json`, `tuned-<name>.json` and `sizes.json` into a folder.

    Returns:
        The plan of each strategy.
    """
    plans = make_plans(config)
    for name, plan in plans.items():
        write_json(folder / f"{name}.json", plan.model_dump(mode="json"))
    searches = make_search_plans(config)
    for name, each in searches.items():
        write_json(folder / f"search-{name}.json", each.model_dump(mode="json"))
    write_json(folder / "sizes.json", {"sizes": input_sizes(plans, searches), "geometry": GEOMETRY_VERSION})
    return plans


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
