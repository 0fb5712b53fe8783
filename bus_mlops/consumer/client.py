"""Predict with a promoted model, without TensorFlow: probability, label and lesion mask of an image.

from bus_mlops import load_model

model = load_model("models:/bus-mt-estan@champion")
for row in model.predict(["scan.png"], masks=True):
    print(row.source, row.probability, row.label)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bus_mlops.consumer.answer_log import AnswerLog
from bus_mlops.consumer.explanation import occlusion_map
from bus_mlops.consumer.find import find
from bus_mlops.consumer.local_triage import read_triage
from bus_mlops.consumer.networks import Networks
from bus_mlops.consumer.package_files import OpenedPackage
from bus_mlops.consumer.package_format import EXAMPLE_IMAGE, Package, combine
from bus_mlops.consumer.prediction import Prediction
from bus_mlops.consumer.refusal import Refusal
from bus_mlops.consumer.standing import Standing, reconciled
from bus_mlops.errors import BusMlopsError, ImageError, ModelOutputError, RegistryError
from bus_mlops.files import printable
from bus_mlops.images.contrast import require_contrast
from bus_mlops.images.geometry import prepare
from bus_mlops.images.model_input import Base64, Image, as_rgb, contents, read_with_color, require_size, restore_mask

__all__ = ["BATCH", "BusModel", "Prediction", "load_model"]

BATCH = 16


def load_model(
    uri: str | Path,
    tracking_uri: str | None = None,
    *,
    log: str | Path | None = None,
    triage: str | Path | None = None,
) -> BusModel:
    """Load a model, checking every file's sha256.

    Args:
        uri: `models:/name@alias`, `models:/name/3`, a package folder or `s3://...`.
        tracking_uri: The store; else MLFLOW_TRACKING_URI, else `tracking.uri` of ./params.yaml, else ./mlflow.db.
        log: A file that every answer is added to, as a line (`AnswerLog`).
        triage: A file of `bus-mlops accept`, whose rule of triage takes the place of the package's.

    Raises:
        RegistryError: There is no such model (it names what there is), a file was changed (it names the file), or
            the triage is not for it.
        AnswerLogError: The log cannot be written.
    """
    location, opened = find(str(uri), tracking_uri)
    model = BusModel(location.folder, opened.package, location.name, location.version, opened, location.standing)
    if triage is not None:
        known = model.package.refusal or Refusal()
        local = known.model_copy(update={"triage": read_triage(triage, model.name, model.digest)})
        model.package = model.package.model_copy(update={"refusal": local})
    model.log = None if log is None else AnswerLog(log)
    return model


class BusModel:
    """An ensemble of ONNX networks with its preprocessing and its threshold.

    It answers with the bytes that were checked when the package was opened; without `opened` it opens the package
    itself, once they are needed.
    """

    def __init__(
        self,
        folder: Path,
        package: Package,
        name: str | None = None,
        version: str | None = None,
        opened: OpenedPackage | None = None,
        standing: Standing | None = None,
    ) -> None:
        self.folder = folder
        self.package = package
        self.name = name or package.name
        self.version = version
        self.standing = reconciled(standing, package.gate)
        self.log: AnswerLog | None = None
        """Where each answer is written down before it is given."""
        self._networks = Networks(folder, package, opened)

    def __repr__(self) -> str:
        """Which model it is, and what was decided about it."""
        which = f"version {self.version}" if self.version else f"from {self.folder}"
        return f"<BusModel {self.name} {which}: {self.standing}>"

    @property
    def opened(self) -> OpenedPackage:
        """The package as it was checked."""
        return self._networks.opened

    @property
    def digest(self) -> str:
        """What identifies the package whatever it is called: the sha256 of its SHA256SUMS."""
        return self.opened.digest

    def predict(
        self,
        images: Sequence[Image],
        *,
        masks: bool = False,
        explanations: bool = False,
        members: Sequence[int] | None = None,
        refuse: bool = True,
    ) -> list[Prediction]:
        """One `Prediction` an image, in order; an image that cannot be read gives a row with `error` set.

        Args:
            images: Paths, the bytes of an image file, the same as `Base64`, or uint8 arrays (H, W) or (H, W, 3),
                0-255.
            masks: Also predict the lesion's mask.
            explanations: Also draw what the probability rests on; costs 64 more predictions an image.
            members: The places (from 0) of the networks that answer, for what only they have not seen; else all do.
            refuse: Whether pictures that the package finds odd get no probability; else every picture gets one.

        Raises:
            RegistryError: Masks are asked of a model that has none, or a member that it has not.
            AnswerLogError: The model has a log that an answer cannot be added to.
        """
        if isinstance(images, str | bytes | Path):
            raise TypeError(f"predict takes a list of images but got one {type(images).__name__}: put it in a list.")
        return list(self.stream(images, masks=masks, explanations=explanations, members=members, refuse=refuse))

    def stream(
        self,
        images: Iterable[Image],
        *,
        masks: bool = False,
        explanations: bool = False,
        members: Sequence[int] | None = None,
        before_run: Callable[[], None] = lambda: None,
        refuse: bool = True,
    ) -> Iterator[Prediction]:
        """As `predict`, but lazily: holds at most 16 images at a time, and one mask.

        `before_run` is called before each image is read and each network is run; what it raises ends the work.
        """
        if masks and not self.package.has_mask:
            raise RegistryError(f"{self.name} has no mask output: it only classifies. Ask without masks.")
        count = len(self.package.members)
        asked = tuple(range(count) if members is None else members)
        if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(range(count)):
            raise RegistryError(f"{self.name} has the members 0 to {count - 1}: it cannot answer with {list(asked)}.")
        rows = self._batches(enumerate(images), masks, explanations, asked, before_run, refuse)
        return rows if self.log is None else self.log.noting(self.digest, rows)

    def check_example(self) -> float:
        """Predict the package's own example.

        Returns:
            The distance from the stored probability (0-1). A large one means that this machine's runtime computes
            something else than the one that wrote it.
        """
        example = enumerate([self.opened.contents[EXAMPLE_IMAGE]])
        everyone = tuple(range(len(self.package.members)))
        row = next(self._batches(example, False, False, everyone, lambda: None, refuse=False))
        if row.probability is None:
            raise RegistryError(f"the example of {self.folder} cannot be predicted: {row.error}")
        return abs(row.probability - self.opened.example.probability)

    def raw(self, member: int, squares: NDArray[np.uint8]) -> NDArray[np.float64]:
        """What one network says itself, before its calibration.

        Args:
            member: Its place in the package, from 0.
            squares: (B, S, S, 3), 0-255, of the network's own size.

        Returns:
            Probabilities (B,); NaN where it gave none from 0 to 1.
        """
        return self._networks.run(member, squares.astype(np.float32))[0]

    def _batches(
        self,
        images: Iterator[tuple[int, Image]],
        masks: bool,
        explanations: bool,
        members: tuple[int, ...],
        before_run: Callable[[], None],
        refuse: bool,
    ) -> Iterator[Prediction]:
        while chunk := list(islice(images, BATCH)):
            rows = [self._blank(_source(image, i)) for i, image in chunk]
            began: dict[int, float] = {}
            shapes: dict[int, tuple[int, int]] = {}
            inputs: list[NDArray[np.uint8]] = []
            for k, (_, image) in enumerate(chunk):
                before_run()
                began[k] = time.monotonic()
                try:
                    content = contents(image)
                    rows[k] = replace(rows[k], input=hashlib.sha256(_bytes(content)).hexdigest())
                    pixels, colored = read_with_color(content, self.package.color, _name(image))
                    require_size(pixels)
                    require_contrast(pixels, printable(rows[k].source))
                    square = as_rgb(prepare(pixels, self.package.input_size))
                    rows[k] = self._looked_at(rows[k], square, colored, refuse)
                    if rows[k].status != "refused":
                        inputs.append(square)
                        shapes[k] = (pixels.shape[0], pixels.shape[1])
                except ImageError as error:
                    rows[k] = _failed(rows[k], error)
            outputs = self._run(np.stack(inputs).astype(np.float32), masks, members, before_run) if inputs else {}
            places = {k: position for position, k in enumerate(shapes)}
            # One after the other, since a mask or a map is as large as its image.
            for k, row in enumerate(rows):
                if k not in places:
                    yield replace(row, seconds=time.monotonic() - began[k])
                    continue
                answer = self._answer(row, outputs, places[k], shapes[k])
                if explanations and answer.probability is not None:
                    explanation = self._explain(answer.probability, inputs[places[k]], shapes[k], members, before_run)
                    answer = replace(answer, explanation=explanation)
                yield replace(answer, seconds=time.monotonic() - began[k])

    def _blank(self, source: str) -> Prediction:
        package = self.package
        blank = Prediction(source, None, None, None, None, package.threshold, self.name, self.version)
        return replace(blank, standing=self.standing)

    def _looked_at(self, row: Prediction, square: NDArray[np.uint8], colored: float, refuse: bool) -> Prediction:
        """The row with the picture's oddness, refused if that is too great or too much of it is coloured."""
        known = self.package.refusal
        if known is None:
            return row
        oddness, reasons = known.look(square, colored)
        if not refuse or not reasons:
            return replace(row, oddness=oddness)
        return replace(row, oddness=oddness, status="refused", reasons=reasons)

    def _triaged(self, row: Prediction) -> Prediction:
        """The row with what can be ruled out at the nominal rates; uncertain if that is nothing."""
        rule = self.package.refusal and self.package.refusal.triage
        if not rule or row.probability is None:
            return row
        triage = rule.of(row.probability)
        if triage != "uncertain":
            return replace(row, triage=triage)
        return replace(row, triage=triage, status="uncertain", reasons=(rule.reason(row.probability),))

    def _run(
        self, batch: NDArray[np.float32], masks: bool, members: tuple[int, ...], before_run: Callable[[], None]
    ) -> dict[str, np.ndarray]:
        """Calibrated probabilities (members, B), their mean (B,) and, if asked for, the mean mask (B, S, S)."""
        calibrated: list[NDArray[np.float64]] = []
        drawn: list[NDArray[np.float32]] = []
        for member in members:
            before_run()
            probabilities, mask = self._networks.run(member, batch, mask=masks)
            calibrated.append(self.package.members[member].calibration.apply(probabilities))
            drawn += [] if mask is None else [mask]
        outputs = {"members": np.array(calibrated, dtype=np.float64)}
        outputs["malignancy"] = combine(outputs["members"])
        if drawn:
            outputs["mask"] = np.mean(drawn, axis=0)
        return outputs

    def _answer(
        self, row: Prediction, outputs: dict[str, np.ndarray], position: int, shape: tuple[int, int]
    ) -> Prediction:
        members = outputs["members"][:, position]
        if not np.isfinite(members).all():
            reason = "the model's output is not a number from 0 to 1 for this image; no answer is given."
            return _failed(row, ModelOutputError(reason))
        probability = float(outputs["malignancy"][position])
        answer = replace(
            row,
            probability=probability,
            spread=float(np.ptp(members)),
            members=tuple(float(p) for p in members),
            label="malignant" if probability >= self.package.threshold else "benign",
            mask=restore_mask(outputs["mask"][position], shape) if "mask" in outputs else None,
        )
        # The rule was calibrated on answers of all members that have not seen an image, not on any choice of them.
        return self._triaged(answer)

    def _explain(
        self,
        probability: float,
        square: NDArray[np.uint8],
        shape: tuple[int, int],
        members: tuple[int, ...],
        before_run: Callable[[], None],
    ) -> NDArray[np.float32]:
        def probabilities(batch: NDArray[np.float32]) -> NDArray[np.float64]:
            return self._run(batch, masks=False, members=members, before_run=before_run)["malignancy"]

        return occlusion_map(square, probability, probabilities, shape)


def _failed(row: Prediction, error: BusMlopsError) -> Prediction:
    return replace(row, status="refused", reasons=(str(error),), error=str(error), error_type=type(error).__name__)


def _source(image: Image, index: int) -> str:
    return str(image) if _is_path(image) else f"image[{index}]"


def _name(image: Image) -> str:
    """What its errors call it."""
    return printable(str(image)) if _is_path(image) else "the image"


def _bytes(content: bytes | NDArray[Any]) -> bytes:
    return content if isinstance(content, bytes) else content.tobytes()


def _is_path(image: Image) -> bool:
    return isinstance(image, str | Path) and not isinstance(image, Base64)
