"""What `params.yaml` says about who trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from bus_mlops.config.base import Strict, kind_named_by


class _Workers(Strict):
    workers: int | None = Field(
        default=None,
        ge=1,
        description="processes that train at once, which changes no number; null: as the machine allows [processes]",
    )
    threads: int = Field(
        default=1, ge=1, description="threads of each worker; may change numbers in their last digits [threads]"
    )
    together: bool = Field(
        default=False,
        description="whether a training stage also trains what other strategies miss, for their own stages to find: "
        "workers start once and trace each network once, which saves time where trainings are short; changes no number",
    )


class LocalEngineConfig(_Workers):
    """Processes of this machine."""

    kind: Literal["local"] = Field(default="local", description="processes of this machine")


class RayEngineConfig(_Workers):
    """A Ray cluster, or a Ray on this machine."""

    kind: Literal["ray"] = Field(default="ray", description="a Ray cluster, or a Ray on this machine")
    address: str | None = Field(
        default=None,
        min_length=1,
        description="address of a cluster, as HOST:6379 or auto; null: a Ray on this machine",
    )
    num_cpus: float | None = Field(
        default=None, gt=0, description="cores of a group of runs; null: as many as `threads` [cores]"
    )
    num_gpus: float = Field(
        default=0, ge=0, description="GPUs of a group of runs; whole, or a part of one such as 0.5 [GPUs]"
    )

    @model_validator(mode="after")
    def _possible(self) -> RayEngineConfig:
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ValueError(f"engine.num_gpus must be whole, or a part of one, but got {self.num_gpus:g}")
        if self.address is not None and self.workers is not None:
            raise ValueError(
                "engine.workers must be null with engine.address: the cluster's machines, num_cpus and num_gpus "
                "decide how many groups are trained at once"
            )
        return self


EngineConfig = Annotated[
    Annotated[LocalEngineConfig, Tag("local")] | Annotated[RayEngineConfig, Tag("ray")],
    kind_named_by("kind", "local", "ray"),
]
