"""Damaged files of folds and groups raise nothing but our own errors, and what is read all the same is sound."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from fold_examples import example, official_files, official_rows, write_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.audit import read_groups
from bus_mlops.dataset.folds.assignment import PARTS, UNUSED, Folds
from bus_mlops.dataset.folds.leakage import check_leakage, describe
from bus_mlops.dataset.folds.make import make_folds, write_folds
from bus_mlops.dataset.folds.official import (
    OfficialRow,
    match,
    official_folds,
    read_imported,
    read_official,
    write_imported,
)
from bus_mlops.errors import BusMlopsError, DatasetError

MANIFEST, GROUPS = example({"busi": 40, "hmss": 30})
for each in (MANIFEST, GROUPS):  # a name belongs to one image only
    each["image_id"] = each["image_id"].str.replace("/", "/n-", n=1).where(each["image_id"] < "c", each["image_id"])
MANIFEST = MANIFEST.assign(name=MANIFEST["image_id"].str.split("/").str[1])
FRAME = make_folds(MANIFEST, GROUPS, FoldsConfig(), 0)
FILES = official_files(official_rows(FRAME))

fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# What goes wrong with files of text: bytes of no encoding, quotes, separators, zeros, and lines that are too long.
snippets = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from(
        [b'"', b",", b"\n", b"\r", b"\x00", b"\xff\xfe", b"nan", b",,,,,,,,,,,,", b"test", b"1e999", b"'", b";"]
    ),
    st.sampled_from(["\ufeff".encode(), "ä".encode("latin-1"), b"9" * 400, b'"' * 3, b"\n\n\n"]),
)


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with pieces inserted, replaced, and perhaps cut off."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(snippets) + content[at + draw(st.integers(0, 30)) :]
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 4)) == 0 else content


CSV = FRAME.to_csv(index=False).encode()


@given(damage(CSV))
@fuzz
def test_damaged_folds(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "folds.csv"
    path.write_bytes(content)
    try:
        folds = Folds.open(path, MANIFEST["image_id"])
    except BusMlopsError:
        return
    tested = (folds.frame.filter(like="fold_") == "test").sum(axis=1)
    assert (tested == 1).all()
    assert set(folds.frame["image_id"]) == set(MANIFEST["image_id"])
    for fold in range(1, folds.count + 1):
        assert set(folds.parts(fold)) <= {*PARTS, UNUSED}
    folds.digest(MANIFEST["image_id"])
    describe(check_leakage(folds, tolerate=True))


@given(st.one_of(st.binary(max_size=60), damage(b'{"kind": "official", "count": 5}\n')))
@fuzz
def test_a_damaged_kind(tmp_path: Path, content: bytes) -> None:
    write_folds(FRAME, "grouped", tmp_path / "folds")
    (tmp_path / "folds" / "folds.json").write_bytes(content)
    try:
        assert Folds.open(tmp_path / "folds" / "folds.csv").kind in ("grouped", "official", "image-level", "source")
    except BusMlopsError:
        return


@given(damage(GROUPS.to_csv(index=False).encode()))
@fuzz
def test_damaged_groups(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "groups.csv"
    path.write_bytes(content)
    try:
        make_folds(MANIFEST, read_groups(path), FoldsConfig(), 0)
    except BusMlopsError:
        return


@given(damage(FILES["folder2/valid.csv"]))
@fuzz
def test_damaged_official_files(tmp_path: Path, content: bytes) -> None:
    folder = write_folder(tmp_path / "folds", {**FILES, "folder2/valid.csv": content})
    try:
        rows = read_official(folder)
        official_folds(rows, MANIFEST, GROUPS)
    except BusMlopsError:
        return
    assert {row.label for row in rows} <= {0, 1}


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@given(damage(_zip()))
@settings(fuzz, max_examples=150)
def test_a_damaged_zip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "folds.zip"
    path.write_bytes(content)
    try:
        rows = read_official(path)
    except BusMlopsError:
        return
    assert len(rows) >= 15


@given(st.data())
@fuzz
def test_damaged_imports(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "folds.csv"
    write_imported(match(read_official(write_folder(tmp_path / "files", FILES)), MANIFEST), path)
    path.write_bytes(data.draw(damage(path.read_bytes())))
    try:
        assert all(isinstance(row, OfficialRow) for row in read_imported(tmp_path))
    except BusMlopsError:
        return


def test_a_row_with_surplus_fields_is_not_taken_for_another_table(tmp_path: Path) -> None:
    lines = CSV.decode().splitlines()
    path = tmp_path / "folds.csv"
    path.write_text("\n".join([lines[0], *(f"{line},train" for line in lines[1:])]))
    with pytest.raises(DatasetError, match="more fields than there are columns"):
        Folds.open(path)
