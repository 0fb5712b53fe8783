"""bus_mlops: the breast ultrasound classification benchmark, reproducible with one command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bus_mlops.consumer.client import load_model

__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":
        from bus_mlops.consumer.client import load_model

        return load_model
    raise AttributeError(f"module 'bus_mlops' has no attribute {name!r}")
