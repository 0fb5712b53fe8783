"""`Benchmark`: the assembled images, masks and manifest of a folder, read by every later stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.dataset.convert import THUMBNAILS_FILE, images_file, masks_file
from bus_mlops.dataset.stage_csv import read_stage_csv
from bus_mlops.errors import DatasetError
from bus_mlops.files import read_json

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_FILE = "manifest.csv"
INFO_FILE = "benchmark.json"
FORMAT_VERSION = 2

_REMEDY = "Run `dvc repro assemble`."
_INTEGERS = ("index", "label", "has_mask", "width", "height")
_TEXTS = ("image_id", "source", "name", "case_id", "path", "digest", "pixel_digest", "scanner", "birads", "lesion_box")
COLUMNS = (
    *("index", "image_id", "source", "name", "case_id", "label", "has_mask", "width", "height", "path"),
    *("digest", "pixel_digest", "scanner", "birads", "lesion_box"),
)


def validate_manifest(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, checked by a pandera schema.

    One row an image in the order of the arrays: label 0 benign or 1 malignant, width and height in pixels of
    the crop, path relative to the data root, `digest` over the cropped pixels and mask, `pixel_digest` over
    the pixels alone. Empty where the source does not say: `scanner`, `birads`, and `lesion_box`, "top left height
    width" in pixels of the image as it was delivered.

    Raises:
        DatasetError: Names column, check and first bad value.
    """
    import pandera.pandas as pa

    positive, binary = pa.Check.ge(1), pa.Check.isin([0, 1])
    sha256 = pa.Check.str_matches(r"^[0-9a-f]{64}$")
    schema = pa.DataFrameSchema(
        {
            "index": pa.Column(int, pa.Check(lambda s: s == np.arange(len(s)), name="rows in the order of the arrays")),
            "image_id": pa.Column(str, pa.Check.str_matches(r"^[a-z_]+/.+"), unique=True),
            "source": pa.Column(str, pa.Check.str_matches(r"^[a-z_]+$")),
            "name": pa.Column(str, pa.Check.str_length(min_value=1)),
            "case_id": pa.Column(str, pa.Check.str_matches(r"^[a-z_]+/.+")),
            "label": pa.Column(int, binary),
            "has_mask": pa.Column(int, binary),
            "width": pa.Column(int, positive),
            "height": pa.Column(int, positive),
            "path": pa.Column(str, pa.Check.str_length(min_value=1)),
            "digest": pa.Column(str, sha256),
            "pixel_digest": pa.Column(str, sha256),
            "scanner": pa.Column(str),
            "birads": pa.Column(str, pa.Check.str_matches(r"^([0-6][A-C]?)?$")),
            "lesion_box": pa.Column(str, pa.Check.str_matches(r"^([0-9]+ [0-9]+ [1-9][0-9]* [1-9][0-9]*)?$")),
        },
        checks=[
            pa.Check(lambda f: f["image_id"] == f["source"] + "/" + f["name"], name="image_id is source/name"),
            pa.Check(lambda f: len(f) > 0, name="at least one image"),
        ],
        strict=True,
        ordered=True,
    )
    try:
        return schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        first = error.failure_cases.iloc[0]
        raise DatasetError(
            f"the manifest is inconsistent: {first['column']}: {first['check']} fails at row "
            f"{first['index']} with {first['failure_case']!r}. {_REMEDY}"
        ) from None


def read_manifest(path: Path) -> pd.DataFrame:
    """The manifest as a frame: names stay text (`000012`, `2879`), labels and pixels are integers."""
    types: dict[str, Any] = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_INTEGERS, "int64")
    frame = read_stage_csv(path, "assemble", types)
    if tuple(frame.columns) != COLUMNS:
        raise DatasetError(f"{path} has the columns {list(frame.columns)}, expected {list(COLUMNS)}. {_REMEDY}")
    return frame


def flow_notes(info: Mapping[str, Any], source: str) -> list[str]:
    """What the flow counts of a source do not say: what is left out as a rule, and what was noted on reading."""
    left_out: Mapping[str, int] = info.get("left_out", {}).get(source, {})
    lines = [f"{source}: {count} {what} left out" for what, count in left_out.items()]
    return [*lines, *(f"{source}: {note}" for note in info.get("notes", {}).get(source, ()))]


@dataclass(frozen=True)
class Benchmark:
    """An assembled benchmark: the manifest in memory, pixels memory-mapped and read only."""

    folder: Path
    frame: pd.DataFrame = field(repr=False)
    info: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> Benchmark:
        """Open what `assemble` wrote.

        Raises:
            DatasetError: It is missing or of another version.
        """
        path = folder / INFO_FILE
        try:
            info = read_json(path)
        except FileNotFoundError:
            raise DatasetError(f"{path} not found: no benchmark is assembled there. {_REMEDY}") from None
        except (ValueError, OSError) as error:
            raise DatasetError(f"{path} cannot be read: {error}. {_REMEDY}") from error
        if info.get("version") != FORMAT_VERSION:
            raise DatasetError(
                f"{path} is of version {info.get('version')}, this program reads {FORMAT_VERSION}. {_REMEDY}"
            )
        return cls(folder, read_manifest(folder / MANIFEST_FILE), info)

    @property
    def kind(self) -> str:
        """`phantom` or `real`."""
        return str(self.info["kind"])

    @property
    def is_phantom(self) -> bool:
        """Whether the images are synthetic; whatever is made from them must say so."""
        return self.kind == "phantom"

    @property
    def color(self) -> str:
        """`gray` or `rgb`."""
        return str(self.info["color"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """The input sizes there are arrays of, ascending."""
        return tuple(self.info["sizes"])

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources whose images are there, sorted."""
        return tuple(self.info["sources"])

    def images(self, size: int) -> np.memmap[Any, np.dtype[np.uint8]]:
        """(N, size, size) or (N, size, size, 3) uint8, 0-255, in the manifest's order."""
        return self._array(images_file(self._known(size)))

    def masks(self, size: int) -> np.memmap[Any, np.dtype[np.uint8]]:
        """(N, size, size) uint8, 0 or 1; all zero where the image has no mask (see `has_mask`)."""
        return self._array(masks_file(self._known(size)))

    def thumbnails(self) -> np.memmap[Any, np.dtype[np.uint8]]:
        """(N, 64, 64) uint8 gray, 0-255: what the audit compares, whatever sizes the plan needs."""
        return self._array(THUMBNAILS_FILE)

    def data_digest(self, sources: Iterable[str], images: Iterable[str] | None = None) -> str:
        """sha256 over what those sources contribute, so that adding another source leaves it unchanged.

        Args:
            sources: Those that are not in the benchmark contribute nothing.
            images: Ids; with them only these count: the ones that the folds hold.

        Raises:
            DatasetError: None of the sources is in the benchmark.
        """
        wanted = set(sources)
        kept = None if images is None else set(images)
        lines = sorted(row for source, row in self._rows if source in wanted and (kept is None or row[0] in kept))
        if not lines:
            raise DatasetError(
                f"none of the sources {sorted(wanted)} is in {self.folder}, which holds "
                f"{list(self.sources)}. Correct data.sources or cohorts in params.yaml."
            )
        head = [self.color, self.info["geometry"]]
        return hashlib.sha256(json.dumps([head, lines]).encode()).hexdigest()

    @cached_property
    def _rows(self) -> list[tuple[str, tuple[str, int, str]]]:
        frame = self.frame
        columns = zip(frame["source"], frame["image_id"], frame["label"], frame["digest"], strict=True)
        return [(source, (image, int(label), digest)) for source, image, label, digest in columns]

    def _known(self, size: int) -> int:
        if size not in self.sizes:
            raise DatasetError(f"{self.folder} has the sizes {list(self.sizes)} but not {size}. {_REMEDY}")
        return size

    def _array(self, name: str) -> np.memmap[Any, np.dtype[np.uint8]]:
        path = self.folder / name
        try:
            array: np.memmap[Any, np.dtype[np.uint8]] = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} cannot be read: {error}. {_REMEDY}") from error
        if len(array) != len(self.frame):
            raise DatasetError(f"{path} holds {len(array)} images, the manifest {len(self.frame)}. {_REMEDY}")
        return array
