"""What a scoring request may hold; everything else is refused with a 4xx status before any model sees it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bus_mlops.images.opening import claimed_pixels
from bus_mlops.serving.limits import Limits

# Of MLflow's protocol; its other forms are made for tensors.
FORMS = ("dataframe_records", "dataframe_split")


class Asked(NamedTuple):
    """What a request asks.

    Attributes:
        images: The bytes of image files, of which nothing is known but what they claim of their size.
        pixels: How many they claim together.
        masks: With the mask of each.
        explanations: With the explanation of each.
    """

    images: tuple[bytes, ...]
    pixels: int
    masks: bool
    explanations: bool


class RefusedError(Exception):
    """A request that is not answered: an HTTP status and a sentence that says what to send instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def parse(body: bytes, limits: Limits) -> Asked:
    """A request's body, read and found to be within its limits.

    Raises:
        RefusedError: It is not what is documented (status 400), or it asks for too much (413).
    """
    document = _document(body)
    texts = _images(document)
    if not texts:
        raise RefusedError(400, "the request holds no image. " + _EXAMPLE)
    if len(texts) > limits.images:
        raise RefusedError(413, f"{len(texts)} images in one request: at most {limits.images}. Send them in parts.")
    images = tuple(_decoded(row, text) for row, text in enumerate(texts))
    pixels = sum(map(claimed_pixels, images))
    if pixels > limits.pixels:
        raise RefusedError(
            413,
            f"the images claim {pixels / 1e6:,.1f} megapixels: at most {limits.megapixels} in one request. Send them "
            "in parts, and each as the scanner wrote it.",
        )
    params = document.get("params") or {}
    return Asked(images, pixels, params.get("masks", False), params.get("explanations", False))


def _decoded(row: int, text: Any) -> bytes:
    if not isinstance(text, str):
        raise RefusedError(400, f"image {row} is {type(text).__name__}, not a base64 string. " + _EXAMPLE)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(400, f"image {row} is not base64. " + _EXAMPLE) from None


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
