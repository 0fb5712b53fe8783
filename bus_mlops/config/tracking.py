"""What `params.yaml` says about MLflow's store."""

from __future__ import annotations

from pydantic import Field

from bus_mlops.config.base import Strict


class TrackingConfig(Strict):
    """Where MLflow keeps runs, artifacts and models."""

    uri: str = "sqlite:///mlflow.db"
    artifacts: str = Field(default="mlartifacts", description="folder or URI for a new experiment's artifacts")
    experiment: str = "bus-benchmark"
