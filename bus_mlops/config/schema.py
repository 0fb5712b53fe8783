"""`params.yaml` as one frozen, typed object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from bus_mlops.config.base import Known, Strict, known
from bus_mlops.config.data import AuditConfig, DataConfig, FoldsConfig, PhantomConfig, SourceName
from bus_mlops.config.engine import EngineConfig, LocalEngineConfig
from bus_mlops.config.external_reports import ExternalReports
from bus_mlops.config.leak_premium import LeakPremium
from bus_mlops.config.probes import Probes, ProbesConfig
from bus_mlops.config.promotion import PackageConfig, PromotionConfig
from bus_mlops.config.searches import Search, SearchName
from bus_mlops.config.strategies import StrategyName, StrategySettings
from bus_mlops.config.tracking import TrackingConfig
from bus_mlops.config.training import NetworkConfig, TrainingDefaults

# Of `cohorts`: sources that are read and audited like others, and in no fold.
EXTERNAL_COHORT = "external"


class Config(Strict):
    """All parameters of one reproduction; see `bus-mlops profile --list`."""

    profile: str = Field(description="the name under which reports and runs speak of these parameters")
    seed: int = Field(ge=0, le=2**31 - 1, description="what phantoms, folds, weights and batches are drawn with [seed]")
    data: DataConfig
    phantom: PhantomConfig = PhantomConfig()
    audit: AuditConfig = AuditConfig()
    folds: FoldsConfig = FoldsConfig()
    cohorts: dict[str, tuple[SourceName, ...]] = Field(
        description="by name the sources of tables; external: those in no fold, on which only a frozen model is judged"
    )
    weights_folder: Path | None = Field(
        default=None, description="folder with pretrained weights, looked at before Keras's cache"
    )
    missing_weights: Literal["error", "leave_out"] = Field(
        default="error", description="where ImageNet weights cannot be had: stop, or leave their rows out, by name"
    )
    training: TrainingDefaults = TrainingDefaults()
    networks: dict[str, NetworkConfig] = Field(
        description="by their names in `bus-mlops models`: what this profile trains, and how, if not by `training`"
    )
    strategies: tuple[StrategyName, ...] = Field(min_length=1, description="what is trained, each once")
    strategy_settings: StrategySettings = Field(
        default=StrategySettings(),
        description="settings of each strategy; of those that are not in `strategies`, without effect",
    )
    searches: dict[SearchName, Search] = Field(
        description="by name: what a stage `search@NAME` tries, and `tuned@NAME` then trains"
    )
    probes: Probes = Field(
        default=ProbesConfig(), description="networks that are looked at once more; {} or null: none"
    )
    leak_premium: LeakPremium = Field(
        default=None, description="rows that are trained on image-level folds too; {} or null: none"
    )
    external_reports: ExternalReports = Field(
        default=ExternalReports(), description="what is asked about the sources of cohorts.external, if there are any"
    )
    promotion: PromotionConfig = Field(
        default=PromotionConfig(),
        description="which models are compared, by what, and the limits of the gate's rules; the defaults are for "
        "models of patients' images",
    )
    package: PackageConfig = PackageConfig()
    tracking: TrackingConfig = TrackingConfig()
    engine: EngineConfig = Field(default=LocalEngineConfig(), description="who trains")

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo[Any]) -> Config:
        registries = known(info)
        if len(set(self.strategies)) < len(self.strategies):
            raise ValueError(f"strategies must not name one twice but got {', '.join(self.strategies)}")
        for cohort, needed in {"all": "single-task", "multitask": "multitask"}.items():
            if cohort not in self.cohorts:
                raise ValueError(f"cohorts.{cohort} is missing: it lists the sources of the {needed} runs")
        self._check_external()
        if registries is not None:
            self._check_names(registries)
        self._folds_fit()
        if self.leak_premium is not None:
            self.leak_premium.require_comparable(self.folds)
        for strategy, settings in self.strategy_settings:
            for name in settings.networks or ():
                if name not in self.networks:
                    names = ", ".join(self.networks)
                    raise ValueError(
                        f"strategy_settings.{strategy}.networks must be among the networks ({names}) but got {name!r}"
                    )
        candidate = self.promotion.candidate_network
        if "candidate_network" in self.promotion.model_fields_set and candidate not in self.networks:
            names = ", ".join(self.networks)
            raise ValueError(f"promotion.candidate_network must be among the networks ({names}) but got {candidate!r}")
        self._check_candidates(candidate)
        self._check_refit(candidate)
        if self.promotion.baseline not in ("champion", "best", *self.networks):
            names = ", ".join(("champion", "best", *self.networks))
            raise ValueError(f"promotion.baseline must be one of {names} but got {self.promotion.baseline!r}")
        return self

    def _check_names(self, registries: Known) -> None:
        unmasked = [source for source in self.cohorts["multitask"] if not registries.sources[source]]
        if unmasked:
            raise ValueError(f"cohorts.multitask names {unmasked[0]}, which has no masks")

    def _check_external(self) -> None:
        """An external source is read, and in no other cohort."""
        for source in self.external:
            for cohort, members in self.cohorts.items():
                if cohort != EXTERNAL_COHORT and source in members:
                    raise ValueError(
                        f"cohorts.external names {source}, which cohorts.{cohort} trains on: take it out of one of them"
                    )
            if self.data.sources != "all" and source not in self.data.sources:
                raise ValueError(
                    f"cohorts.external names {source}, which is not read: add it to data.sources "
                    f"({', '.join(self.data.sources)})"
                )

    def _competitors(self) -> Iterator[tuple[str, str]]:
        """The candidates and then the challengers, each with the key that names it."""
        for key, names in (("candidates", self.promotion.candidates), ("challengers", self.promotion.challengers)):
            for name in names:
                yield key, name

    def _check_candidates(self, network: str) -> None:
        """A candidate is the network as its strategy trains it, or as a search of it has tuned it."""
        twice = set(self.promotion.candidates) & set(self.promotion.challengers)
        if twice:
            raise ValueError(f"promotion.challengers names {min(twice)}, which promotion.candidates names already")
        for key, name in self._competitors():
            if name == "approaches":
                continue
            searched = [each for each, search in self.searches.items() if network in search.network]
            there = f"approaches, or a search of {network} ({', '.join(searched) or 'there is none'})"
            if name not in self.searches:
                now = "tuned is now called by the name of its search; " if name == "tuned" else ""
                raise ValueError(f"promotion.{key}: {now}must be {there} but got {name!r}")
            if name not in searched:
                raise ValueError(
                    f"promotion.{key} must be {there} but got {name!r}, which searches "
                    f"{', '.join(self.searches[name].network)}: see promotion.candidate_network"
                )

    def _check_refit(self, candidate: str) -> None:
        network = self.networks.get(candidate)
        if self.package.members == "refit" and network and (network.plateau or self.training.plateau):
            raise ValueError(
                f"package.members refit trains {candidate} without a validation part, whose loss its learning rate "
                "follows (plateau): set package.members to all, or take plateau out"
            )

    def _folds_fit(self) -> None:
        for fold in self.folds.run or ():
            if not 1 <= fold <= self.fold_count:
                raise ValueError(f"folds.run must lie between 1 and {self.fold_count} but got {fold}")
        for cohort, members in self.cohorts.items():
            if cohort == EXTERNAL_COHORT:
                continue
            if self.folds.kind == "source" and len(set(members) & set(self.fold_sources)) < 2:
                raise ValueError(
                    f"folds.kind is source, which trains on all sources but one, and cohorts.{cohort} has fewer than "
                    f"two of the sources that are read ({', '.join(self.fold_sources)})"
                )

    @property
    def external(self) -> tuple[str, ...]:
        """The sources that no fold touches, sorted."""
        return tuple(sorted(set(self.cohorts.get(EXTERNAL_COHORT, ()))))

    @property
    def fold_sources(self) -> tuple[str, ...]:
        """For `folds.kind: source`, the sources in the order of the folds that test them."""
        if self.data.sources != "all":
            return tuple(sorted(set(self.data.sources) - set(self.external)))
        if self.data.kind == "phantom":
            drawn = {source for source, count in self.phantom.images.items() if count}
            return tuple(sorted(drawn - set(self.external)))
        # Which folders lie in data.root may change without params.yaml, the number of folds may not.
        raise ValueError(
            "folds.kind is source, so data.sources must list the sources: their number is that of the folds"
        )

    @property
    def fold_count(self) -> int:
        """The number of folds: `folds.count`, or one for each source."""
        return len(self.fold_sources) if self.folds.kind == "source" else self.folds.count

    def folds_of(self, cohort: Iterable[str]) -> tuple[int, ...]:
        """The folds (1-based) to train on a cohort's images; with `source`, those that test one of its sources."""
        selected = self.folds.run or tuple(range(1, self.fold_count + 1))
        if self.folds.kind != "source":
            return selected
        tested = [k for k, source in enumerate(self.fold_sources, start=1) if source in set(cohort)]
        return tuple(fold for fold in selected if fold in tested)
