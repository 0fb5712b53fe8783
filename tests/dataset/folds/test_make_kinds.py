"""Every kind of folds: each image tested once, deterministic, whatever the order; what leaks and what must not."""

import pandas as pd
import pytest
import yaml
from fold_examples import example, official_rows
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.folds.assignment import UNUSED, Folds
from bus_mlops.dataset.folds.leakage import check_leakage, leak_tags, leaking
from bus_mlops.dataset.folds.make import (
    balance,
    describe_balance,
    image_level_folds,
    make_folds,
    require_both_labels,
    require_sources,
    write_folds,
)
from bus_mlops.dataset.folds.official import OfficialRow, official_folds
from bus_mlops.errors import ConfigError, DatasetError, LeakageError
from bus_mlops.experiments.plan import make_plans
from bus_mlops.project import parse_config

SOURCES = {"busi": 60, "busis": 50, "hmss": 70}


@pytest.mark.parametrize("kind", ["grouped", "image-level", "source"])
@given(seed=st.integers(0, 10**6), size=st.integers(1, 5), shuffle=st.integers(0, 100))
@settings(max_examples=12, deadline=None)
def test_each_image_is_tested_once_and_order_is_irrelevant(kind, seed, size, shuffle):
    manifest, groups = example(SOURCES, seed, size)
    config = FoldsConfig(kind=kind, count=4)
    frame = make_folds(manifest, groups, config, seed)
    folds = Folds.checked(frame, "made", manifest["image_id"], kind)
    assert folds.count == (3 if kind == "source" else 4)
    columns = frame[[f"fold_{fold}" for fold in range(1, folds.count + 1)]].to_numpy(dtype=str)
    assert ((columns == "test").sum(axis=1) == 1).all()
    mixed = manifest.sample(frac=1, random_state=shuffle), groups.sample(frac=1, random_state=shuffle + 1)
    pd.testing.assert_frame_equal(make_folds(*mixed, config, seed), frame)
    if kind != "image-level":
        assert check_leakage(folds)["leaks"] == 0


def test_image_level_folds_tear_groups_apart_and_say_how_many():
    manifest, groups = example(SOURCES, size=4)
    frame = make_folds(manifest, groups, FoldsConfig(kind="image-level"), 1)
    folds = Folds.checked(frame, "made", kind="image-level")
    with pytest.raises(LeakageError, match=r"set folds\.kind to grouped"):
        check_leakage(folds)
    checked = check_leakage(folds, tolerate=True)
    sizes = frame.groupby("group").size()
    # with random folds nearly every group of several images is torn, and no other can be
    assert 0.9 * (sizes > 1).sum() < len(leaks_by_hand(frame)) <= (sizes > 1).sum()
    assert len(leaking(frame) | leaking(frame, count="validation_leaks")) == len(leaks_by_hand(frame))
    assert checked["leaking_cases"] == checked["leaks"] == len(leaking(frame))
    assert 0 < checked["exposed_test_images"] <= sizes[sizes > 1].sum()
    for fold in range(1, 6):
        parts = folds.parts(fold).value_counts()
        assert parts["test"] == pytest.approx(36, abs=3)
        assert parts["validation"] / (parts["train"] + parts["validation"]) == pytest.approx(0.2, abs=0.01)
    alone = frame[frame["source"] == "busi"]
    assert leak_tags(frame, ["busi"]) == leak_tags(alone, ["busi"])
    assert leak_tags(frame, ["busi"])["leaks"] == f"{len(leaking(alone))} groups"


def test_the_odd_images_of_many_sources_do_not_meet_in_the_first_fold():
    names = [f"source_{letter}" for letter in "abcdefghijklmnopqrst"]
    manifest, groups = example(dict.fromkeys(names, 21))  # one more than ten folds share out evenly
    frame = make_folds(manifest, groups, FoldsConfig(kind="image-level", count=10), 3)
    tested = [int((frame[f"fold_{fold}"] == "test").sum()) for fold in range(1, 11)]
    assert sum(tested) == 21 * 20
    assert tested[0] < 2 * 20 + 20  # the first fold would get the odd image of each


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_with_one_label_is_named(part):
    manifest, groups = example({"busi": 60})
    frame = make_folds(manifest, groups, FoldsConfig(), 0)
    frame.loc[(frame["fold_2"] == part) & (frame["label"] == 1), "fold_2"] = "unused"
    with pytest.raises(DatasetError, match=rf"the {part} part of fold 2 would hold \d+ images of 1 of the 2 labels"):
        require_both_labels(frame)


def leaks_by_hand(frame: pd.DataFrame) -> set[str]:
    found = set()
    for group, rows in frame.groupby("group"):
        for fold in [name for name in frame.columns if name.startswith("fold_")]:
            if len(set(rows[fold]) - {UNUSED}) > 1:
                found.add(str(group))
    return found


def test_image_level_folds_of_one_source_do_not_depend_on_the_others():
    manifest, groups = example(SOURCES)
    config = FoldsConfig(kind="image-level")
    busi = manifest["source"] == "busi"
    alone = make_folds(manifest[busi], groups, config, 3)
    together = make_folds(manifest, groups, config, 3)
    pd.testing.assert_frame_equal(together[together["source"] == "busi"].reset_index(drop=True), alone)


def test_folds_by_source_test_a_source_each_and_set_aside_what_touches_it():
    manifest, groups = example(SOURCES)
    busi, hmss = (groups.index[groups["image_id"].str.startswith(source)] for source in ("busi/", "hmss/"))
    shared = groups["group"][busi[0]]
    groups["group"] = groups["group"].replace({groups["group"][hmss[0]]: shared})
    frame = make_folds(manifest, groups, FoldsConfig(kind="source"), 0)
    folds = Folds.checked(frame, "made", kind="source")
    for fold, source in enumerate(sorted(SOURCES), start=1):
        assert set(frame.loc[frame[f"fold_{fold}"] == "test", "source"]) == {source}
        assert (frame.loc[frame["source"] == source, f"fold_{fold}"] == "test").all()
    aside = frame[frame["fold_1"] == UNUSED]
    assert set(aside["group"]) == {shared}
    assert set(aside["source"]) == {"hmss"}
    assert UNUSED not in set(frame["fold_2"])
    assert check_leakage(folds)["folds"]["fold_1"]["unused"]["images"] == len(aside)
    training = frame[frame["fold_2"].isin(["train", "validation"])]
    share = training.loc[training["fold_2"] == "validation", "group"].nunique() / training["group"].nunique()
    assert share == pytest.approx(0.2, abs=0.03)


def test_folds_by_source_need_two_sources_and_those_that_were_planned():
    manifest, groups = example({"busi": 60})
    with pytest.raises(DatasetError, match="at least two sources, and the benchmark holds only busi"):
        make_folds(manifest, groups, FoldsConfig(kind="source"), 0)
    with pytest.raises(DatasetError, match="planned for busi, hmss, the benchmark holds busi"):
        require_sources(manifest, ("busi", "hmss"))


def test_official_folds_are_not_made():
    with pytest.raises(DatasetError, match="bus-mlops folds import"):
        make_folds(*example({"busi": 60}), FoldsConfig(kind="official"), 0)


def with_names(counts: dict[str, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A manifest whose names do not collide between sources."""
    manifest, groups = example(counts)
    for frame in (manifest, groups):
        frame["image_id"] = frame["image_id"].str.replace(r"^(\w+)/", r"\1/\1-", regex=True)
    manifest["name"] = manifest["image_id"].str.split("/").str[1]
    return manifest, groups


def test_official_folds_may_leave_images_out_but_test_none_twice(tmp_path):
    manifest, groups = with_names(SOURCES)
    made = make_folds(manifest, groups, FoldsConfig(), 0)
    rows = [OfficialRow(*row) for row in official_rows(made)]
    pd.testing.assert_frame_equal(official_folds(rows, manifest, groups), made)
    name = next(row.name for row in rows if row.part == "test" and row.fold == 5)
    frame = official_folds([row for row in rows if (row.name, row.fold) != (name, 5)], manifest, groups)
    write_folds(frame, "official", tmp_path / "folds")
    folds = Folds.open(tmp_path / "folds" / "folds.csv", manifest["image_id"])
    assert folds.kind == "official"
    image = next(image for image in manifest["image_id"] if image.endswith(f"/{name}"))
    assert folds.parts(5)[image] == UNUSED
    assert (folds.frame == "test").any(axis=1).sum() == len(manifest) - 1
    with pytest.raises(DatasetError, match=f"{image} is in the test part of 0 folds"):
        Folds.checked(frame, "as our own")
    second = [row._replace(part="test") if (row.name, row.fold) == (name, 1) else row for row in rows]
    with pytest.raises(DatasetError, match="at most one"):
        official_folds(second, manifest, groups)
    both = [*rows, OfficialRow(1, "validation", name, 0), OfficialRow(1, "train", name, 0)]
    with pytest.raises(DatasetError, match=f"fold 1 names {image} in .* and in"):
        official_folds(both, manifest, groups)


def test_a_kind_that_is_not_known_or_not_readable_is_an_error(tmp_path):
    manifest, groups = example({"busi": 60})
    write_folds(make_folds(manifest, groups, FoldsConfig(), 0), "grouped", tmp_path)
    assert Folds.open(tmp_path / "folds.csv").kind == "grouped"
    for content in ('{"kind": "best"}', "{", "[]", "{}", '{"kind": []}', "\xff"):
        (tmp_path / "folds.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(DatasetError, match=r"folds\.json"):
            Folds.open(tmp_path / "folds.csv")
    (tmp_path / "folds.json").unlink()
    assert Folds.open(tmp_path / "folds.csv").kind == "grouped"


def test_the_balance_that_was_reached_adds_up():
    manifest, groups = example(SOURCES)
    frame = make_folds(manifest, groups, FoldsConfig(), 0)
    table = balance(frame)
    assert len(table) == 5 * 3 * 3 * 2
    for fold in range(1, 6):
        assert table.loc[table["fold"] == fold, "images"].sum() == len(manifest)
    tests = table[table["part"] == "test"]
    assert tests.groupby(["source", "label"])["share"].sum().to_numpy() == pytest.approx(1, abs=1e-3)
    one = tests[(tests["fold"] == 2) & (tests["source"] == "busi") & (tests["label"] == 1)].iloc[0]
    rows = frame[(frame["fold_2"] == "test") & (frame["source"] == "busi") & (frame["label"] == 1)]
    assert (one["images"], one["groups"]) == (len(rows), rows["group"].nunique())
    text = describe_balance(table)
    assert "images off an equal share on average" in text
    fair = pd.crosstab([frame["source"], frame["label"]], (frame.filter(like="fold_") == "test").idxmax(axis=1))
    worst = fair.sub(fair.sum(axis=1) / 5, axis=0).abs().to_numpy().max()
    assert f"{worst:.1f} at most" in text


# -- configuration ---------------------------------------------------------------------------------


def test_folds_by_source_follow_the_sources(demo_values):
    demo_values["folds"].update(kind="source", count=5)
    config = parse_config(demo_values)
    assert config.fold_sources == ("busi", "busis", "dataset_b", "hmss", "thammasat")
    plans = make_plans(config)
    assert plans["losses"].folds == (1, 2, 3, 4, 5)
    assert plans["approaches"].folds == plans["tuned-mt_estan_loss"].folds == (1, 2)  # the sources with masks
    demo_values["folds"]["run"] = [2, 4]
    plans = make_plans(parse_config(demo_values))
    assert plans["losses"].folds == (2, 4)
    assert plans["approaches"].folds == (2,)
    demo_values["data"]["sources"] = ["hmss", "busis", "busi"]
    demo_values["folds"]["run"] = None
    config = parse_config(demo_values)
    assert config.fold_count == 3
    assert make_plans(config)["losses"].folds == (1, 2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": {"kind": "random"}}, "folds.kind = 'random'"),
        ({"folds": {"kind": "official", "count": 4}}, "must be 5 for the official folds but got 4"),
        ({"folds": {"kind": "source"}, "data": {"sources": ["busi", "hmss"]}}, "cohorts.multitask has fewer than two"),
        (
            {"folds": {"kind": "source"}, "data": {"kind": "real", "root": "data/raw", "sources": "all"}},
            "data.sources must list the sources",
        ),
        ({"folds": {"kind": "source", "run": [6]}}, "between 1 and 5 but got 6"),
    ],
)
def test_folds_that_cannot_be_are_refused(demo_values, change, message):
    for section, values in change.items():
        demo_values[section].update(values)
    with pytest.raises(ConfigError, match=message):
        parse_config(demo_values, "params.yaml")


def test_every_profile_names_the_kind_since_dvc_reads_it():
    from bus_mlops import profiles

    for name in profiles.NAMES:
        assert yaml.safe_load(profiles.text(name))["folds"]["kind"] == "grouped"


@given(seed=st.integers(0, 10**6), locked=st.sampled_from([0.0, 0.2]), outside=st.booleans())
@settings(max_examples=10, deadline=None)
def test_grouped_folds_made_anew_over_images_are_those_of_the_kind_image_level(seed, locked, outside):
    manifest, groups = example(SOURCES, seed, 4)
    config = FoldsConfig(count=3, locked=locked)
    external = ("hmss",) if outside else ()
    grouped = make_folds(manifest, groups, config, seed, external)
    try:
        drawn = image_level_folds(grouped.sample(frac=1, random_state=0), config, seed)
    except DatasetError:  # drawn without stratification, a small part may lack a label
        reject()
    leaking_config = config.model_copy(update={"kind": "image-level"})
    pd.testing.assert_frame_equal(drawn, make_folds(manifest, groups, leaking_config, seed, external))
    sealed = grouped["fold_1"].isin(["locked", "external"])
    assert (drawn.loc[sealed, "fold_2"] == grouped.loc[sealed, "fold_2"]).all()
    assert check_leakage(Folds.checked(grouped, "made"))["leaks"] == 0
    assert check_leakage(Folds.checked(drawn, "made", kind="image-level"), tolerate=True)["leaks"] > 0


def scanned(scanners: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images of one source in groups, the scanner of each group drawn from some in turn."""
    manifest, groups = example({"busbra": 90}, size=3)
    number = groups.set_index("image_id").loc[manifest["image_id"], "group"].astype("category").cat.codes
    return manifest.assign(scanner=[scanners[code % len(scanners)] for code in number]), groups


def test_each_scanner_is_tested_by_networks_that_have_not_seen_it():
    manifest, groups = scanned(["Beta", "Alpha", "Alpha"])
    # a group of images of two scanners
    torn = groups["group"].value_counts().index[0]
    mixed = groups.loc[groups["group"] == torn, "image_id"]
    manifest.loc[manifest["image_id"] == mixed.iloc[0], "scanner"] = "Alpha"
    manifest.loc[manifest["image_id"] == mixed.iloc[1], "scanner"] = "Beta"
    frame = make_folds(manifest, groups, FoldsConfig(kind="device", count=2), 0)
    folds = Folds.checked(frame, "made", manifest["image_id"], "device")
    assert check_leakage(folds)["leaks"] == 0
    made = frame["image_id"].map(manifest.set_index("image_id")["scanner"])
    for fold, scanner in ((1, "Alpha"), (2, "Beta")):
        parts = frame[f"fold_{fold}"]
        assert set(made[parts == "test"]) == {scanner}
        assert scanner not in set(made[parts.isin(["train", "validation"])])
        assert set(frame.loc[parts == UNUSED, "group"]) <= {torn}


@pytest.mark.parametrize(
    ("scanners", "count", "complaint"),
    [
        (["Alpha", "Beta"], 3, r"folds\.count is 3, and the images were made by 2 scanner\(s\): Alpha, Beta"),
        (["Alpha", ""], 2, r"busbra does not say it of \d+\. Take it off data\.sources"),
    ],
)
def test_folds_by_device_need_to_know_the_scanners(scanners, count, complaint):
    with pytest.raises(DatasetError, match=complaint):
        make_folds(*scanned(scanners), FoldsConfig(kind="device", count=count), 0)
