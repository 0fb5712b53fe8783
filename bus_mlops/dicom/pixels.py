"""A frame of a DICOM image as a viewer shows it: 8 bits, black is 0, colours are RGB.

What is done, and in which order, is that of the standard (PS3.3, C.7.6.3 and C.11): decode, rescale or modality table,
window or table of values of interest, then inverted if MONOCHROME1.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bus_mlops.errors import DicomError, ImageError
from bus_mlops.images import jpeg
from bus_mlops.images.opening import MAX_PIXELS, MAX_SIDE

if TYPE_CHECKING:
    from pydicom import Dataset

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_BASELINE, _EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
_DEEPEST = 16


def frame_count(dataset: Dataset) -> int:
    """How many frames an image says it has."""
    count = _number(dataset, "NumberOfFrames", 1)
    if count < 1:
        raise DicomError(f"it claims {count} frames. Export it again from the scanner or archive.")
    return count


def frame_pixels(dataset: Dataset, index: int) -> NDArray[np.uint8]:
    """A frame, (H, W) if it is gray, (H, W, 3) if it has colours, 0-255.

    Args:
        dataset: Of an image, with its pixel data.
        index: Of the frame, from 0.

    Raises:
        DicomError: It has too many pixels, is damaged, or is coded in a way that cannot be read; the message names no
            file.
    """
    kind = _require_readable(dataset)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that do not fit together: what matters is checked here
            _require_whole(dataset, index)
            values = _decoded(dataset, index)
            if kind in _MONOCHROME:
                return _gray(values, dataset, inverted=kind == "MONOCHROME1")
            return _colours(values, dataset, is_palette=kind == "PALETTE COLOR")
    except DicomError:
        raise
    except ImageError as error:  # half a JPEG
        raise DicomError(str(error)) from error
    except Exception as error:  # hostile bytes surface as almost any exception of the decoders
        raise DicomError(
            f"frame {index + 1} cannot be decoded ({type(error).__name__}: {_first_line(error)}). Send or export it "
            "again; if it stays so, have the archive send it uncompressed (Explicit VR Little Endian)."
        ) from error


def require_pixels(dataset: Dataset) -> None:
    """Refuse what has no pixels, or more a frame than any scanner writes.

    Raises:
        DicomError: So it is.
    """
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    if "PixelData" not in dataset or rows < 1 or columns < 1:
        raise DicomError("it holds no pixels. Send or export it again.")
    if rows * columns > MAX_PIXELS or max(rows, columns) > MAX_SIDE:
        raise DicomError(f"it claims {columns} x {rows} pixels: no scanner writes that.")


def _require_readable(dataset: Dataset) -> str:
    """The photometric interpretation, if it and the size are such as can be shown."""
    require_pixels(dataset)
    kind = str(dataset.get("PhotometricInterpretation", "")).strip()
    samples = _number(dataset, "SamplesPerPixel", 1)
    needs = 1 if kind in (*_MONOCHROME, "PALETTE COLOR") else 3
    if kind not in _MONOCHROME + _COLOURS or samples != needs:
        raise DicomError(
            f"its photometric interpretation {kind!r} with {samples} values a pixel cannot be shown: "
            f"{', '.join(_MONOCHROME + _COLOURS)} can."
        )
    stored, allocated = _number(dataset, "BitsStored"), _number(dataset, "BitsAllocated")
    if not (1 <= stored <= allocated <= _DEEPEST and allocated in (8, 16)) or (needs == 3 and allocated != 8):
        raise DicomError(
            f"it has {stored} of {allocated} bits a value: 8 or 16 for gray and 8 for colours can be read."
        )
    return kind


def _number(dataset: Dataset, keyword: str, default: int = 0) -> int:
    value = dataset.get(keyword)
    try:
        return default if value in (None, "") else int(value)
    except (TypeError, ValueError):
        raise DicomError(f"its {keyword} is no number. Export it again from the scanner or archive.") from None


def _decoded(dataset: Dataset, index: int) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    values = pixel_array(dataset, index=index)
    expected = (int(dataset.Rows), int(dataset.Columns))
    if values.shape[:2] != expected:
        raise DicomError(f"frame {index + 1} has {values.shape[:2]} pixels and claims {expected}. Send it again.")
    return values


def _require_whole(dataset: Dataset, index: int) -> None:
    """Refuse half a JPEG, and a compressed frame of another size than is claimed, before memory is taken for it."""
    from pydicom.encaps import get_frame

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    count = frame_count(dataset)
    extended = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    offsets = (extended[0], extended[1]) if all(extended) else None
    data = get_frame(dataset.PixelData, index, number_of_frames=count, extended_offsets=offsets)
    claimed = _claimed(data)
    if claimed is not None and claimed != (int(dataset.Rows), int(dataset.Columns)):
        raise DicomError(
            f"frame {index + 1} holds {claimed[1]} x {claimed[0]} pixels, but the image claims {dataset.Columns} x "
            f"{dataset.Rows}. Send or export it again."
        )
    if syntax in (_BASELINE, _EXTENDED) and int(dataset.BitsAllocated) == 8:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            picture.load()
            jpeg.require_whole(data.rstrip(b"\x00"), picture, f"frame {index + 1}")


def _claimed(data: bytes) -> tuple[int, int] | None:
    """Rows and columns in the head of a JPEG, JPEG-LS or JPEG 2000; None where there is no such head."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 1 << 12)
    if start >= 0:  # JPEG 2000: extents, then the offset of the picture in them
        right, bottom, left, top = (int.from_bytes(data[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
        return bottom - top, right - left
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _gray(values: NDArray[Any], dataset: Dataset, *, inverted: bool) -> NDArray[np.uint8]:
    shown = np.clip(_shown(values, dataset), 0, 1)
    eight = np.rint((1 - shown if inverted else shown) * 255)
    return np.asarray(eight, dtype=np.uint8)


def _shown(values: NDArray[Any], dataset: Dataset) -> NDArray[np.float64]:
    """Gray values as fractions of what is shown, of which 0 is the least."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    stored = 2 ** int(dataset.BitsStored)
    low, high = (-stored // 2, stored // 2 - 1) if dataset.get("PixelRepresentation") == 1 else (0, stored - 1)
    if dataset.get("ModalityLUTSequence"):
        values = apply_modality_lut(values, dataset)
        low, high = 0, _greatest(dataset.ModalityLUTSequence[0])
    slope, intercept = (float(dataset.get(name) or default) for name, default in _RESCALE)
    scaled = values.astype(np.float64) * slope + intercept
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if dataset.get("VOILUTSequence"):
        table = apply_voi(scaled.astype(np.int64), dataset)
        return np.asarray(table / _greatest(dataset.VOILUTSequence[0]), dtype=np.float64)
    center, width = (_first_value(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        return np.asarray((scaled - ends[0]) / max(ends[1] - ends[0], 1e-9), dtype=np.float64)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if width <= 0 or not np.isfinite([center, width]).all() or function not in _WINDOWS:
        raise DicomError(f"its window ({function}, centre {center:g}, width {width:g}) cannot be applied.")
    return _WINDOWS[function](scaled, center, width)


_RESCALE = (("RescaleSlope", 1), ("RescaleIntercept", 0))
# PS3.3, C.11.2.1.2 and C.11.2.1.3, onto 0-1.
_WINDOWS: dict[str, Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]] = {
    "LINEAR": lambda x, c, w: (x - (c - 0.5)) / max(w - 1, 1e-9) + 0.5,
    "LINEAR_EXACT": lambda x, c, w: (x - c) / w + 0.5,
    "SIGMOID": lambda x, c, w: 1 / (1 + np.exp(np.clip(-4 * (x - c) / w, -700, 700))),
}


def _greatest(table: Dataset) -> int:
    """The greatest value that a lookup table's entries can have."""
    return int(2 ** int(table.LUTDescriptor[2]) - 1)


def _first_value(value: Any) -> float | None:
    if value is None or value == "":
        return None
    several = hasattr(value, "__len__") and not isinstance(value, str)
    return float(value[0]) if several else float(value)


def _colours(values: NDArray[Any], dataset: Dataset, *, is_palette: bool) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    if is_palette:
        values = apply_color_lut(values, dataset)[..., :3]
        # Tables of 16 bits of which some scanners fill the lower 8 only.
        if values.dtype != np.uint8 and int(values.max()) > 255:
            values = values >> 8
    return np.ascontiguousarray(values, dtype=np.uint8)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:120]
