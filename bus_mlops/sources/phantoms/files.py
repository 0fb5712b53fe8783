"""Writing the files of phantoms: images, screenshots, CSV and XLSX tables, the same bytes every time."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bus_mlops.sources.record import Crop

WORDS = ("Benign", "Malignant")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def save_screenshot(path: Path, image: NDArray[np.uint8], rng: np.random.Generator) -> Crop:
    """A JPEG of the scanner's whole screen around the image.

    Returns:
        Where the image is.
    """
    top, bottom, left, right = (int(margin) for margin in rng.integers(6, 28, 4))
    height, width = image.shape
    screen = np.full((top + height + bottom, left + width + right), 24, dtype=np.uint8)
    screen[1:4, 2 : left + width // 2] = 200
    screen[top : top + height, 1:4] = np.linspace(255, 0, height).astype(np.uint8)[:, None]
    screen[top : top + height, left : left + width] = image
    Image.fromarray(screen).save(path, quality=95)
    return Crop(top, left, height, width)


def save_image(path: Path, pixels: NDArray[np.uint8], mode: str | None = None) -> None:
    """A PNG of (H, W) or (H, W, 3) pixels, or what the suffix says, in another mode of Pillow's if one is named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode and mode != image.mode else image).save(path, compress_level=3)


def save_csv(
    path: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    encoding: str = "utf-8",
    separator: str = ",",
) -> None:
    """A table of separated values."""
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header, *rows])


def save_xlsx(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """A workbook whose bytes do not depend on the time of writing."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in rows:
        sheet.append(list(row))
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as written, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in written.namelist():
            data = written.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"1980-01-01T00:00:00Z", data)
            file.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
