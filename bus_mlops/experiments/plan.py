"""From the configuration to what must be trained: the rows of each strategy, and of what each search chooses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bus_mlops.config import Config, NetworkChoice, Search
from bus_mlops.config.base import Strict
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.starts import Start, starts_of
from bus_mlops.experiments.strategies import STRATEGIES, Row, Strategy
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
        """Each spec of a row with its folds: a spec a seed, or several where a search chose for each fold.

        Those of an ensemble are its members'.
        """
        found: dict[str, tuple[RunSpec, list[int]]] = {}
        for part in row.parts:
            for specs in zip(*(self.specs(part, fold) for fold in self.folds), strict=True):
                for fold, spec in zip(self.folds, specs, strict=True):
                    found.setdefault(str(spec.canonical()), (spec, []))[1].append(fold)
        return list(found.values())

    def unique_specs(self) -> list[RunSpec]:
        """The specs without repetition, in the order of the rows."""
        return _unique(spec for row in self.rows for spec, _ in self.trainings(row))


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
        title=f"{models}, {name}" if search.is_variant else f"{models} after the search {name}",
        explanation=f"As in the strategy {search.strategy}, with what the search {name} "
        f"{'sets' if search.is_variant else f'chose {how}'}: {', '.join(search.space)}.",
        folds=config.folds_of(starts[0].row.spec.cohort if starts else config.cohorts["multitask"]),
        seeds=tuple(range(config.seed, config.seed + settings.seeds)),
        rows=tuple(_tuned_row(each, search, name) for each in starts),
    )


def _tuned_row(start: Start, search: Search, name: str) -> Row:
    """Named as the paper's row that it stands beside, without what was chosen: `WBCE, tuned` or `Multi, tuned`.

    Where nothing was chosen it bears the search's name instead.
    """
    spec, scratch = start.row.spec, ", from scratch"
    kept = {name: value for name, value in spec.options.items() if f"options.{name}" not in search.space}
    variant = start.beside.family or start.beside.variant.removesuffix(scratch)
    end = scratch if start.row.variant.endswith(scratch) else ""
    return Row(
        model=entry(spec.network).title(kept),
        variant=f"{variant}, {name.replace('_', ' ') if search.is_variant else 'tuned'}{end}",
        paper=start.beside.paper,
        spec=spec,
        choice="nested" if search.nested else "flat",
    )


def unique_specs(plans: dict[str, StrategyPlan]) -> list[RunSpec]:
    """The specs of all plans without repetition."""
    return _unique(spec for plan in plans.values() for spec in plan.unique_specs())


def _unique(specs: Iterable[RunSpec]) -> list[RunSpec]:
    seen: dict[str, RunSpec] = {}
    for spec in specs:
        seen.setdefault(str(spec.canonical()), spec)
    return list(seen.values())
