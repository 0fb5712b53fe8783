"""The files of phantoms: each source's own folders, names, tables and quirks."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bus_mlops.sources.record import Crop

_EPOCH = (1980, 1, 1, 0, 0, 0)
_WORDS = ("Benign", "Malignant")


@dataclass(frozen=True)
class Phantom:
    """A drawn (H, W) uint8 image, the 0/1 masks of its lesions, label and case; a copy knows its original."""

    image: NDArray[np.uint8]
    masks: tuple[NDArray[np.uint8], ...]
    label: int
    case: int
    copy_of: int | None = None


def write_hmss(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """Screenshots with borders, several images a case, a table with a byte-order mark; returns the names."""
    (folder / "imgs").mkdir(parents=True)
    names, covers = _hmss_names(phantoms)
    rows = []
    for i, (phantom, name) in enumerate(zip(phantoms, names, strict=True)):
        crop = _save_screenshot(folder / "imgs" / f"{name}.jpg", phantom.image, rng)
        word = _WORDS[phantom.label]
        # the group is not the label: as in the real table, a row may stand in a group of the other kind
        group = _WORDS[1 - phantom.label] if i == 7 else word
        about = ["Carcinoma" if phantom.label else "Fibroadenoma", "https://example.org/phantom", "A phantom"]
        box = [crop.top, crop.height, crop.left, crop.width]
        note = "changed" if i == 7 else ""
        url = f"https://example.org/{i}"
        rows.append([group, *about, url, name, covers[phantom.case], *box, word, note, ""])
    header = "group,subgroup,subgroup url,case description,img url,img name,case id/cover img id,crop r1,crop r2,"
    header += "crop col1,crop col2,tumor type,Notes,"
    _save_csv(folder / "HMSS.csv", header.split(","), rows, "utf-8-sig")
    return names


def write_thammasat(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """Screenshots with borders whose crop columns are absolute and 1-based; returns the names."""
    (folder / "imgs").mkdir(parents=True)
    names, rows, seen = [], [], dict[int, int]()
    for i, phantom in enumerate(phantoms):
        seen[phantom.case] = seen.get(phantom.case, 0) + 1
        number = phantom.case + 1
        name = f"Case-{number}-U-1-{seen[phantom.case]}" if number % 5 else f"Case-{number}-U{seen[phantom.case]}"
        crop = _save_screenshot(folder / "imgs" / f"{name}.jpg", phantom.image, rng)
        box = [crop.top + 1, crop.top + 1 + crop.height, crop.left + 1, crop.left + 1 + crop.width]
        rows.append([f"https://example.org/{i}", name, f"Case-{number}", _WORDS[phantom.label].lower(), *box])
        names.append(name)
    header = "img url,img name,case id/cover img id,tumor type,crop r1,crop r2,crop col1,crop col2"
    _save_csv(folder / "Thammasat.csv", header.split(","), rows)
    return names


def write_busis(folder: Path, phantoms: Sequence[Phantom], _: np.random.Generator) -> list[str]:
    """Images and masks side by side in `imgs/` and `GT/`, labels B and M; returns the names."""
    names = [f"case{i:04d}" for i in range(1, len(phantoms) + 1)]
    rows = []
    for phantom, name in zip(phantoms, names, strict=True):
        _save(folder / "imgs" / f"{name}.png", phantom.image)
        _save(folder / "GT" / f"{name}_GT.png", _joined(phantom))
        rows.append([name, f"{name}_GT", "BM"[phantom.label]])
    _save_csv(folder / "BUSIS562.csv", ["img name", "Ground Truth Name", "tumor type"], rows)
    return names


def write_dataset_b(folder: Path, phantoms: Sequence[Phantom], rng: np.random.Generator) -> list[str]:
    """Zero-padded names with gaps and a table with a legend beside it; returns the names."""
    numbers = np.sort(rng.choice(np.arange(1, 2 * len(phantoms) + 1), len(phantoms), replace=False))
    names = [f"{number:06d}" for number in numbers]
    rows: list[list[str | None]] = [["Image", "Type", "Diagnosis", None, "Legend", "Meaning"]]
    for phantom, name in zip(phantoms, names, strict=True):
        _save(folder / "imgs" / f"{name}.png", phantom.image)
        _save(folder / "GT" / f"{name}.png", _joined(phantom))
        rows.append([name, _WORDS[phantom.label], "IDC" if phantom.label else "FA", None, None, None])
    for row, legend in zip(rows[1:], (("FA", "Fibroadenoma"), ("IDC", "Invasive carcinoma")), strict=False):
        row[4:] = legend
    _save_xlsx(folder / "DatasetB.xlsx", rows)
    return names


def write_busi(folder: Path, phantoms: Sequence[Phantom], _: np.random.Generator) -> list[str]:
    """Folders as labels, `(N)` names, several masks in several modes, and `normal/`; returns the names."""
    for word in _WORDS:
        (folder / word.lower()).mkdir(parents=True)
    names, counts = [], [0, 0]
    for i, phantom in enumerate(phantoms):
        word = _WORDS[phantom.label].lower()
        counts[phantom.label] += 1
        name = f"{word} ({counts[phantom.label]})"
        image: NDArray[np.uint8] = np.stack([phantom.image] * 3, axis=-1) if i % 3 == 0 else phantom.image
        _save(folder / word / f"{name}.png", image)
        for k, mask in enumerate(phantom.masks):
            mode = ("RGBA", "1")[i] if i < 2 else "L"
            _save(folder / word / f"{name}_mask{f'_{k}' if k else ''}.png", mask * np.uint8(255), mode)
        names.append(name)
    for i, phantom in enumerate(phantoms[: min(3, len(phantoms))], start=1):
        tissue = phantom.image[: max(8, phantom.image.shape[0] // 4)]  # above the lesion
        _save(folder / "normal" / f"normal ({i}).png", tissue)
        _save(folder / "normal" / f"normal ({i})_mask.png", np.zeros_like(tissue))
    return names


def _hmss_names(phantoms: Sequence[Phantom]) -> tuple[list[str], dict[int, str]]:
    names, covers, seen = [], dict[int, str](), dict[int, int]()
    for phantom in phantoms:
        number = seen[phantom.case] = seen.get(phantom.case, 0) + 1
        if phantom.case % 2:
            name = f"{20011 + 37 * phantom.case}-Afbeelding{number}"
        elif phantom.case == 0 and number == 2:
            name = "2801-2"
        else:
            name = str(2800 + 16 * phantom.case + number)
        covers.setdefault(phantom.case, name)
        names.append(name)
    return names, covers


def _joined(phantom: Phantom) -> NDArray[np.uint8]:
    return np.any(phantom.masks, axis=0).astype(np.uint8) * np.uint8(255)


def _save_screenshot(path: Path, image: NDArray[np.uint8], rng: np.random.Generator) -> Crop:
    """A JPEG of the scanner's whole screen around the image; returns where the image is."""
    top, bottom, left, right = (int(margin) for margin in rng.integers(6, 28, 4))
    height, width = image.shape
    screen = np.full((top + height + bottom, left + width + right), 24, dtype=np.uint8)
    screen[1:4, 2 : left + width // 2] = 200
    screen[top : top + height, 1:4] = np.linspace(255, 0, height).astype(np.uint8)[:, None]
    screen[top : top + height, left : left + width] = image
    Image.fromarray(screen).save(path, quality=95)
    return Crop(top, left, height, width)


def _save(path: Path, pixels: NDArray[np.uint8], mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode and mode != image.mode else image).save(path, compress_level=3)


def _save_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]], encoding: str = "utf-8") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _save_xlsx(path: Path, rows: Sequence[Sequence[str | None]]) -> None:
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
