"""What `params.yaml` says about who trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bus_mlops.config.base import Strict


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
