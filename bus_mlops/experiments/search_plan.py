"""What a search is to do: its settings, and the start and the first trial of each of its networks."""

from __future__ import annotations

from bus_mlops.config import Config, Search
from bus_mlops.config.base import Strict
from bus_mlops.config.searches import Value
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.space import Space
from bus_mlops.experiments.starts import Start, starts_of
from bus_mlops.spec import NUMERICS_VERSION, RunSpec

# Samplers that try every combination once.
EXHAUSTIVE = ("grid", "brute_force")


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
    """One search: its settings, the networks that it has a start for, and the folds (1-based) to choose for.

    Attributes:
        left_out: Why its networks are left out of the plan, if all are (`left_out.py`).
    """

    name: str
    settings: Search
    networks: tuple[SearchStart, ...]
    folds: tuple[int, ...]
    seed: int
    left_out: str = ""
    numerics: int = NUMERICS_VERSION

    @property
    def flat_folds(self) -> tuple[int, ...]:
        """The folds on which a search that is not nested judges its trials."""
        return self.settings.folds or self.folds[:1]

    @property
    def missing(self) -> str:
        """Why a search without networks has none."""
        if self.left_out:
            return self.left_out
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
