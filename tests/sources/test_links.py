"""Links in a source: those behind which DVC sees nothing are refused by name, those that it follows are read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_sources import busi_folder

from bus_mlops.config import DataConfig
from bus_mlops.errors import SourceError
from bus_mlops.sources.registry import read_sources
from bus_mlops.sources.verify import verify

Link = Callable[[Path, Path], Path]


def source(root: Path, outside: Path) -> Path:
    (root / "busi").rename(outside / "BUSI")
    (root / "busi").symlink_to(outside / "BUSI")
    return root / "busi"


def class_folder(root: Path, outside: Path) -> Path:
    (root / "busi" / "benign").rename(outside / "benign")
    (root / "busi" / "benign").symlink_to(outside / "benign")
    return root / "busi" / "benign"


def chain_of_relative_links(root: Path, outside: Path) -> Path:
    (root / "busi").rename(root / "store")
    (root / "second").symlink_to("store")
    (root / "busi").symlink_to("second")
    return root / "busi"


def further_folder(root: Path, outside: Path) -> Path:
    (root / "busi" / "benign" / "more").symlink_to(outside)
    return root / "busi" / "benign" / "more"


def circle(root: Path, outside: Path) -> Path:
    (root / "busi" / "up").symlink_to("..")
    return root / "busi" / "up"


def source_to_nothing(root: Path, outside: Path) -> Path:
    source(root, outside)
    (outside / "BUSI").rename(outside / "moved")
    return root / "busi"


def image_to_nothing(root: Path, outside: Path) -> Path:
    path = root / "busi" / "benign" / "benign (1).png"
    path.unlink()
    path.symlink_to(outside / "benign (1).png")
    return path


@pytest.mark.parametrize(
    "link",
    [source, class_folder, chain_of_relative_links, further_folder, circle, source_to_nothing, image_to_nothing],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize("sources", ["all", ("busi",)])
def test_a_link_that_dvc_does_not_follow_is_refused_by_name(tmp_path, link: Link, sources):
    root, outside = tmp_path / "raw", tmp_path / "outside"
    busi_folder(root / "busi", benign=2, malignant=1)
    outside.mkdir()
    named = link(root, outside)
    with pytest.raises(SourceError, match=r"set data\.root in params\.yaml") as raised:
        read_sources(DataConfig(kind="real", root=root, sources=sources))
    assert str(raised.value).startswith(f"{named} -> {named.readlink()}")
    assert ("(which is not there)" in str(raised.value)) == (not named.exists())
    (report,) = verify(root).sources
    assert report.errors == [str(raised.value)]


def test_linked_files_and_a_linked_root_are_read(tmp_path):
    busi_folder(tmp_path / "there" / "busi", benign=2, malignant=1)
    (tmp_path / "link").symlink_to("there")
    image = tmp_path / "there" / "busi" / "benign" / "benign (1).png"
    (tmp_path / "elsewhere.png").write_bytes(image.read_bytes())
    image.unlink()
    image.symlink_to(tmp_path / "elsewhere.png")
    records = read_sources(DataConfig(kind="real", root=tmp_path / "link", sources="all"))
    assert [record.name for record in records] == ["benign (1)", "benign (2)", "malignant (1)"]
    assert verify(tmp_path / "link").errors == 0


def test_a_link_in_a_source_that_is_not_read_stops_nothing(tmp_path):
    busi_folder(tmp_path / "raw" / "busi", benign=2, malignant=1)
    (tmp_path / "raw" / "busis").symlink_to(tmp_path)
    assert len(read_sources(DataConfig(kind="real", root=tmp_path / "raw", sources=("busi",)))) == 3
