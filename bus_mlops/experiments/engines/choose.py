"""The engine that the configuration asks for."""

from __future__ import annotations

from bus_mlops.config import EngineConfig
from bus_mlops.experiments.cell import Job
from bus_mlops.experiments.engines.base import Engine


def make_engine(job: Job, config: EngineConfig) -> Engine:
    """The engine of `config.kind`, not yet started.

    Raises:
        ConfigError: Its package is missing.
    """
    if config.kind == "ray":
        from bus_mlops.experiments.engines.ray_engine import RayEngine

        return RayEngine(job, config)
    from bus_mlops.experiments.engines.local import LocalEngine

    return LocalEngine(job, config)
