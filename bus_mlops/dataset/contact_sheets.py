"""Contact sheets: the audit's near-duplicate clusters as pages of pictures, for a look with one's own eyes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bus_mlops.dataset.audit import Audit
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.errors import DatasetError
from bus_mlops.files import replaced_folder

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("benign", "malignant")
_TILE = 200
_COLUMNS = 6
_CAPTION = 44
_HEADING = 30
_PAGE = 1500
_GAP = 10
_PAGE_NAME = re.compile(r"page-\d{3,}\.png")
_COLORS = {0: "#0a6b3d", 1: "#b3261e"}


@dataclass(frozen=True)
class Sheet:
    """One cluster: its images' rows in the manifest, and whether both labels occur."""

    name: str
    rows: tuple[int, ...]
    conflict: bool

    @property
    def columns(self) -> int:
        """Pictures side by side."""
        return min(len(self.rows), _COLUMNS)

    @property
    def height(self) -> int:
        """Pixels that the cluster takes on a page."""
        lines = -(-len(self.rows) // _COLUMNS)
        return _HEADING + lines * (_TILE + _CAPTION + _GAP)


Line = list[Sheet]


def sheets(benchmark: Benchmark, found: Audit) -> list[Sheet]:
    """The clusters of two images and more: those with both labels first, then the least alike first."""
    frame = benchmark.frame.merge(found.clusters, on="image_id")
    weakest = _weakest(found)
    listed = [
        Sheet(str(name), tuple(int(row) for row in rows["index"]), rows["label"].nunique() > 1)
        for name, rows in frame.groupby("cluster")
        if len(rows) > 1
    ]
    return sorted(listed, key=lambda sheet: (not sheet.conflict, weakest[sheet.name], sheet.name))


def write_contact_sheets(benchmark: Benchmark, found: Audit, folder: Path) -> list[Path]:
    """Write `page-001.png` and so on into a folder; pages of before are replaced.

    Under each picture: id, label, and the greatest similarity (correlation, 0 to 1) to another one, with the
    view in which it was found.

    Returns:
        The pages in order.

    Raises:
        DatasetError: The folder is a file, or holds anything but such pages.
    """
    _require_own(folder)
    listed = sheets(benchmark, found)
    pages = list(_pages(listed))
    best = _best(found.pairs)
    pixels = benchmark.images(max(benchmark.sizes))
    with replaced_folder(folder) as partial:
        for number, page in enumerate(pages, start=1):
            picture = _draw(benchmark, page, pixels, best, f"page {number} of {len(pages)}")
            picture.save(partial / f"page-{number:03d}.png")
    return [folder / f"page-{number:03d}.png" for number in range(1, len(pages) + 1)]


def _require_own(folder: Path) -> None:
    """Nothing of a user's is replaced."""
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file: contact sheets need a folder. Name another one.")
    others = sorted(path.name for path in folder.glob("*") if not _PAGE_NAME.fullmatch(path.name))
    if others:
        raise DatasetError(
            f"{folder} holds {others[0]}, which is no contact sheet, and nothing but contact sheets is written over. "
            "Name a folder that is not there yet."
        )


def _weakest(found: Audit) -> dict[str, float]:
    cluster = found.clusters.set_index("image_id")["cluster"]
    weakest = found.pairs.groupby(cluster.loc[found.pairs["image"]].to_numpy())["similarity"].min()
    return {str(name): float(value) for name, value in weakest.items()}


def _best(pairs: pd.DataFrame) -> dict[str, str]:
    """For each image its closest match; pairs come with the most alike first."""
    best: dict[str, str] = {}
    for pair in pairs.itertuples():
        for image, other in ((pair.image, pair.other), (pair.other, pair.image)):
            best.setdefault(str(image), f"{pair.similarity:.2f} {pair.found}, {str(other).split('/', 1)[1]}")
    return best


def _lines(listed: list[Sheet]) -> Iterator[Line]:
    """Clusters side by side as far as they fit; those with both labels share no line with others."""
    line: Line = []
    for sheet in listed:
        full = line and sum(each.columns for each in line) + sheet.columns > _COLUMNS
        if full or (line and line[0].conflict != sheet.conflict):
            yield line
            line = []
        line.append(sheet)
    if line:
        yield line


def _pages(listed: list[Sheet]) -> Iterator[list[Line]]:
    page: list[Line] = []
    used = 0
    for line in _lines(listed):
        height = _height(line)
        if page and used + height > _PAGE:
            yield page
            page, used = [], 0
        page.append(line)
        used += height
    if page:
        yield page


def _height(line: Line) -> int:
    return max(sheet.height for sheet in line)


def _draw(benchmark: Benchmark, page: list[Line], pixels: np.ndarray, best: dict[str, str], title: str) -> Image.Image:
    width = _COLUMNS * (_TILE + _GAP) + _GAP
    canvas = Image.new("RGB", (width, sum(map(_height, page)) + _HEADING), "white")
    pen = ImageDraw.Draw(canvas)
    kind = "SYNTHETIC images, " if benchmark.is_phantom else ""
    pen.text((_GAP, 6), f"{kind}near-duplicate clusters, {title}", fill="black", font=ImageFont.load_default(15))
    top = _HEADING
    for line in page:
        pen.line([(0, top), (width, top)], fill="#c0c6cc")
        left = _GAP
        for sheet in line:
            _draw_cluster(canvas, (left, top), sheet, benchmark, pixels, best)
            left += sheet.columns * (_TILE + _GAP)
        top += _height(line)
    return canvas


def _draw_cluster(
    canvas: Image.Image,
    corner: tuple[int, int],
    sheet: Sheet,
    benchmark: Benchmark,
    pixels: np.ndarray,
    best: dict[str, str],
) -> None:
    pen, small = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    heading = f"CONFLICTING LABELS: {sheet.name}" if sheet.conflict else sheet.name
    pen.text(
        (corner[0], corner[1] + 6),
        heading,
        fill=_COLORS[1] if sheet.conflict else "black",
        font=ImageFont.load_default(14),
    )
    for place, row in enumerate(sheet.rows):
        line, column = divmod(place, _COLUMNS)
        left, y = corner[0] + column * (_TILE + _GAP), corner[1] + _HEADING + line * (_TILE + _CAPTION + _GAP)
        record = benchmark.frame.iloc[row]
        picture = Image.fromarray(np.asarray(pixels[row])).resize((_TILE, _TILE), Image.Resampling.BILINEAR)
        canvas.paste(picture.convert("RGB"), (left, y))
        pen.text((left, y + _TILE + 2), record["image_id"], fill="black", font=small)
        pen.text((left, y + _TILE + 15), LABELS[record["label"]], fill=_COLORS[record["label"]], font=small)
        pen.text((left, y + _TILE + 28), best.get(record["image_id"], ""), fill="#5b6672", font=small)
