"""BUSI: the folder is the label, one or more masks an image, no patient ids; `normal/` is left out."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from bus_mlops.errors import SourceError
from bus_mlops.sources.base import BENIGN, MALIGNANT, Record, images_by_name, natural_key

_MASK = re.compile(r"(?P<name>.+)_mask(_[0-9]+)?")
_NESTED = "Dataset_BUSI_with_GT"


def read(folder: Path) -> list[Record]:
    """The records of `benign/` and `malignant/`, right in the folder or below `Dataset_BUSI_with_GT/`.

    Masks are `<name>_mask.png`, `<name>_mask_1.png` and so on. Raises SourceError naming the file for an
    image without mask, a mask without image, or a file of the other class.
    """
    root = _root(folder)
    records = []
    for word, label in (("benign", BENIGN), ("malignant", MALIGNANT)):
        if not (root / word).is_dir():
            raise SourceError(f"{root / word} not found: BUSI has benign/ and malignant/. Unpack both.")
        records += _read_class(root / word, word, label)
    if not records:
        raise SourceError(f"{root} holds no images in benign/ or malignant/. Unpack BUSI there.")
    return records


def _root(folder: Path) -> Path:
    nested, flat = folder / _NESTED, (folder / "benign").is_dir()
    if nested.is_dir() and flat:
        raise SourceError(f"{folder} holds benign/ and {_NESTED}/ as well. Keep one copy of BUSI.")
    return nested if nested.is_dir() else folder


def _read_class(folder: Path, word: str, label: int) -> list[Record]:
    images: dict[str, Path] = {}
    masks: dict[str, list[Path]] = defaultdict(list)
    for name, path in images_by_name(folder).items():
        if not name.startswith(word):
            raise SourceError(
                f"{path} does not begin with {word!r} as all of {folder.name}/ do. Move or remove it: the "
                "folder is its label."
            )
        match = _MASK.fullmatch(name)
        if match:
            masks[match["name"]].append(path)
        else:
            images[name] = path
    orphans = sorted(masks.keys() - images.keys())
    bare = sorted(images.keys() - masks.keys())
    if orphans:
        raise SourceError(f"{masks[orphans[0]][0]} is a mask without its image{_others(orphans)}. Restore it.")
    if bare:
        raise SourceError(f"{images[bare[0]]} has no mask {bare[0]}_mask.png{_others(bare)}. Restore it.")
    return [
        Record(
            source="busi",
            name=name,
            case=name,
            label=label,
            image=images[name],
            masks=tuple(sorted(masks[name], key=lambda path: natural_key(path.stem))),
            origin=str(images[name]),
        )
        for name in sorted(images, key=natural_key)
    ]


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more: {', '.join(names[1:6])})" if len(names) > 1 else ""
