"""BUSI: the folder is the label, one or more masks an image, no patient ids; `normal/` is without lesions."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bus_mlops.errors import SourceError
from bus_mlops.sources.record import BENIGN, MALIGNANT, NORMAL, Record, images_by_name, locate, natural_key
from bus_mlops.sources.source import ASK_THE_OWNER, Official, Problem, Source, Survey, plan_in, some

_MASK = re.compile(r"(?P<name>.+)_mask(_[0-9]+)?")
_CLASSES = (("benign", BENIGN, 437), ("malignant", MALIGNANT, 210))


def survey(folder: Path) -> Survey:
    """The records of `benign/` and `malignant/` and, apart from them, of `normal/`, at most three levels deep.

    Masks are `<name>_mask.png`, `<name>_mask_1.png` and so on. Problems are images without mask, masks without
    image and files of the other class.

    Raises:
        SourceError: A class's folder is missing or there twice, or there is no image.
    """
    records, problems = list[Record](), list[Problem]()
    for word, label, _ in _CLASSES:
        place = locate(folder, [word])
        if place is None or not place.is_dir():
            raise SourceError(f"{folder / word} not found: BUSI has benign/ and malignant/. Unpack both.")
        found = _Class.of(place)
        records += found.records(label)
        problems += found.problems(folder)
    if not records and not problems:
        raise SourceError(f"{folder} holds no images in benign/ or malignant/. Unpack BUSI there.")
    normal = locate(folder, ["normal"])
    without_lesion = _Class.of(normal).records(NORMAL) if normal and normal.is_dir() else ()
    return Survey(tuple(records), tuple(problems), normal=tuple(without_lesion))


@dataclass
class _Class:
    """The files of one class's folder: images, masks by the name of their image, and what belongs elsewhere."""

    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    misplaced: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> _Class:
        found = cls(folder)
        for name, path in images_by_name(folder).items():
            match = _MASK.fullmatch(name)
            if not name.startswith(folder.name):
                found.misplaced.append(path)
            elif match:
                found.masks[match["name"]].append(path)
            else:
                found.images[name] = path
        return found

    def records(self, label: int) -> list[Record]:
        return [
            Record(
                source="busi",
                name=name,
                case=name,
                label=label,
                image=self.images[name],
                masks=tuple(sorted(self.masks.get(name, ()), key=lambda path: natural_key(path.stem))),
                origin=str(self.images[name]),
            )
            for name in sorted(self.images, key=natural_key)
        ]

    def problems(self, root: Path) -> list[Problem]:
        orphans = [
            p for name in sorted(self.masks.keys() - self.images.keys(), key=natural_key) for p in self.masks[name]
        ]
        bare = [self.images[name] for name in sorted(self.images.keys() - self.masks.keys(), key=natural_key)]
        word, problems = self.folder.name, list[Problem]()
        if self.misplaced:
            message = f"{some(map(str, self.misplaced))}: does not begin with {word!r} as all of {word}/ do. Move or "
            message += "remove it: the folder is its label."
            problems.append(Problem("misplaced_files", _below(root, self.misplaced), message))
        if orphans:
            message = f"{some(map(str, orphans))}: is a mask without its image. Restore it."
            problems.append(Problem("masks_without_image", _below(root, orphans), message))
        if bare:
            message = f"{some(map(str, bare))}: has no mask (`<name>_mask.png` beside it). Restore it."
            problems.append(Problem("images_without_mask", _below(root, bare), message))
        return problems


def _below(root: Path, paths: list[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(root).as_posix() for path in paths)


_NAMES = tuple(f"{word} ({number})" for word, _, count in _CLASSES for number in range(1, count + 1))
_OFFICIAL = Official(437, 210, cases=647, with_mask=647, names=_NAMES)
SOURCE = Source(
    "busi", "BUSI", survey, has_masks=True, official=_OFFICIAL, not_offered=ASK_THE_OWNER, phantoms=plan_in("busi")
)
