"""Predict with a promoted model, without TensorFlow: probability, label and lesion mask of an image.

from bus_mlops import load_model

model = load_model("models:/bus-mt-estan@champion")
for row in model.predict(["scan.png"], masks=True):
    print(row.source, row.probability, row.label)
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bus_mlops.dataset.decode import MAX_SIDE, decode_image
from bus_mlops.dataset.geometry import prepare
from bus_mlops.errors import ImageError, RegistryError
from bus_mlops.registry.contents import Package, read_package, verify
from bus_mlops.registry.resolve import resolve

Image = Path | str | bytes | np.ndarray
BATCH = 16
MASK_THRESHOLD = 0.5
# Nothing a scanner writes lies outside.
SIDES = range(16, MAX_SIDE + 1)


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one image, or the reason why there is none."""

    source: str
    """The path as given; `image[i]` for bytes and arrays."""
    probability: float | None
    """Of malignancy, 0-1: the mean over the members. None if the image could not be read."""
    spread: float | None
    """Greatest minus least probability over the members, 0-1; 0 for a single member."""
    label: Literal["benign", "malignant"] | None
    """Malignant if probability >= threshold."""
    threshold: float
    model: str
    version: str | None
    mask: np.ndarray | None = None
    """uint8 (H, W), 1 inside the lesion, in the pixels of the original image; None unless asked for."""
    error: str | None = None


def load_model(uri: str | Path, tracking_uri: str | None = None) -> BusModel:
    """Load `models:/name@alias`, `models:/name/3` or a package folder, checking every file's sha256.

    The store is `tracking_uri`, else MLFLOW_TRACKING_URI, else `tracking.uri` of ./params.yaml, else
    ./mlflow.db. RegistryError if there is no such model (it names what there is) or a file was changed (it
    names the file).
    """
    location = resolve(str(uri), tracking_uri)
    package = read_package(location.folder)
    verify(location.folder, package, location.digest)
    return BusModel(location.folder, package, location.name, location.version)


class BusModel:
    """An ensemble of ONNX networks with its preprocessing and its threshold."""

    def __init__(self, folder: Path, package: Package, name: str | None = None, version: str | None = None) -> None:
        self.folder = folder
        self.package = package
        self.name = name or package.name
        self.version = version

    def predict(self, images: Sequence[Image], *, masks: bool = False) -> list[Prediction]:
        """One `Prediction` an image, in order; an image that cannot be read gives a row with `error` set.

        Images are paths, the bytes of an image file, or uint8 arrays (H, W) or (H, W, 3) of 0-255.
        RegistryError if masks are asked of a model that has none.
        """
        if isinstance(images, str | bytes | Path):
            raise TypeError(f"predict takes a list of images but got one {type(images).__name__}: put it in a list.")
        return list(self.stream(images, masks=masks))

    def stream(self, images: Iterable[Image], *, masks: bool = False) -> Iterator[Prediction]:
        """As `predict`, but lazily: holds at most 16 images at a time."""
        if masks and not self.package.has_mask:
            raise RegistryError(f"{self.name} has no mask output: it only classifies. Ask without masks.")
        return self._batches(enumerate(images), masks)

    def check_example(self) -> float:
        """Predict the package's own example and return the distance from the stored probability (0-1).

        A large value means that this machine's runtime computes something else than the one that wrote it.
        """
        import json

        from bus_mlops.registry.contents import EXAMPLE_IMAGE, EXAMPLE_PREDICTION

        stored = json.loads((self.folder / EXAMPLE_PREDICTION).read_text(encoding="utf-8"))
        row = self.predict([self.folder / EXAMPLE_IMAGE])[0]
        if row.probability is None:
            raise RegistryError(f"the example of {self.folder} cannot be predicted: {row.error}")
        return abs(row.probability - float(stored["probability"]))

    def _batches(self, images: Iterator[tuple[int, Image]], masks: bool) -> Iterator[Prediction]:
        while chunk := list(islice(images, BATCH)):
            rows = [self._blank(_source(image, i)) for i, image in chunk]
            shapes: dict[int, tuple[int, int]] = {}
            inputs: list[np.ndarray] = []
            for k, (_, image) in enumerate(chunk):
                try:
                    pixels = _sized(read_pixels(image, self.package.color))
                    inputs.append(_as_rgb(prepare(pixels, self.package.input_size)))
                    shapes[k] = (pixels.shape[0], pixels.shape[1])
                except ImageError as error:
                    rows[k] = replace(rows[k], error=str(error))
            if inputs:
                outputs = self._run(np.stack(inputs).astype(np.float32), masks)
                for position, (k, shape) in enumerate(shapes.items()):
                    rows[k] = self._answer(rows[k], outputs, position, shape)
            yield from rows

    def _blank(self, source: str) -> Prediction:
        return Prediction(source, None, None, None, self.package.threshold, self.name, self.version)

    def _run(self, batch: np.ndarray, masks: bool) -> dict[str, np.ndarray]:
        """Probabilities (members, B) and, if asked for, the members' mean mask (B, S, S)."""
        wanted = ["malignancy", "mask"] if masks else ["malignancy"]
        answers = [session.run(wanted, {session.get_inputs()[0].name: batch}) for session in self._sessions]
        outputs = {"malignancy": np.stack([a[0][:, 0] for a in answers]).astype(np.float64)}
        if masks:
            outputs["mask"] = np.mean([a[1][..., 0] for a in answers], axis=0)
        return outputs

    def _answer(
        self, row: Prediction, outputs: dict[str, np.ndarray], position: int, shape: tuple[int, int]
    ) -> Prediction:
        members = outputs["malignancy"][:, position]
        if not np.isfinite(members).all():
            return replace(row, error="the model's output is not a number for this image; no answer is given.")
        probability = float(members.mean())
        mask = restore_mask(outputs["mask"][position], shape) if "mask" in outputs else None
        return replace(
            row,
            probability=probability,
            spread=float(np.ptp(members)),
            label="malignant" if probability >= self.package.threshold else "benign",
            mask=mask,
        )

    @cached_property
    def _sessions(self) -> list[Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Left alone, the runtime counts the machine's cores, not those this process may use.
        options.intra_op_num_threads = _cores()
        options.log_severity_level = 3
        try:
            return [
                onnxruntime.InferenceSession(
                    str(self.folder / member.onnx), options, providers=["CPUExecutionProvider"]
                )
                for member in self.package.members
            ]
        except Exception as error:  # onnxruntime's own classes derive from Exception only
            raise RegistryError(
                f"the networks in {self.folder} cannot be opened by onnxruntime {onnxruntime.__version__}: {error}"
            ) from error


def restore_mask(probabilities: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """From the network's square of probabilities (S, S), 0-1, to a mask (H, W) of 0 and 1 in original pixels.

    The inverse of `geometry.prepare`: cuts the padding off and resizes (bilinear), then splits at 0.5.
    """
    from PIL import Image as Pillow

    height, width = shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    scale = probabilities.shape[0] / side
    box = (left * scale, top * scale, (left + width) * scale, (top + height) * scale)
    square = Pillow.fromarray(probabilities.astype(np.float32))
    restored = square.resize((width, height), Pillow.Resampling.BILINEAR, box=box)
    return (np.asarray(restored) >= MASK_THRESHOLD).astype(np.uint8)


def mask_png(mask: np.ndarray) -> bytes:
    """A mask of 0 and 1 as the bytes of a black and white (0, 255) PNG."""
    from PIL import Image as Pillow

    stream = io.BytesIO()
    Pillow.fromarray(mask * np.uint8(255)).save(stream, format="PNG")
    return stream.getvalue()


def from_base64(text: str) -> bytes:
    """The bytes behind a base64 string; ImageError if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ImageError(f"not base64: {text[:40]!r}. Send the image file's bytes, base64-encoded.") from None


def read_pixels(image: Image, color: Literal["gray", "rgb"]) -> np.ndarray:
    """The uint8 pixels (H, W) or (H, W, 3), 0-255, of any image `predict` takes; ImageError otherwise."""
    if isinstance(image, np.ndarray):
        return _array_pixels(image, color)
    if isinstance(image, str | Path):
        return decode_image(Path(image), color)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), color)
    raise ImageError(f"an image is a path, bytes or a uint8 array but got {type(image).__name__}.")


def _array_pixels(image: np.ndarray, color: Literal["gray", "rgb"]) -> np.ndarray:
    from PIL import Image as Pillow

    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or not image.size:
        raise ImageError(
            f"an image array must be uint8 (H, W) or (H, W, 3) of 0-255 but is {image.dtype} {image.shape}."
        )
    return np.asarray(Pillow.fromarray(image).convert("L" if color == "gray" else "RGB"))


def _sized(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height not in SIDES or width not in SIDES:
        raise ImageError(
            f"the image has {width} x {height} pixels: a side must lie between {SIDES[0]} and {SIDES[-1]}. "
            "Give the image as the scanner wrote it."
        )
    return pixels


def _as_rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., np.newaxis], 3, axis=-1) if image.ndim == 2 else image


def _source(image: Image, index: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"image[{index}]"


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
