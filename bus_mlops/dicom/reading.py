"""From a file, or an archive's bytes, to an ultrasound image, or why it is none: its tags say, before its pixels."""

from __future__ import annotations

import io
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.dicom.pixels import frame_count, require_pixels
from bus_mlops.dicom.quiet import silenced
from bus_mlops.dicom.regions import Region, regions_of
from bus_mlops.errors import DicomError
from bus_mlops.files import printable

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

# Ultrasound images, and those of several frames; the last two are retired forms of the same.
IMAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.3",
)
MODALITY = "US"
# Copies of screens, of one frame or of several.
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MAX_BYTES = 1 << 30
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DIRECTORY = "1.2.840.10008.1.3.10"
# How the breast is written where it is written; some scanners use their language.
_BREAST = re.compile(r"BREAST|MAMM|BRUST|SENO|SEIN", re.IGNORECASE)
# The heads of files with a preamble, and of those without one, in little-endian order.
_HEADS = re.compile(rb"(?s).{128}DICM|\x02\x00\x00\x00UL|\x08\x00[\x00-\x20]\x00")
_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class OtherContentError(DicomError):
    """A whole DICOM file that is no ultrasound picture of a breast, or is an answer of ours; `kind` says in words."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class UltrasoundImage:
    """An ultrasound image whose tags say that it can be answered; its frames are decoded when they are asked for.

    Attributes:
        dataset: With its pixel data, texts decoded.
        name: For messages: nothing of the patient.
        regions: Where the pictures in each frame are.
        frames: How many there are.
    """

    dataset: Dataset
    name: str
    regions: tuple[Region, ...]
    frames: int

    @property
    def uid(self) -> str:
        """Its SOP Instance UID."""
        return str(self.dataset.SOPInstanceUID)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, whatever its name."""
    try:
        with path.open("rb") as stream:
            return _HEADS.match(stream.read(140)) is not None
    except OSError:
        return False


def read_image(source: Path | bytes, name: str = "the image") -> UltrasoundImage:
    """An ultrasound image.

    Args:
        source: A file, or the bytes of one.
        name: Of bytes, for messages.

    Raises:
        OtherContentError: It is something else: another modality or part of the body, a report, a directory.
        DicomError: It cannot be read, or lacks what an answer needs.
    """
    called = printable(source) if isinstance(source, Path) else name
    return image_of(_parsed(source, called), called)


def image_of(dataset: Dataset, called: str) -> UltrasoundImage:
    """As `read_image`, of what was read already.

    Args:
        dataset: With its pixel data.
        called: For messages.

    Raises:
        DicomError: As in `read_image`.
    """
    try:
        _decode(dataset)
        _require_ultrasound(dataset)
        return UltrasoundImage(dataset, called, regions_of(dataset), frame_count(dataset))
    except OtherContentError as error:
        raise OtherContentError(f"{called}: {error}", error.kind) from None
    except DicomError as error:
        raise DicomError(f"{called}: {error}") from None


def _parsed(source: Path | bytes, name: str) -> Dataset:
    from pydicom import dcmread

    data = _content(source, name) if isinstance(source, Path) else source
    if len(data) > MAX_BYTES:
        raise DicomError(f"{name} has {len(data):,} bytes: more than {MAX_BYTES:,} are not read. Send a shorter clip.")
    if not _HEADS.match(data[:140]):
        raise DicomError(f"{name} is not a DICOM file. Copy or export it again.")
    try:
        with warnings.catch_warnings(), silenced(logging.getLogger("pydicom")):
            warnings.simplefilter("ignore")  # they quote values, and what matters is checked
            head = dcmread(io.BytesIO(data), force=True, specific_tags=[])
            syntax = head.file_meta.get("TransferSyntaxUID")
            if syntax == _DEFLATED:
                raise DicomError(f"{name} is deflated: its size is not known before it is read. Send it uncompressed.")
            dataset = dcmread(io.BytesIO(data), force=True)
            if syntax is None:  # without a head, it is in the order and with the types that the reader found
                dataset.file_meta.TransferSyntaxUID = _found_syntax(dataset)
            if dataset.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
                raise OtherContentError(f"{name} is a DICOMDIR: name the folder that it is of.", "DICOMDIR")
            return dataset
    except DicomError:
        raise
    except Exception as error:  # hostile bytes surface as almost any exception of the parser, some with values in it
        raise DicomError(f"{name} is damaged ({type(error).__name__}). Copy or export it again.") from error


def _decode(dataset: Dataset) -> None:
    """Texts as texts, whatever the script."""
    try:
        with warnings.catch_warnings(), silenced(logging.getLogger("pydicom")):
            warnings.simplefilter("ignore")
            dataset.decode()
    except Exception as error:  # hostile bytes surface as almost any exception, some with values in it
        raise DicomError(f"it is damaged ({type(error).__name__}). Copy or export it again.") from error


def _content(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DicomError(f"{name} has more than {MAX_BYTES:,} bytes, which are not read. Send a shorter clip.")
        return path.read_bytes()
    except OSError as error:
        raise DicomError(f"{name} cannot be read: {error.strerror or error}. Check that it is there.") from error


def _found_syntax(dataset: Dataset) -> UID:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else explicit


def _require_ultrasound(dataset: Dataset) -> None:
    found = str(dataset.get("SOPClassUID", "")), str(dataset.get("Modality", "")).strip().upper()
    if found[0] not in IMAGE_CLASSES or found[1] != MODALITY:
        kind = _kind(*found)
        if found[0].startswith(_SECONDARY_CAPTURE) and found[1] == MODALITY:
            raise OtherContentError(
                f"it is a copy of a screen ({kind}), without the scanner's own regions and calibration: not answered. "
                "Send the ultrasound image itself.",
                kind,
            )
        raise OtherContentError(f"it is no ultrasound image, but {kind}: not answered.", kind)
    part = str(dataset.get("BodyPartExamined") or "").strip()
    if part and not _BREAST.search(part):
        raise OtherContentError(
            f"its Body Part Examined is {printable(part[:16])}: only the breast is answered.",
            "ultrasound of another part of the body",
        )
    require_pixels(dataset)
    lacking = [name for name in _IDENTIFIERS if not _is_identifier(dataset.get(name))]
    if lacking:
        raise DicomError(f"it has no valid {', '.join(lacking)}, so that no answer can point to it. Export it again.")


def _is_identifier(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)+", value) is not None


def _kind(sop_class: str, modality: str) -> str:
    """What an object is, by its class and, where it is an image of another modality, by that."""
    from pydicom.uid import UID

    named = UID(sop_class).name if _is_identifier(sop_class) else ""
    if not named or named == sop_class:
        named = "an object of an unknown class"
    shown = modality if re.fullmatch(r"[A-Z]{2,16}", modality) else "no modality"
    return f"{named} ({shown})"
