"""`params.yaml` as one frozen, typed object; every misspelt key or bad value is an error that names it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from bus_mlops.config_data import OFFICIAL_FOLDS, DataConfig, FoldsConfig, PhantomConfig, QualityConfig, SourceName
from bus_mlops.config_promotion import PackageConfig, PromotionConfig
from bus_mlops.config_strategies import StrategySettings
from bus_mlops.config_training import (
    Augmentation,
    Loss,
    NetworkConfig,
    Optimizer,
    Strict,
    Training,
    TrainingDefaults,
)
from bus_mlops.errors import ConfigError
from bus_mlops.models.extensions import load_extensions
from bus_mlops.paths import EXTENSIONS, PARAMS
from bus_mlops.sources.registry import SOURCES

__all__ = [
    "OFFICIAL_FOLDS",
    "Augmentation",
    "Config",
    "DataConfig",
    "EngineConfig",
    "FoldsConfig",
    "Loss",
    "NetworkConfig",
    "Optimizer",
    "PackageConfig",
    "PhantomConfig",
    "PromotionConfig",
    "QualityConfig",
    "SearchConfig",
    "StrategySettings",
    "Strict",
    "TrackingConfig",
    "Training",
    "TrainingDefaults",
    "load_config",
    "parse_config",
]


StrategyName = Literal["transfer_learning", "augmentation", "losses", "optimizers", "multitask", "approaches"]


class SearchConfig(Strict):
    """Optuna over MT-ESTAN's loss; the objective is read from validation parts only."""

    trials: int = Field(default=20, ge=1)
    folds: tuple[int, ...] = Field(default=(1,), min_length=1, description="whose validation parts are the objective")
    epochs: int | None = Field(default=None, ge=1, description="epochs of a trial; null: as in the network")
    objective: Literal["roc_auc", "balanced_accuracy"] = "roc_auc"
    classification_weight: tuple[float, float] = (0.5, 5.0)
    losses: tuple[Literal["cross_entropy", "focal"], ...] = Field(
        default=("cross_entropy", "focal"), min_length=1, description="the kinds of loss that are tried"
    )
    positive_weight: tuple[float, float] = Field(default=(1.0, 5.0), description="of cross_entropy")
    gamma: tuple[float, float] = Field(default=(1.0, 5.0), description="of focal")
    alpha: tuple[float, float] = Field(default=(0.2, 0.9), description="of focal")


class TrackingConfig(Strict):
    """Where MLflow keeps runs, artifacts and models."""

    uri: str = "sqlite:///mlflow.db"
    artifacts: str = Field(default="mlartifacts", description="folder or URI for a new experiment's artifacts")
    experiment: str = "bus-benchmark"


class EngineConfig(Strict):
    """Who trains: processes of this machine, or a Ray cluster. Numbers depend on threads and GPUs alone."""

    kind: Literal["local", "ray"] = "local"
    workers: int | None = Field(default=None, ge=1, description="null: as many as cores and memory allow")
    threads: int = Field(default=1, ge=1)
    address: str | None = Field(
        default=None, min_length=1, description="of a Ray cluster, as HOST:6379 or auto; null: a Ray on this machine"
    )
    num_cpus: float | None = Field(default=None, gt=0, description="ray: of a group of runs; null: `threads`")
    num_gpus: float = Field(default=0, ge=0, description="ray: of a group of runs, or a part of one such as 0.5")

    @model_validator(mode="after")
    def _of_one_kind(self) -> EngineConfig:
        if self.kind == "local":
            for name in ("address", "num_cpus", "num_gpus"):
                if getattr(self, name):
                    raise ValueError(f"engine.{name} is for engine.kind ray, but kind is local")
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ValueError(f"engine.num_gpus must be whole, or a part of one, but got {self.num_gpus:g}")
        if self.address is not None and self.workers is not None:
            raise ValueError(
                "engine.workers must be null with engine.address: the cluster's machines, num_cpus and num_gpus "
                "decide how many groups are trained at once"
            )
        return self


class Config(Strict):
    """All parameters of one reproduction; see `bus-mlops profile --list`."""

    profile: str
    seed: int = Field(ge=0, le=2**31 - 1)
    data: DataConfig
    phantom: PhantomConfig = PhantomConfig()
    quality: QualityConfig = QualityConfig()
    folds: FoldsConfig = FoldsConfig()
    cohorts: dict[str, tuple[SourceName, ...]]
    weights_folder: Path | None = Field(
        default=None, description="folder with pretrained weights, looked at before Keras's cache"
    )
    training: TrainingDefaults = TrainingDefaults()
    networks: dict[str, NetworkConfig]
    strategies: tuple[StrategyName, ...]
    strategy_settings: StrategySettings = StrategySettings()
    search: SearchConfig = SearchConfig()
    promotion: PromotionConfig = PromotionConfig()
    package: PackageConfig = PackageConfig()
    tracking: TrackingConfig = TrackingConfig()
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        for cohort, needed in {"all": "single-task", "multitask": "multitask"}.items():
            if cohort not in self.cohorts:
                raise ValueError(f"cohorts.{cohort} is missing: it lists the sources of the {needed} runs")
        unmasked = [s for s in self.cohorts["multitask"] if not SOURCES[s].has_masks]
        if unmasked:
            raise ValueError(f"cohorts.multitask names {unmasked[0]}, which has no masks")
        self._folds_fit()
        for strategy, settings in self.strategy_settings:
            for name in settings.networks or ():
                if name not in self.networks:
                    known = ", ".join(self.networks)
                    raise ValueError(
                        f"strategy_settings.{strategy}.networks must be among the networks ({known}) but got {name!r}"
                    )
        if self.promotion.baseline not in ("champion", "best", *self.networks):
            known = ", ".join(("champion", "best", *self.networks))
            raise ValueError(f"promotion.baseline must be one of {known} but got {self.promotion.baseline!r}")
        return self

    def _folds_fit(self) -> None:
        for fold in self.folds.run or ():
            if not 1 <= fold <= self.fold_count:
                raise ValueError(f"folds.run must lie between 1 and {self.fold_count} but got {fold}")
        for cohort, members in self.cohorts.items():
            if self.folds.kind == "source" and len(set(members) & set(self.fold_sources)) < 2:
                raise ValueError(
                    f"folds.kind is source, which trains on all sources but one, and cohorts.{cohort} has fewer than "
                    f"two of the sources that are read ({', '.join(self.fold_sources)})"
                )
        trained = self.folds_of(self.cohorts["multitask"])
        for fold in self.search.folds:
            if fold not in trained:
                among = ", ".join(map(str, trained))
                raise ValueError(f"search.folds must be among the folds that are trained ({among}) but got {fold}")

    @property
    def fold_sources(self) -> tuple[str, ...]:
        """For `folds.kind: source`, the sources in the order of the folds that test them."""
        if self.data.sources != "all":
            return tuple(sorted(set(self.data.sources)))
        if self.data.kind == "phantom":
            return tuple(sorted(source for source, count in self.phantom.images.items() if count))
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


def load_config(path: Path = PARAMS) -> Config:
    """Read and validate a parameter file, and the user's own networks, which it may name.

    Raises ConfigError naming key, value and remedy; NetworkError naming a file of `extensions` that cannot be run.
    """
    load_extensions(EXTENSIONS)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} not found in {Path.cwd()}. Run the command in the project folder, or write one with "
            "`bus-mlops profile demo`."
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of parameters but holds {type(values).__name__}.")
    return parse_config(values, str(path))


def parse_config(values: dict[str, Any], where: str = "params.yaml") -> Config:
    """Validate a mapping of parameters; raises ConfigError naming key, value and neighbours."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item, values) for item in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from None


def _explain(item: Any, values: dict[str, Any]) -> str:
    path = [part for part in item["loc"] if not (isinstance(part, str) and "[" in part)]
    key = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"unknown key {key!r}: {hint}known here: {', '.join(known)}"
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key} = {item['input']!r}: {message}" if key else message


def _known_keys(path: list[Any]) -> list[str]:
    model: Any = Config
    for part in path:
        if model is None:
            return []
        field = model.model_fields.get(part)
        if field is None:  # the name of an entry in a mapping, such as networks.mobilenet
            continue
        model = next((t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if _is_model(t)), None)
    return sorted(model.model_fields) if model is not None else []


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
