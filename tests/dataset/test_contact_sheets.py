"""Contact sheets: every cluster on a page, conflicts first, and the command that writes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from projects import plant_conflict
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.dataset.audit import audit
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.contact_sheets import sheets, write_contact_sheets
from bus_mlops.errors import DatasetError


def test_all_clusters_are_shown_and_conflicts_first(tiny_project: Path, tmp_path: Path):
    plant_conflict(tiny_project)
    benchmark = Benchmark.open(tiny_project / "data/benchmark")
    found = audit(benchmark)
    listed = sheets(benchmark, found)
    sizes = found.clusters["cluster"].value_counts()
    assert {sheet.name for sheet in listed} == set(sizes.index[sizes > 1])
    assert {sheet.name: len(sheet.rows) for sheet in listed} == sizes[sizes > 1].to_dict()
    conflicts = [sheet.conflict for sheet in listed]
    assert conflicts == sorted(conflicts, reverse=True)
    assert sum(conflicts) == len(found.metrics["conflicts"]["clusters"]) == 1
    first = benchmark.frame.iloc[list(listed[0].rows)]
    assert set(first["label"]) == {0, 1}

    pages = write_contact_sheets(benchmark, found, tmp_path / "sheets")
    assert [page.name for page in pages] == ["page-001.png"]
    page = np.asarray(Image.open(pages[0]).convert("L")).astype(float)
    picture = Image.fromarray(np.asarray(benchmark.images(64)[listed[0].rows[0]])).resize((200, 200), 2)
    shown = page[60:260, 10:210]  # below title and heading, right of the margin
    assert np.abs(shown - np.asarray(picture)).mean() < 1
    assert (page < 128).mean() > 0.01


def test_many_clusters_fill_several_pages(tiny_data: Path, tmp_path: Path):
    benchmark = Benchmark.open(tiny_data / "data/benchmark")
    found = audit(benchmark)
    ids = benchmark.frame["image_id"].tolist()
    triples = [ids[i - i % 3] for i in range(len(ids))]
    pairs = pd.DataFrame(
        {"image": ids[1::3], "other": ids[0 : len(ids[1::3]) * 3 : 3], "found": "as it is", "similarity": 0.5}
    )
    clusters = pd.DataFrame({"image_id": ids, "cluster": triples})
    many = type(found)(found.groups, clusters, pairs, found.metrics)
    pages = write_contact_sheets(benchmark, many, tmp_path / "sheets")
    assert len(pages) >= 2
    assert all(Image.open(page).height <= 1600 for page in pages)


def test_the_command_prints_the_findings_and_writes_the_pages(tiny_project: Path, tmp_path: Path, monkeypatch):
    plant_conflict(tiny_project)
    monkeypatch.chdir(tiny_project)
    done = CliRunner().invoke(app, ["audit", "--contact-sheets", str(tmp_path / "pages")])
    assert done.exit_code == 0, done.output
    assert "near-duplicate clusters" in done.output
    assert "audit.exclude: conflicts would leave out 2 images" in done.output
    assert "1 contact sheets" in done.output
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["page-001.png"]


def test_nothing_of_a_users_is_written_over(tiny_data: Path, tmp_path: Path):
    benchmark = Benchmark.open(tiny_data / "data/benchmark")
    own = tmp_path / "notes.txt"
    own.write_text("mine")
    found = audit(benchmark)
    for folder, words in ((tmp_path, "holds notes.txt"), (own, "is a file")):
        with pytest.raises(DatasetError, match=words):
            write_contact_sheets(benchmark, found, folder)
    assert own.read_text() == "mine"
