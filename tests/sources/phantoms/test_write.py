"""Phantoms: reproducible to the byte, in every source's layout, with the proportions and copies asked for."""

import hashlib
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bus_mlops.config import Config, DataConfig
from bus_mlops.errors import ConfigError
from bus_mlops.project import parse_config
from bus_mlops.sources.phantoms.image import random_lesion
from bus_mlops.sources.phantoms.write import write_phantoms
from bus_mlops.sources.registry import read_sources

COUNTS = {"hmss": 40, "busi": 30, "busis": 12, "thammasat": 12, "dataset_b": 9, "busbra": 20}


def config_for(root: Path, images: dict[str, int], near_duplicates: int = 0, seed: int = 3) -> Config:
    values = {
        "profile": "test",
        "seed": seed,
        "data": {"kind": "phantom", "root": str(root), "sources": "all"},
        "phantom": {"images": images, "near_duplicates": near_duplicates, "size": 64},
        "cohorts": {"all": ["busi"], "multitask": ["busi"]},
        "networks": {},
        "strategies": ["approaches"],
        "searches": {},
    }
    return parse_config(values)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_all_readers_accept_what_is_written(tmp_path):
    config = config_for(tmp_path / "phantom", COUNTS, near_duplicates=8)
    assert write_phantoms(config, tmp_path / "phantom") == COUNTS
    records = read_sources(config.data)
    assert Counter(record.source for record in records) == COUNTS
    malignant = Counter(record.source for record in records if record.label)
    for source, share in {"hmss": 0.578, "busi": 0.325, "busis": 0.456, "dataset_b": 0.331, "busbra": 0.324}.items():
        assert malignant[source] == pytest.approx(share * COUNTS[source], abs=3), source
    cases = {source: len({r.case_id for r in records if r.source == source}) for source in COUNTS}
    assert cases["hmss"] < 30 <= cases["busi"]
    assert any(len(record.masks) > 1 for record in records)
    assert (tmp_path / "phantom" / "busi" / "normal").is_dir()
    assert "SYNTHETIC" in (tmp_path / "phantom" / "PHANTOM.txt").read_text()
    planted = pd.read_csv(tmp_path / "phantom" / "near_duplicates.csv")
    assert len(planted) == 8
    assert set(planted["image_id"]) | set(planted["copy_of"]) <= {record.image_id for record in records}
    assert {source.split("/")[0] for source in planted["image_id"]} == {"busi", "hmss"}


def test_reproducible_to_the_byte_and_dependent_on_the_seed(tmp_path):
    small = {"hmss": 6, "busi": 6, "busis": 3, "thammasat": 3, "dataset_b": 3, "busbra": 4}
    write_phantoms(config_for(tmp_path, small, 2), tmp_path / "one")
    time.sleep(2.1)  # zip entries have a resolution of two seconds
    write_phantoms(config_for(tmp_path, small, 2), tmp_path / "two")
    write_phantoms(config_for(tmp_path, small, 2, seed=4), tmp_path / "other")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "one") != digests(tmp_path / "other")


def test_a_source_does_not_depend_on_the_others(tmp_path):
    write_phantoms(config_for(tmp_path, {"busi": 4, "busis": 4}), tmp_path / "two")
    write_phantoms(config_for(tmp_path, {"busis": 4}), tmp_path / "one")
    assert digests(tmp_path / "one" / "busis") == digests(tmp_path / "two" / "busis")


def test_nothing_asked_for_writes_only_the_notice_and_clears_what_was_there(tmp_path):
    folder = tmp_path / "phantom"
    write_phantoms(config_for(tmp_path, {"busi": 3}), folder)
    assert write_phantoms(config_for(tmp_path, {"busi": 0}), folder) == {}
    assert [path.name for path in folder.iterdir()] == ["PHANTOM.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["phantom"]


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.png").write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"phantoms never replace anything else"):
        write_phantoms(config_for(tmp_path, {"busi": 3}), tmp_path / "raw")
    assert (tmp_path / "raw" / "mine.png").read_bytes() == b"precious"


def test_phantoms_cannot_pass_for_real_images_nor_the_reverse(tmp_path):
    write_phantoms(config_for(tmp_path, {"busi": 3}), tmp_path / "p")
    with pytest.raises(ConfigError, match="holds synthetic images"):
        read_sources(DataConfig(kind="real", root=tmp_path / "p", sources="all"))
    with pytest.raises(ConfigError, match=r"has no PHANTOM\.txt"):
        read_sources(DataConfig(kind="phantom", root=tmp_path, sources="all"))


@pytest.mark.parametrize(
    ("copies", "shares"), [(3, {"busi": 2, "hmss": 1}), (5, {"busi": 3, "hmss": 2}), (7, {"busi": 3, "hmss": 4})]
)
def test_copies_are_shared_evenly_as_far_as_there_is_room(tmp_path, copies, shares):
    write_phantoms(config_for(tmp_path, {"hmss": 12, "busi": 9}, copies), tmp_path / "p")
    planted = pd.read_csv(tmp_path / "p" / "near_duplicates.csv")["image_id"]
    assert Counter(image.split("/")[0] for image in planted) == shares


def test_the_list_of_sources_loads_without_what_draws():
    code = "import sys, bus_mlops.sources.registry; print({'numpy', 'PIL', 'scipy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_more_copies_than_room_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"near_duplicates is 3.*leave room for 2"):
        write_phantoms(config_for(tmp_path, {"busi": 6, "busis": 50}, 3), tmp_path / "phantom")
    assert list(tmp_path.iterdir()) == []


def test_descriptors_separate_the_labels_with_overlap():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import scale

    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 2
    lesions = [random_lesion(rng, bool(label)) for label in labels]
    table = np.array([[x.elongation, x.lobulation, x.spicules, x.blur, x.echo, x.posterior, x.halo] for x in lesions])
    means = pd.DataFrame(table).groupby(labels).mean()
    assert (np.sign(means.loc[1] - means.loc[0]) == [-1, 1, 1, 1, -1, -1, 1]).all()
    features = scale(table)
    score = LogisticRegression().fit(features[::3], labels[::3]).predict_proba(features)[:, 1]
    assert 0.9 < roc_auc_score(labels, score) < 0.995
