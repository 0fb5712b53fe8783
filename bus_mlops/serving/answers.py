"""A request's images -> the JSON that is sent back, one row an image, in the form of MLflow's scoring protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bus_mlops.consumer.explanation import heat_png
from bus_mlops.images.model_input import mask_png
from bus_mlops.serving.requests import Asked

if TYPE_CHECKING:
    from bus_mlops.consumer.client import BusModel, Prediction


def answer(model: BusModel, asked: Asked, before_run: Callable[[], None], seen: Callable[[Prediction], None]) -> bytes:
    """`{"predictions": [...]}`.

    Args:
        model: Answers.
        asked: The images, and what is wanted of them.
        before_run: Called before each step of the work; what it raises ends it.
        seen: Called with each answer.
    """
    rows = model.stream(asked.images, masks=asked.masks, explanations=asked.explanations, before_run=before_run)
    values = []
    for row in rows:
        seen(row)
        values.append(_row(model, row, asked))
    return json.dumps({"predictions": values}, allow_nan=False).encode()


def _row(model: BusModel, row: Prediction, asked: Asked) -> dict[str, Any]:
    values: dict[str, Any] = {
        "status": row.status,
        "reasons": row.reasons,
        "probability": row.probability,
        "label": row.label,
        "threshold": row.threshold,
        "spread": row.spread,
        "members": row.members,
        "oddness": row.oddness,
        "triage": row.triage,
        "model": row.model,
        # A package that was never registered is still to be told from every other.
        "version": model.version or f"sha256:{model.digest[:12]}",
        "standing": str(model.standing),
        "error": row.error,
        "error_type": row.error_type,
    }
    if asked.masks:
        values["mask"] = None if row.mask is None else _base64(mask_png(row.mask))
    if asked.explanations:
        values["explanation"] = None if row.explanation is None else _base64(heat_png(row.explanation))
    return values


def _base64(picture: bytes) -> str:
    return base64.encodebytes(picture).decode()
