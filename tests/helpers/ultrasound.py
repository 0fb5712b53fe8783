"""Ultrasound images in DICOM, made of phantoms, and a model that needs no network: it calls dark places lesions."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from tiny_package import speckle

from bus_mlops.consumer.client import Prediction
from bus_mlops.consumer.package_format import NOTICE
from bus_mlops.consumer.standing import UNKNOWN

PATIENT = "Yamada^Hanako"
# Where the picture is in the images made here, and how large its pixels are: centimetres across and down.
TOP, LEFT, HEIGHT, WIDTH = 40, 60, 200, 240
ACROSS, DOWN = 0.01, 0.02


def region(
    top: int = TOP,
    left: int = LEFT,
    height: int = HEIGHT,
    width: int = WIDTH,
    *,
    spatial_format: int = 1,
    units: int = 3,
    across: Any = ACROSS,
    down: Any = DOWN,
) -> Any:
    """An item of the Sequence of Ultrasound Regions."""
    from pydicom import Dataset

    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = spatial_format, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = left + width - 1, top + height - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = across, down
    return item


def screen(seed: int = 0) -> np.ndarray:
    """A scanner's screen, 280 x 360: a phantom in its region, bright letters outside."""
    shown = np.zeros((280, 360), dtype=np.uint8)
    shown[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = speckle(HEIGHT, WIDTH, seed)
    shown[8:20:2, 10:200] = 255
    return shown


def ultrasound(pixels: Any = None, *, kind: Any = "MONOCHROME2", frames: Any = 1, **tags: Any) -> Any:
    """An image of the patient above, uncompressed.

    Args:
        pixels: (H, W) or (H, W, 3), with a first axis of `frames` if there are several; else `screen`.
        kind: Photometric interpretation.
        frames: More than one make it a multi-frame image.
        tags: Set at the end; those of None are removed.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    if pixels is None:
        pixels = screen() if frames == 1 else np.stack([screen(seed) for seed in range(frames)])
    shape = pixels.shape[1:] if frames > 1 else pixels.shape
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{'3' if frames > 1 else '6'}.1"
    image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID = (generate_uid() for _ in range(3))
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = PATIENT, "4711", "19700102", "F"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20260102", "101112", "S1", "A1"
    image.ReferringPhysicianName, image.Manufacturer, image.Modality = "", "Phantoms Ltd", "US"
    image.SeriesNumber, image.InstanceNumber, image.PatientOrientation = 3, 7, ""
    image.Laterality = ""
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.Rows, image.Columns = shape[:2]
    image.SamplesPerPixel = 3 if len(shape) == 3 else 1
    image.PhotometricInterpretation = kind
    image.BitsAllocated = 8 * pixels.dtype.itemsize
    image.BitsStored, image.HighBit = image.BitsAllocated, image.BitsAllocated - 1
    image.PixelRepresentation = 0
    if image.SamplesPerPixel == 3:
        image.PlanarConfiguration = 0
    if frames > 1:
        image.NumberOfFrames = frames
        image.FrameTime, image.FrameIncrementPointer = "33.3", 0x00181063
    image.SequenceOfUltrasoundRegions = [region()]
    image.PixelData = pixels.tobytes() + b"\x00" * (pixels.nbytes % 2)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wrong values are meant
        for keyword, value in tags.items():
            if value is None:
                del image[keyword]
            else:
                setattr(image, keyword, value)
    return image


def as_bytes(image: Any) -> bytes:
    """The content of its file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


class DarkModel:
    """Answers as `BusModel` does, by its pixels alone: a lesion is what is dark, and it is malignant if it is large.

    A picture that is nearly white is refused, as a package with a rule of refusal would do.
    """

    name, version, digest, standing = "dark", "3", "ab" * 32, UNKNOWN

    def __init__(self, *, masks: bool = True) -> None:
        self.package = SimpleNamespace(
            threshold=0.2, has_mask=masks, notice=NOTICE, phantom=True, judged=None, refusal=None, name=self.name
        )
        self.seen: list[np.ndarray] = []

    def stream(
        self, images: Iterable[np.ndarray], *, masks: bool = False, before_run: Callable[[], None] = lambda: None
    ) -> Iterator[Prediction]:
        for number, pixels in enumerate(images):
            before_run()
            self.seen.append(pixels)
            gray = pixels if pixels.ndim == 2 else pixels.mean(axis=-1)
            blank = Prediction(f"image[{number}]", None, None, None, None, 0.2, self.name, self.version)
            if gray.mean() > 230:
                yield Prediction(**{**vars(blank), "status": "refused", "reasons": ("It is no breast.",)})
                continue
            dark = (gray < 20).astype(np.uint8)
            probability = float(dark.mean())
            label = "malignant" if probability >= 0.2 else "benign"
            found = {"probability": probability, "label": label, "spread": 0.0, "members": (probability,)}
            yield Prediction(**{**vars(blank), **found, "mask": dark if masks else None})
