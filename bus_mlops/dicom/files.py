"""Files of any kind answered in their order: pictures by the model's own reader, DICOM images by this room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.consumer.client import Prediction
from bus_mlops.dicom.answer import FRAMES, ImageAnswer, answer
from bus_mlops.dicom.libraries import require_libraries
from bus_mlops.dicom.reading import OtherContentError, is_dicom, read_image
from bus_mlops.dicom.reply import reply
from bus_mlops.errors import BusMlopsError, DicomError
from bus_mlops.files import is_litter, printable

if TYPE_CHECKING:
    from pydicom import Dataset

    from bus_mlops.consumer.client import BusModel


class FileAnswers:
    """Answers to files.

    Attributes:
        details: By source, what is told of a DICOM image beside its row.
        skipped: By what they are, names of files of folders that were left out.
    """

    def __init__(
        self,
        model: BusModel,
        frames: int = FRAMES,
        out: Path | None = None,
        send: Callable[[Sequence[Dataset]], None] | None = None,
    ) -> None:
        """How to answer.

        Args:
            model: Which answers.
            frames: Of a clip, at most.
            out: Where reports and segmentations are written; None for none.
            send: Takes the objects of each answer, too.
        """
        self.model = model
        self.frames = frames
        self.details: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, list[str]] = {}
        self._out = out
        self._send = send
        self._studies: dict[str, list[Prediction]] = {}
        self._seen: set[str] = set()

    def stream(self, files: Sequence[Path], *, masks: bool) -> Iterator[Prediction]:
        """A row a file, in order; one that cannot be read gives a row with `error` set."""
        for are_dicom, group in groupby(files, is_dicom):
            if are_dicom:
                rows = (self._row(file) for file in group)
                yield from (row if masks else replace(row, mask=None) for row in rows)
            else:
                yield from self.model.stream(group, masks=masks)

    def stream_studies(self, paths: Sequence[Path]) -> Iterator[Prediction]:
        """A row for each ultrasound image among files and in folders, however deep, each answered in DICOM.

        What else is in the folders is counted in `skipped`; named itself, it gives a row with `error` set. Masks are in
        the segmentations only.
        """
        require_libraries()
        yield from (replace(row, mask=None) for row in self._study_rows(paths))

    def _study_rows(self, paths: Sequence[Path]) -> Iterator[Prediction]:
        for path in paths:
            if not path.is_dir():
                yield self._row(path)
                continue
            for file in sorted(path.rglob("*")):
                if file.is_file() and not is_litter(file.name) and (row := self._row_in_folder(file)) is not None:
                    yield row

    @property
    def studies(self) -> list[str]:
        """A sentence a study with several images: the highest of their probabilities, and how many are labelled."""
        said = []
        for number, rows in enumerate(self._studies.values(), start=1):
            highest = max(rows, key=lambda row: row.probability or 0.0)
            above = sum(row.label == "malignant" for row in rows)
            if highest.probability is not None and len(rows) > 1:
                said.append(
                    f"Study {number}, {len(rows)} images: the highest probability is {highest.probability:.3f} "
                    f"({printable(highest.source)}); {above} labelled malignant. Thresholds hold for single pictures."
                )
        return said

    @property
    def left_out(self) -> str:
        """What was skipped, in words; "" where nothing was."""
        return "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:3])}{' and more' if len(names) > 3 else ''}"
            for kind, names in self.skipped.items()
        )

    def _row_in_folder(self, file: Path) -> Prediction | None:
        if not is_dicom(file):
            self._skip(file, "no DICOM file")
            return None
        try:
            return self._answer(file)
        except OtherContentError as error:
            self._skip(file, error.kind)
            return None
        except DicomError as error:
            return unanswered(self.model, str(file), error)

    def _row(self, file: Path) -> Prediction:
        try:
            require_libraries()
            row = self._answer(file)
        except DicomError as error:
            return unanswered(self.model, str(file), error)
        if row is None:
            return unanswered(self.model, str(file), DicomError(f"{printable(file)} is a copy of an image before it."))
        return row

    def _answer(self, file: Path) -> Prediction | None:
        image = read_image(file)
        if self._out is not None and image.uid in self._seen:
            self._skip(file, "copies of images")
            return None
        self._seen.add(image.uid)
        found = answer(self.model, image, self.frames)
        told = found.to_dict() | self._replied(found)
        self.details[str(file)] = told
        row = replace(found.prediction, source=str(file))
        self._studies.setdefault(str(image.dataset.StudyInstanceUID), []).append(replace(row, mask=None))
        return row

    def _replied(self, found: ImageAnswer) -> dict[str, str]:
        if self._out is None:
            return {}
        made = reply(self.model, found)
        written = made.write(self._out)
        if self._send is not None:
            self._send(made.instances)
        return written

    def _skip(self, file: Path, kind: str) -> None:
        self.skipped.setdefault(kind, []).append(printable(file.name))


def unanswered(model: BusModel, source: str, error: BusMlopsError) -> Prediction:
    """The row of an image that could not be answered."""
    blank = Prediction(source, None, None, None, None, model.package.threshold, model.name, model.version)
    reason = str(error)
    return replace(
        blank,
        standing=model.standing,
        status="refused",
        reasons=(reason,),
        error=reason,
        error_type=type(error).__name__,
    )
