"""An answer as the DICOM objects that go back into the study: the segmentation, then the report that points to it."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.dicom.answer import ImageAnswer
from bus_mlops.dicom.identity import as_file
from bus_mlops.dicom.quiet import silenced
from bus_mlops.dicom.report import report
from bus_mlops.dicom.segmentation import segmentation
from bus_mlops.errors import DicomError
from bus_mlops.files import replacing

if TYPE_CHECKING:
    from pydicom import Dataset

    from bus_mlops.consumer.client import BusModel


@dataclass(frozen=True)
class Reply:
    """A report, and the segmentation that it points to; None where the model marked nothing."""

    report: Dataset
    segmentation: Dataset | None

    @property
    def instances(self) -> list[Dataset]:
        """In the order of sending: where the report is, all is."""
        return [each for each in (self.segmentation, self.report) if each is not None]

    def write(self, folder: Path) -> dict[str, str]:
        """Write the files, named by their UIDs, so that the same answer replaces itself.

        Returns:
            Their paths by `sr` and `seg`.
        """
        paths = {}
        for name, instance in (("seg", self.segmentation), ("sr", self.report)):
            if instance is not None:
                path = folder / f"{name.upper()}-{instance.SOPInstanceUID}.dcm"
                with replacing(path) as temporary:
                    temporary.write_bytes(as_file(instance))
                paths[name] = str(path)
        return paths


def reply(model: BusModel, found: ImageAnswer) -> Reply:
    """The objects of an answer.

    Raises:
        DicomError: The image's own attributes are such that none can be made.
    """
    try:
        # What they say quotes names of patients.
        with warnings.catch_warnings(), silenced(*map(logging.getLogger, ("pydicom", "highdicom.base"))):
            warnings.simplefilter("ignore")
            drawn = segmentation(model, found)
            return Reply(report(model, found, drawn), drawn)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DicomError(
            f"{found.image.name}: no report can be written about it ({type(error).__name__}): its attributes do not "
            "fit the standard. Export it again from the scanner or archive."
        ) from error
