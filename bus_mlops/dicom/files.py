"""Files of any kind answered in their order: pictures by the model's own reader, DICOM images by this room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.consumer.client import Prediction
from bus_mlops.dicom.answer import FRAMES, answer
from bus_mlops.dicom.libraries import require_libraries
from bus_mlops.dicom.reading import is_dicom, read_image
from bus_mlops.errors import BusMlopsError, DicomError

if TYPE_CHECKING:
    from bus_mlops.consumer.client import BusModel


class FileAnswers:
    """Answers to files; `details` holds, by source, what is told of a DICOM image beside its row."""

    def __init__(self, model: BusModel, frames: int = FRAMES) -> None:
        self.model = model
        self.frames = frames
        self.details: dict[str, dict[str, Any]] = {}

    def stream(self, files: Sequence[Path], *, masks: bool) -> Iterator[Prediction]:
        """A row a file, in order; one that cannot be read gives a row with `error` set."""
        for are_dicom, group in groupby(files, is_dicom):
            if are_dicom:
                yield from map(self._row, group)
            else:
                yield from self.model.stream(group, masks=masks)

    def _row(self, file: Path) -> Prediction:
        try:
            require_libraries()
            found = answer(self.model, read_image(file), self.frames)
        except DicomError as error:
            return unanswered(self.model, str(file), error)
        self.details[str(file)] = found.to_dict()
        return replace(found.prediction, source=str(file))


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
