"""The MLflow model itself ("models from code"): a thin shell around the consumer's client, no pickle.

`mlflow models serve` and `mlflow.pyfunc.load_model` run this file; it needs bus_mlops, not TensorFlow. Input
column `image`: the bytes of an image file, the same as a base64 string, a uint8 array, or a `pathlib.Path`. A
plain string is never read as a path: a served model would otherwise open files of its server for whoever asks.

Every registered version keeps a copy of this file: what it imports must stay importable under these names, or get an
alias, as in `bus_mlops.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from bus_mlops.consumer.client import BusModel, Prediction, load_model
from bus_mlops.consumer.explanation import heat_png
from bus_mlops.consumer.package_format import ARTIFACT
from bus_mlops.images.model_input import Base64, mask_png

# Written by MLflow beside a model that it took from a registry.
REGISTERED = "registered_model_meta"


class PackagedModel(PythonModel):
    """One row an image: probability, label and so on; or `error` and `error_type` where it could not be read."""

    _model: BusModel

    def load_context(self, context: Any) -> None:
        """Open and check the package that was logged with this model."""
        folder = Path(context.artifacts[ARTIFACT])
        loaded = load_model(folder)
        name, version = loaded.name, loaded.version
        registered = folder.parents[1] / REGISTERED
        if registered.is_file():
            values = yaml.safe_load(registered.read_text(encoding="utf-8"))
            name, version = values["model_name"], str(values["model_version"])
        self._model = BusModel(folder, loaded.package, name, version, loaded.opened, loaded.standing)

    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow passes it
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Predict the column `image`; the params `masks` and `explanations` add PNGs in columns of these names."""
        masks, explanations = (bool((params or {}).get(name, False)) for name in ("masks", "explanations"))
        images = [Base64(v) if isinstance(v, str) else v for v in model_input["image"]]
        rows = self._model.predict(images, masks=masks, explanations=explanations)
        columns = (
            "status",
            "reasons",
            "probability",
            "label",
            "threshold",
            "spread",
            "members",
            "oddness",
            "triage",
            "model",
            "error",
            "error_type",
        )
        frame = pd.DataFrame({name: _column(rows, name) for name in columns})
        # A package that was never registered is still to be told from every other.
        place = columns.index("error")
        frame.insert(place, "version", self._model.version or f"sha256:{self._model.digest[:12]}")
        frame.insert(place + 1, "standing", str(self._model.standing))
        if masks:
            frame["mask"] = pd.Series([None if r.mask is None else mask_png(r.mask) for r in rows], dtype=object)
        if explanations:
            pictures = [None if r.explanation is None else heat_png(r.explanation) for r in rows]
            frame["explanation"] = pd.Series(pictures, dtype=object)
        return frame


def _column(rows: Sequence[Prediction], name: str) -> pd.Series:
    """Of objects where an answer is missing: None becomes JSON's null, NaN would be no JSON at all."""
    values = [getattr(row, name) for row in rows]
    plain = all(isinstance(value, float) for value in values)
    return pd.Series(values, dtype="float64" if plain else object)


set_model(PackagedModel())
