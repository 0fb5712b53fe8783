"""Manifests with groups, and folds.zip as the benchmark delivers it, for tests of folds."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

NAMES = {"train": "train.csv", "validation": "valid.csv", "test": "test.csv"}

# fold, part, name, label
Row = tuple[int, str, str, int]


def example(counts: dict[str, int], seed: int = 0, size: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A manifest and groups: groups of 1 to `size` images of one label, per source."""
    rng = np.random.default_rng(seed)
    rows = []
    for source, count in counts.items():
        left = count
        while left:
            label, members = int(rng.random() < 0.4), min(left, int(rng.integers(1, size + 1)))
            first = f"{source}/{left:04d}"
            rows += [(f"{source}/{left - k:04d}", source, label, f"{source}/case{left}", first) for k in range(members)]
            left -= members
    frame = pd.DataFrame(rows, columns=["image_id", "source", "label", "case_id", "group"])
    return frame[["image_id", "source", "label", "case_id"]], frame[["image_id", "group"]]


def official_rows(folds: pd.DataFrame) -> list[Row]:
    """The rows that folds.zip would have for a folds frame: names without their source."""
    rows: list[Row] = []
    for fold in range(1, 6):
        for part in NAMES:
            chosen = folds[folds[f"fold_{fold}"] == part]
            names = chosen["image_id"].str.split("/", n=1).str[1]
            rows += [(fold, part, name, int(label)) for name, label in zip(names, chosen["label"], strict=True)]
    return rows


def official_files(rows: Iterable[Row]) -> dict[str, bytes]:
    """`folder1/train.csv` and so on with their content: an unnamed index column, `img name`, `tumor types`."""
    every = list(rows)
    files = {}
    for fold in range(1, 6):
        for part, file in NAMES.items():
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow(["", "img name", "tumor types"])
            chosen = [row for row in every if row[:2] == (fold, part)]
            writer.writerows([i, name, label] for i, (_, _, name, label) in enumerate(chosen))
            files[f"folder{fold}/{file}"] = text.getvalue().encode()
    return files


def write_zip(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    """A zip file of those files, below a folder if `prefix` names one."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return path


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """The same, unpacked."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
