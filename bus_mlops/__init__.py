"""bus_mlops: the breast ultrasound classification benchmark, reproducible with one command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Nothing here phones home or chatters: set before any of these libraries is imported; a user's own setting wins.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "AWS_EC2_METADATA_DISABLED": "true",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Through the tracking server: where its S3 store lies, clients need not be able to go.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}.items():
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from bus_mlops.consumer.client import load_model

__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":
        from bus_mlops.consumer.client import load_model

        return load_model
    raise AttributeError(f"module 'bus_mlops' has no attribute {name!r}")
