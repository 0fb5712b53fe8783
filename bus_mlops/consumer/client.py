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
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bus_mlops.consumer.answer_log import AnswerLog
from bus_mlops.consumer.explanation import occlusion_map
from bus_mlops.consumer.find import find
from bus_mlops.consumer.local_triage import read_triage
from bus_mlops.consumer.onnx_graph import require_plain_graph
from bus_mlops.consumer.package_files import OpenedPackage, open_package
from bus_mlops.consumer.package_format import EXAMPLE_IMAGE, Member, Package, combine
from bus_mlops.consumer.refusal import Refusal, Status, Triage
from bus_mlops.consumer.standing import UNKNOWN, Standing, reconciled
from bus_mlops.errors import BusMlopsError, ImageError, ModelOutputError, RegistryError
from bus_mlops.files import printable
from bus_mlops.images.contrast import require_contrast
from bus_mlops.images.geometry import prepare
from bus_mlops.images.model_input import Base64, Image, as_rgb, contents, read_with_color, require_size, restore_mask
from bus_mlops.limits import core_count

BATCH = 16
EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one image, or the reason why there is none."""

    source: str
    """The path as given; `image[i]` for anything else."""
    probability: float | None
    """Of malignancy, 0-1: the mean over the members. None if the image could not be read."""
    spread: float | None
    """Greatest minus least probability over the members, 0-1; 0 for a single member."""
    members: tuple[float, ...] | None
    """The calibrated probability of malignancy, 0-1, of each member that was asked, in the order of the package."""
    label: Literal["benign", "malignant"] | None
    """Malignant if probability >= threshold."""
    threshold: float
    model: str
    version: str | None
    """In the registry; None for a folder that was never registered."""
    mask: np.ndarray | None = None
    """uint8 (H, W), 1 inside the lesion, in the pixels of the original image; None unless asked for."""
    explanation: np.ndarray | None = None
    """float32 (H, W), -1 to 1: how far the probability falls when that place is covered; None unless asked for."""
    error: str | None = None
    error_type: str | None = None
    """ImageSizeError (too many or too few pixels), ImageError (not a readable image) or ModelOutputError."""
    standing: Standing = UNKNOWN
    """What the gate and those who decide have said of the model; `str` of it is a sentence."""
    status: Status = "answered"
    """`refused`: no answer, because the image could not be read or is none that the model knows; `uncertain`: an
    answer that the calibration cases do not support."""
    reasons: tuple[str, ...] = ()
    """Of a status that is not `answered`, each a sentence."""
    oddness: float | None = None
    """How unlike its training images the model finds the image, larger is odder; None if it cannot tell."""
    triage: Triage | None = None
    """Whether malignant (`low`) or benign (`high`) can be ruled out at the nominal rate; None if it cannot tell."""
    input: str | None = None
    """sha256 of the image's bytes, or of an array's; None if its file could not be read."""
    seconds: float | None = field(default=None, compare=False)
    """From the reading of the image to its answer; images of one batch are answered together."""


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
        self._given = opened
        self._sessions: dict[int, Any] = {}
        self._opening = Lock()

    def __repr__(self) -> str:
        """Which model it is, and what was decided about it."""
        which = f"version {self.version}" if self.version else f"from {self.folder}"
        return f"<BusModel {self.name} {which}: {self.standing}>"

    @cached_property
    def opened(self) -> OpenedPackage:
        """The package as it was checked."""
        return self._given or open_package(self.folder)

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
        session = self._session(member)
        (answer,) = session.run(["malignancy"], {session.get_inputs()[0].name: squares.astype(np.float32)})
        return _probabilities(self.package.members[member], answer, len(squares))

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
        wanted = ["malignancy", "mask"] if masks else ["malignancy"]
        asked = [(self.package.members[i], self._session(i)) for i in members]
        answers = []
        for _, session in asked:
            before_run()
            answers.append(session.run(wanted, {session.get_inputs()[0].name: batch}))
        calibrated = [
            member.calibration.apply(_probabilities(member, answer[0], len(batch)))
            for (member, _), answer in zip(asked, answers, strict=True)
        ]
        outputs = {"members": np.array(calibrated, dtype=np.float64)}
        outputs["malignancy"] = combine(outputs["members"])
        if masks:
            outputs["mask"] = np.mean([answer[1][..., 0] for answer in answers], axis=0)
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

    def _session(self, member: int) -> Any:
        """The network at a place in the package, opened when it is asked for the first time."""
        with self._opening:
            if member not in self._sessions:
                self._sessions[member] = self._open(self.package.members[member])
        return self._sessions[member]

    def _open(self, member: Member) -> Any:
        import onnxruntime

        contents = self.opened.contents
        require_plain_graph(contents[member.onnx], self.folder / member.onnx)
        try:
            session = onnxruntime.InferenceSession(
                contents[member.onnx], self._options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes derive from Exception only
            raise RegistryError(
                f"the networks in {self.folder} cannot be opened by onnxruntime {onnxruntime.__version__}: {error}"
            ) from error
        _require_as_described(session, self.package, self.folder / member.onnx)
        # The runtime holds the network now. Its wrapper would keep the file's bytes as well, for other providers only.
        session.disable_fallback()
        session._model_bytes = None  # noqa: SLF001 - there is no public way, and it doubles the memory of a package
        del contents[member.onnx]
        return session

    @cached_property
    def _options(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Left alone, the runtime counts the machine's cores, not those this process may use.
        options.intra_op_num_threads = core_count()
        options.log_severity_level = 3
        # An arena for each member is never given back: five of MT-ESTAN's hold 0.8 GiB between two images.
        options.enable_cpu_mem_arena = False
        # Threads that wait turn round otherwise: twice the seconds of the processor for the same latency.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A graph is all in its file: one that names another is not followed.
        options.add_session_config_entry(EXTERNAL_DATA, str(self.folder / "none"))
        # The runtime's own format is recognised by its first bytes otherwise, and nothing here has looked into that.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        return options


def _probabilities(member: Member, answer: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """A network's probabilities (B,); NaN where it gave none from 0 to 1."""
    if answer.shape != (count, 1):
        raise RegistryError(f"{member.onnx} answers {count} images with {answer.shape}: the package is none of ours.")
    raw = answer[:, 0].astype(np.float64)
    return np.where((raw >= 0) & (raw <= 1), raw, np.nan)


def _require_as_described(session: Any, package: Package, path: Path) -> None:
    """Raise unless a network takes and gives what the package says."""
    size = package.input_size
    (*more, image), outputs = session.get_inputs(), {output.name for output in session.get_outputs()}
    takes = (image.type, list(image.shape[1:]))
    if more or takes != ("tensor(float)", [size, size, 3]) or not outputs >= set(package.outputs):
        raise RegistryError(
            f"{path} takes {takes} and gives {sorted(outputs)}, but the package says {size} x {size} pixels and "
            f"{list(package.outputs)}: it was changed before it was summed up. Write the package anew."
        )


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
