"""What a scoring request may hold; everything else is refused with a 4xx status before any model sees it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Of MLflow's protocol; its two other forms, made for tensors, do not decode base64 in every case.
FORMS = ("dataframe_records", "dataframe_split")


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how many may be under way at once."""

    images: int = 64
    megabytes: int = 64
    requests: int = 32

    @property
    def bytes(self) -> int:
        """Of a request's body; base64 makes an image a third larger."""
        return self.megabytes * 2**20


class RefusedError(Exception):
    """A request that is not answered: an HTTP status and a sentence that says what to send instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check(body: bytes, limits: Limits) -> int:
    """The number of images in a request's body.

    Raises:
        RefusedError: MLflow could not answer it (status 400 or 413).
    """
    images = _images(_document(body))
    if not images:
        raise RefusedError(400, "the request holds no image. " + _EXAMPLE)
    if len(images) > limits.images:
        raise RefusedError(413, f"{len(images)} images in one request: at most {limits.images}. Send them in parts.")
    for row, image in enumerate(images):
        if not isinstance(image, str):
            raise RefusedError(400, f"image {row} is {type(image).__name__}, not a base64 string. " + _EXAMPLE)
        try:
            base64.b64decode("".join(image.split()), validate=True)
        except (binascii.Error, ValueError):
            raise RefusedError(400, f"image {row} is not base64. " + _EXAMPLE) from None
    return len(images)


_EXAMPLE = 'Send {"dataframe_records": [{"image": "<base64 of an image file>"}, ...], "params": {"masks": true}}.'


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise RefusedError(400, f"the body is not JSON: {str(error)[:200]}. " + _EXAMPLE) from None
    if not isinstance(document, dict):
        raise RefusedError(400, f"the body is a JSON {type(document).__name__}, not an object. " + _EXAMPLE)
    unknown = sorted(set(document) - {*FORMS, "params"})
    if unknown:
        raise RefusedError(400, f"unknown key {unknown[0][:60]!r}. " + _EXAMPLE)
    params = document.get("params")
    if params is not None and not (
        isinstance(params, dict)
        and set(params) <= {"masks", "explanations"}
        and all(isinstance(value, bool) for value in params.values())
    ):
        raise RefusedError(400, "params may hold masks and explanations, each true or false.")
    return document


def _images(document: dict[str, Any]) -> Sequence[Any]:
    given = [form for form in FORMS if form in document]
    if len(given) != 1:
        raise RefusedError(400, f"exactly one of {', '.join(FORMS)} is needed but got {given}. " + _EXAMPLE)
    form, values = given[0], document[given[0]]
    if form == "dataframe_split":
        if not isinstance(values, dict) or values.get("columns") != ["image"] or set(values) - {"columns", "data"}:
            raise RefusedError(400, 'dataframe_split must be {"columns": ["image"], "data": [["<base64>"], ...]}.')
        return [row[0] for row in _rows(form, values.get("data"), lambda row: isinstance(row, list) and len(row) == 1)]
    return [row["image"] for row in _rows(form, values, lambda row: isinstance(row, dict) and set(row) == {"image"})]


def _rows(form: str, rows: Any, fits: Callable[[Any], bool]) -> Sequence[Any]:
    if not isinstance(rows, list):
        raise RefusedError(400, f"{form} holds no list of rows. " + _EXAMPLE)
    for number, row in enumerate(rows):
        if not fits(row):
            raise RefusedError(400, f"row {number} of {form} must hold one `image` and nothing else. " + _EXAMPLE)
    return rows
