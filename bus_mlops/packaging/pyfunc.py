"""A package as an MLflow model: its signature, its example, its code."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bus_mlops
from bus_mlops.consumer.package_format import EXAMPLE_IMAGE, Package

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

PYFUNC_FILE = Path(__file__).with_name("pyfunc_model.py")
# What a prediction runs through; the versions that a model was logged with are recorded with it.
RUNTIME = ("mlflow-skinny", "numpy", "onnxruntime", "pandas", "pillow", "pydantic")


def signature() -> ModelSignature:
    """Column `image` in (binary; base64 in JSON); a row of answers out; masks and explanations if asked for."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array, DataType

    always: list[ColSpec | TensorSpec] = [
        ColSpec("string", "status"),
        ColSpec(Array(DataType.string), "reasons"),
        ColSpec("double", "probability", required=False),
        ColSpec("string", "label", required=False),
        ColSpec("double", "threshold"),
        ColSpec("double", "spread", required=False),
        ColSpec(Array(DataType.double), "members", required=False),
        ColSpec("double", "oddness", required=False),
        ColSpec("string", "triage", required=False),
        ColSpec("string", "model"),
        ColSpec("string", "version"),
        ColSpec("string", "standing"),
        ColSpec("string", "error", required=False),
        ColSpec("string", "error_type", required=False),
    ]
    on_request = [ColSpec("binary", name, required=False) for name in ("mask", "explanation")]
    return ModelSignature(
        inputs=Schema([ColSpec("binary", "image")]),
        outputs=Schema([*always, *on_request]),
        params=ParamSchema([ParamSpec(name, "boolean", False) for name in ("masks", "explanations")]),
    )


def requirements() -> list[str]:
    """What the model runs with, exactly: bus-mlops's base install and pandas; no TensorFlow."""
    return [f"bus-mlops=={bus_mlops.__version__}", *(f"{name}=={version(name)}" for name in RUNTIME)]


def pyfunc_options(folder: Path, package: Package) -> dict[str, Any]:
    """The arguments of `mlflow.pyfunc.log_model` and `save_model` that do not depend on where the model goes."""
    import pandas as pd

    return {
        "python_model": str(PYFUNC_FILE),
        "signature": signature(),
        "input_example": pd.DataFrame({"image": [(folder / EXAMPLE_IMAGE).read_bytes()]}),
        "pip_requirements": requirements(),
        "metadata": {"input_size": package.input_size, "phantom": package.phantom, "notice": package.notice},
    }
