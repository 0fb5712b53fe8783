"""Which files of a folder are images to be predicted: no masks beside them, nor what other programs leave there."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from bus_mlops.files import is_litter, printable

SUFFIXES = (".bmp", ".dib", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Tried, too, since they hold pictures: the answer says what to do with them.
_OTHER_PICTURES = (".avif", ".dcm", ".dicom", ".heic", ".heif")
_WORD = "(annotation|contour|gt|label|lesion|mask|overlay|roi|seg|segmentation|tumou?r)s?"
_AFTER, _BEFORE = (
    re.compile(rf"(.+?)[ ._-]+{_WORD}([ _-]?\(?[0-9]+\)?)?", re.IGNORECASE),
    re.compile(rf"{_WORD}[ ._-]+(.+)", re.IGNORECASE),
)
_MASK = re.compile(r".+_mask(_[0-9]+)?", re.IGNORECASE)


def images_in(folder: Path) -> tuple[list[Path], str]:
    """The images directly in a folder, by their names, and how many of what else there is, in words.

    Masks beside scans, other systems' files and what is no image are left out.
    """
    found: list[Path] = []
    skipped: dict[str, list[str]] = {}
    paths = sorted(folder.iterdir())
    stems = {path.stem for path in paths if not is_litter(path.name)}
    for path in paths:
        if is_litter(path.name):
            kind = "of another system or program"
        elif path.is_dir():
            kind = "folders"
        elif path.suffix.lower() not in SUFFIXES + _OTHER_PICTURES:
            kind = "no image by their name"
        elif _is_mask(path.stem, stems):
            kind = "masks (name them to predict them)"
        else:
            found.append(path)
            continue
        skipped.setdefault(kind, []).append(printable(path.name))
    return found, "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in skipped.items())


def _is_mask(stem: str, stems: Collection[str]) -> bool:
    """Whether a name is that of a mask: `<scan>_mask`, or another such word beside a scan of that name."""
    after, before = _AFTER.fullmatch(stem), _BEFORE.fullmatch(stem)
    beside = (after is not None and after[1] in stems) or (before is not None and before[2] in stems)
    return beside or _MASK.fullmatch(stem) is not None


def _first(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
