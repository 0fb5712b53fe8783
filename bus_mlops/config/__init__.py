"""The schema of `params.yaml`, a file a section; it knows no registry of sources, networks or strategies."""

from bus_mlops.config.data import IMPORTED_FOLDS, OFFICIAL_FOLDS, DataConfig, FoldsConfig
from bus_mlops.config.engine import EngineConfig, LocalEngineConfig, RayEngineConfig
from bus_mlops.config.leak_premium import LeakPremiumConfig
from bus_mlops.config.probes import ProbesConfig
from bus_mlops.config.promotion import PromotionConfig
from bus_mlops.config.schema import Config
from bus_mlops.config.searches import Choices, Dimension, Parameters, Pruning, Range, Search, Value
from bus_mlops.config.strategies import NetworkChoice, StrategySettings
from bus_mlops.config.tracking import TrackingConfig
from bus_mlops.config.training import (
    Adam,
    Augmentation,
    CrossEntropy,
    Focal,
    Loss,
    Nadam,
    NetworkConfig,
    Optimizer,
    Plateau,
    Sgd,
    Training,
)

__all__ = [
    "IMPORTED_FOLDS",
    "OFFICIAL_FOLDS",
    "Adam",
    "Augmentation",
    "Choices",
    "Config",
    "CrossEntropy",
    "DataConfig",
    "Dimension",
    "EngineConfig",
    "Focal",
    "FoldsConfig",
    "LeakPremiumConfig",
    "LocalEngineConfig",
    "Loss",
    "Nadam",
    "NetworkChoice",
    "NetworkConfig",
    "Optimizer",
    "Parameters",
    "Plateau",
    "ProbesConfig",
    "PromotionConfig",
    "Pruning",
    "Range",
    "RayEngineConfig",
    "Search",
    "Sgd",
    "StrategySettings",
    "TrackingConfig",
    "Training",
    "Value",
]
