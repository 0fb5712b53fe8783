"""What `params.yaml` says about MLflow's store, and where searches keep their studies."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from bus_mlops.config.base import Strict
from bus_mlops.errors import without_passwords

STUDIES_SCHEME = "postgresql+psycopg"


class TrackingConfig(Strict):
    """Where MLflow keeps runs, artifacts and models."""

    uri: str = Field(default="sqlite:///mlflow.db", description="MLflow's store: an SQLite file, or a server")
    artifacts: str = Field(default="mlartifacts", description="folder or URI for a new experiment's artifacts")
    experiment: str = Field(default="bus-benchmark", description="the MLflow experiment that holds the runs")
    ui_port: int = Field(
        default=5000,
        ge=1,
        le=65535,
        description="of `bus-mlops ui` on this machine, and in the report's links to it [port]",
    )
    studies: str | None = Field(
        default=None, description="postgresql+psycopg://USER@HOST/DATABASE for searches; null: a journal in studies/"
    )

    @field_validator("uri")
    @classmethod
    def _has_no_password(cls, uri: str) -> str:
        if without_passwords(uri) != uri:
            raise ValueError(
                "must not hold a password, which would be committed: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD for a server, PGPASSWORD or ~/.pgpass for a database"
            )
        return uri

    @field_validator("studies")
    @classmethod
    def _is_of_a_database(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        parts = urlsplit(uri)
        if without_passwords(uri) != uri:
            raise ValueError("must not hold a password, which would be committed: put it into ~/.pgpass or PGPASSWORD")
        if parts.scheme != STUDIES_SCHEME or not parts.path.strip("/"):
            raise ValueError(f"must be {STUDIES_SCHEME}://USER@HOST/DATABASE, or null for a journal, but got {uri!r}")
        return uri
