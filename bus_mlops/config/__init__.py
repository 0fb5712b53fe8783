"""The schema of `params.yaml`, a file a section; it knows no registry of sources, networks or strategies."""

from bus_mlops.config.data import OFFICIAL_FOLDS, AuditConfig, DataConfig, FoldsConfig, PhantomConfig, SourceName
from bus_mlops.config.engine import EngineConfig
from bus_mlops.config.promotion import PackageConfig, PromotionConfig
from bus_mlops.config.schema import Config
from bus_mlops.config.search import SearchConfig
from bus_mlops.config.strategies import NetworkChoice, StrategySettings
from bus_mlops.config.tracking import TrackingConfig
from bus_mlops.config.training import Augmentation, Loss, NetworkConfig, Optimizer, Training, TrainingDefaults

__all__ = [
    "OFFICIAL_FOLDS",
    "AuditConfig",
    "Augmentation",
    "Config",
    "DataConfig",
    "EngineConfig",
    "FoldsConfig",
    "Loss",
    "NetworkChoice",
    "NetworkConfig",
    "Optimizer",
    "PackageConfig",
    "PhantomConfig",
    "PromotionConfig",
    "SearchConfig",
    "SourceName",
    "StrategySettings",
    "TrackingConfig",
    "Training",
    "TrainingDefaults",
]
