"""Exclusions: which images the list names and why, and what each choice of audit.exclude leaves."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from projects import plant_conflict, run_stage_here
from small_cells import make_spec

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.exclusions import count_excluded, kept, list_exclusions, read_exclusions
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.errors import ConfigError, DatasetError
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.cohort_rows import cohort_rows
from bus_mlops.project import parse_config


def manifest_of(rows: list[tuple[str, int, int, str]]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Frames of manifest, clusters and groups from (id, label, side, cluster)."""
    ids = [row[0] for row in rows]
    manifest = pd.DataFrame(
        {
            "image_id": ids,
            "source": [each.split("/")[0] for each in ids],
            "label": [row[1] for row in rows],
            "width": [row[2] for row in rows],
            "height": [row[2] for row in rows],
        }
    )
    cluster = [row[3] for row in rows]
    return (
        manifest,
        pd.DataFrame({"image_id": ids, "cluster": cluster}),
        pd.DataFrame({"image_id": ids, "group": cluster}),
    )


ROWS = [
    ("busi/a", 0, 10, "busi/a"),
    ("busi/b", 1, 12, "busi/a"),
    ("busi/c", 0, 9, "busi/a"),
    ("hmss/d", 0, 10, "hmss/d"),
    ("hmss/e", 0, 10, "hmss/d"),
    ("hmss/f", 1, 10, "hmss/f"),
]


def test_conflicts_and_duplicates_are_listed_with_their_group():
    exclusions = list_exclusions(*manifest_of(ROWS))
    assert exclusions.to_numpy().tolist() == [
        ["busi/a", "conflict", "busi/a"],
        ["busi/b", "conflict", "busi/a"],
        ["busi/c", "conflict", "busi/a"],
        ["busi/a", "duplicate", "busi/a"],  # busi/b has more pixels
        ["busi/c", "duplicate", "busi/a"],
        ["hmss/e", "duplicate", "hmss/d"],
    ]
    manifest = manifest_of(ROWS)[0]
    assert count_excluded(manifest, exclusions) == {"conflicts": {"busi": 3}, "duplicates": {"busi": 2, "hmss": 1}}
    left = {
        choice: kept(manifest, exclusions, choice)["image_id"].tolist()
        for choice in ("none", "conflicts", "duplicates")
    }
    assert left == {
        "none": [row[0] for row in ROWS],
        "conflicts": ["hmss/d", "hmss/e", "hmss/f"],
        "duplicates": ["busi/b", "hmss/d", "hmss/f"],
    }


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(5, 9), st.integers(0, 4)), min_size=1, max_size=25), st.randoms()
)
def test_one_image_of_a_cluster_stays_whatever_the_order(rows, random):
    rows = [(f"busi/{i}", label, side, f"c{cluster}") for i, (label, side, cluster) in enumerate(rows)]
    manifest, clusters, groups = manifest_of(rows)
    exclusions = list_exclusions(manifest, clusters, groups)
    left = kept(manifest, exclusions, "duplicates").merge(clusters)
    assert left["cluster"].is_unique
    assert set(left["cluster"]) == set(clusters["cluster"])
    pure = kept(manifest, exclusions, "conflicts").merge(clusters)
    assert (pure.groupby("cluster")["label"].nunique() == 1).all()
    random.shuffle(rows)
    pd.testing.assert_frame_equal(list_exclusions(*manifest_of(rows)), exclusions)


def test_a_bad_list_or_choice_is_named(tmp_path):
    with pytest.raises(DatasetError, match="dvc repro audit"):
        read_exclusions(tmp_path / "exclusions.csv")
    (tmp_path / "exclusions.csv").write_text("image_id,reason\n")
    with pytest.raises(DatasetError, match="has the columns"):
        read_exclusions(tmp_path / "exclusions.csv")
    (tmp_path / "exclusions.csv").write_text("image_id,reason,group\nbusi/x,ugly,busi/x\n")
    with pytest.raises(DatasetError, match=r"busi/x has reason 'ugly', allowed: conflict, duplicate"):
        read_exclusions(tmp_path / "exclusions.csv")
    stale = pd.DataFrame({"image_id": ["busi/gone"], "reason": ["conflict"], "group": ["busi/gone"]})
    with pytest.raises(DatasetError, match=r"names busi/gone, which is not in the benchmark"):
        kept(manifest_of(ROWS)[0], stale, "none")


def test_an_unknown_choice_is_refused_by_the_configuration(demo_values):
    assert parse_config(demo_values).audit.exclude == "none"
    with pytest.raises(ConfigError, match=r"audit.exclude = 'some'"):
        parse_config(demo_values | {"audit": {"exclude": "some"}})


@pytest.mark.parametrize("choice", ["conflicts", "duplicates"])
def test_the_stages_leave_out_what_params_ask_for(tiny_project: Path, choice: str):
    plant_conflict(tiny_project)
    values = yaml.safe_load((tiny_project / "params.yaml").read_text())
    values["audit"] = {"exclude": choice}
    (tiny_project / "params.yaml").write_text(yaml.safe_dump(values))
    before = pd.read_csv(tiny_project / "data/folds/folds.csv")
    stale = run_stage_here("leakage", tiny_project)
    assert stale.returncode == 1  # the folds are still those of `none`
    assert "Traceback" not in stale.stderr
    for stage in ("folds", "leakage"):
        done = run_stage_here(stage, tiny_project)
        assert done.returncode == 0, done.stderr
    exclusions = read_exclusions(tiny_project / "data/audit/exclusions.csv")
    left = pd.read_csv(tiny_project / "data/folds/folds.csv")
    gone = set(before["image_id"]) - set(left["image_id"])
    assert gone == set(exclusions.loc[exclusions["reason"] == choice[:-1], "image_id"])
    assert gone
    assert json.loads((tiny_project / "data/leakage.json").read_text())["images"] == len(left)
    counted = json.loads((tiny_project / "data/audit/audit.json").read_text())["excludable"][choice]
    assert sum(counted.values()) == len(gone)


def test_digests_and_parts_ignore_images_outside_the_folds(tiny_project: Path):
    benchmark = Benchmark.open(tiny_project / "data/benchmark")
    folds = Folds.open(tiny_project / "data/folds/folds.csv")
    ids = benchmark.frame.loc[benchmark.frame["source"] == "busi", "image_id"]
    whole = benchmark.data_digest(["busi"])
    assert benchmark.data_digest(["busi"], ids) == benchmark.data_digest(["busi"], benchmark.frame["image_id"]) == whole
    assert benchmark.data_digest(["busi"], ids.iloc[1:]) != whole

    fewer = Folds.checked(folds.frame[folds.frame["image_id"] != ids.iloc[0]].astype(str), "folds.csv")
    cell = Cell(make_spec(), 1, "f", "p", "t", "d", "s")
    rows = np.concatenate(list(cohort_rows(benchmark, fewer, cell).values()))
    assert sorted(benchmark.frame["image_id"].iloc[rows]) == sorted(ids.iloc[1:])


@pytest.mark.usefixtures("small_network")
@pytest.mark.slow
def test_training_sees_only_the_images_that_were_kept(tiny_project: Path):
    values = yaml.safe_load((tiny_project / "params.yaml").read_text())
    values["audit"] = {"exclude": "duplicates"}
    (tiny_project / "params.yaml").write_text(yaml.safe_dump(values))
    for stage, *arguments in (("folds",), ("leakage",), ("train", "losses")):
        done = run_stage_here(stage, tiny_project, *arguments)
        assert done.returncode == 0, done.stderr
    predictions = pd.read_parquet(tiny_project / "results/predictions/losses.parquet")
    tested = set(predictions.loc[predictions["part"] == "test", "image_id"])
    assert tested == set(pd.read_csv(tiny_project / "data/folds/folds.csv")["image_id"])
    assert len(tested) == 71
