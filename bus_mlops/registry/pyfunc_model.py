"""The MLflow model itself ("models from code"): a thin shell around the consumer's client, no pickle.

`mlflow models serve` and `mlflow.pyfunc.load_model` run this file; it needs bus_mlops, not TensorFlow. Input
column `image`: the bytes of an image file, the same as a base64 string, or a `pathlib.Path`. A plain string
is never read as a path: a served model would otherwise open files of its server for whoever asks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from bus_mlops.errors import ImageError
from bus_mlops.registry.client import BusModel, Image, from_base64, load_model, mask_png
from bus_mlops.registry.contents import ARTIFACT


class PackagedModel(mlflow.pyfunc.PythonModel):
    """One row an image: probability, label, threshold, spread; or `error` where it could not be read."""

    _model: BusModel

    def load_context(self, context: Any) -> None:
        """Open and check the package that was logged with this model."""
        self._model = load_model(context.artifacts[ARTIFACT])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict the column `image`; with `params={"masks": True}` add `mask`, the bytes of a PNG each."""
        masks = bool((params or {}).get("masks", False))
        rows = self._model.predict([_image(value) for value in model_input["image"]], masks=masks)
        frame = pd.DataFrame(
            {
                "probability": np.array([r.probability for r in rows], dtype=np.float64),
                "label": [r.label or "" for r in rows],
                "threshold": [r.threshold for r in rows],
                "spread": np.array([r.spread for r in rows], dtype=np.float64),
                "error": [r.error or "" for r in rows],
            }
        )
        if masks:
            frame["mask"] = [None if r.mask is None else mask_png(r.mask) for r in rows]
        return frame


def _image(value: Any) -> Image:
    if isinstance(value, str):
        try:
            return from_base64(value)
        except ImageError:
            return b""  # decoded as an empty file: that row gets its error, the others their answers
    if isinstance(value, Path | bytes | np.ndarray):
        return value
    return bytes(value)


mlflow.models.set_model(PackagedModel())
