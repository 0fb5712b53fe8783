"""The audit: finds planted copies and real BUSI's clusters, and joins them with cases."""

from pathlib import Path

import networkx  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bus_mlops.config import Config, FoldsConfig
from bus_mlops.dataset.assemble import assemble
from bus_mlops.dataset.audit import audit, components, describe, read_groups
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.make import make_folds
from bus_mlops.dataset.folds.sealed import sealed_counts
from bus_mlops.dataset.near_duplicates import near_duplicates
from bus_mlops.errors import DatasetError
from bus_mlops.project import parse_config
from bus_mlops.sources.phantoms.write import write_phantoms

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"


def config_for(
    root: Path, kind: str, images: dict[str, int], copies: int = 0, external: tuple[str, ...] = ()
) -> Config:
    values = {
        "profile": "test",
        "seed": 11,
        "data": {"kind": kind, "root": str(root), "sources": "all" if images else ["busi"]},
        "phantom": {"images": images, "near_duplicates": copies, "size": 110},
        "cohorts": {"all": ["busi"], "multitask": ["busi"], "external": external},
        "networks": {},
        "strategies": ["approaches"],
        "searches": {},
    }
    return parse_config(values)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, Benchmark]:
    root = tmp_path_factory.mktemp("planted")
    config = config_for(root / "data", "phantom", {"hmss": 45, "busi": 60, "busis": 25}, 20)
    write_phantoms(config, root / "data")
    return root / "data", assemble(config, [64], root / "b", workers=1)


def test_every_planted_copy_is_found_and_nothing_else(planted):
    root, benchmark = planted
    frame = benchmark.frame
    found = near_duplicates(benchmark.thumbnails(), frame["width"].tolist(), frame["height"].tolist())
    ids = frame["image_id"].tolist()
    pairs = {frozenset((ids[i], ids[j])) for i, j in found}
    truth = {frozenset(row) for row in pd.read_csv(root / "near_duplicates.csv").to_numpy().tolist()}
    assert len(truth) == 20
    assert pairs == truth


def test_groups_are_cases_joined_with_copies_named_after_their_smallest_image(planted):
    root, benchmark = planted
    found = audit(benchmark)
    groups, metrics = found.groups, found.metrics
    graph = networkx.Graph()
    for row in benchmark.frame.itertuples():
        graph.add_edge(row.image_id, ("case", row.case_id))
    graph.add_edges_from(pd.read_csv(root / "near_duplicates.csv").to_numpy().tolist())
    expected: dict[str, str] = {}
    for component in networkx.connected_components(graph):
        images = [node for node in component if isinstance(node, str)]
        expected |= dict.fromkeys(images, min(images))
    assert dict(zip(groups["image_id"], groups["group"], strict=True)) == expected
    assert metrics["groups"] == len(set(expected.values()))
    assert metrics["near_duplicate_pairs"] == 20
    # one copy in BUSI bears the other label, and one case of HMSS holds both
    assert len(metrics["conflicts"]["clusters"]) == len(metrics["conflicts"]["cases"]) == 1
    assert "labels differ within one case" in describe(metrics)


def test_pairs_name_both_images_how_they_are_alike_and_how_much(planted, tmp_path):
    root, benchmark = planted
    found = audit(benchmark)
    pairs = found.pairs
    assert list(pairs.columns) == ["image", "other", "found", "similarity"]
    assert {frozenset(pair) for pair in pairs[["image", "other"]].to_numpy().tolist()} == {
        frozenset(row) for row in pd.read_csv(root / "near_duplicates.csv").to_numpy().tolist()
    }
    assert pairs["similarity"].is_monotonic_decreasing
    assert pairs["similarity"].between(0.33, 1).all()
    assert sum(found.metrics["near_duplicate_pairs_seen"].values()) == 20
    sizes = found.clusters["cluster"].value_counts()
    assert (sizes > 1).sum() == found.metrics["clusters"]["count"]


def test_the_order_of_the_images_is_irrelevant(planted):
    _, benchmark = planted
    frame = benchmark.frame
    order = np.random.default_rng(0).permutation(len(frame))
    shuffled = frame.iloc[order]
    found = near_duplicates(benchmark.thumbnails()[order], shuffled["width"].tolist(), shuffled["height"].tolist())
    straight = near_duplicates(benchmark.thumbnails(), frame["width"].tolist(), frame["height"].tolist())
    assert {tuple(sorted((int(order[i]), int(order[j])))) for i, j in found} == set(straight)


def test_identical_pixels_are_found_whatever_the_file(tmp_path):
    config = config_for(tmp_path / "data", "phantom", {"busi": 8})
    write_phantoms(config, tmp_path / "data")
    folder = tmp_path / "data" / "busi"
    first, second = sorted(path for path in (folder / "benign").glob("*.png") if "_mask" not in path.name)[:2]
    Image.open(first).save(second, compress_level=1)
    mask, other = (path.with_name(f"{path.stem}_mask.png") for path in (first, second))
    other.write_bytes(mask.read_bytes())
    assert first.read_bytes() != second.read_bytes()
    found = audit(assemble(config, [32], tmp_path / "b", workers=1))
    assert found.metrics["exact_duplicate_pairs"] == 1
    assert found.metrics["near_duplicate_pairs"] == 0
    assert found.pairs.iloc[0].tolist() == [f"busi/{first.stem}", f"busi/{second.stem}", "identical", 1.0]


def test_near_duplicates_across_sources_are_counted_external_ones_too_and_left_out(tmp_path):
    """Six image files of BUSIS are copies of BUSI's: two identical, four rescaled and brighter; BUSIS is external."""
    images = {"busi": 20, "busis": 20, "buid": 12}
    config = config_for(tmp_path / "data", "phantom", images, external=("busis", "buid"))
    write_phantoms(config, tmp_path / "data")
    ours = sorted(path for path in (tmp_path / "data" / "busi" / "benign").glob("*.png") if "_mask" not in path.name)
    for number, path in enumerate(ours[:6], start=1):
        pixels = Image.open(path).convert("L")
        if number > 2:
            pixels = pixels.resize((round(pixels.width * 0.9), round(pixels.height * 0.9))).point(
                lambda v: v * 0.8 + 20
            )
        pixels.save(tmp_path / "data" / "busis" / "imgs" / f"case{number:04d}.png")
        blank = np.zeros((pixels.height, pixels.width), dtype=np.uint8)
        Image.fromarray(blank).save(tmp_path / "data" / "busis" / "GT" / f"case{number:04d}_GT.png")
    benchmark = assemble(config, [32], tmp_path / "b", workers=1)
    found = audit(benchmark, config.external)
    assert found.metrics["pairs_between_sources"] == {"busi and busis": {"pairs": 6, "identical": 2}}
    assert found.metrics["external"] == {
        "buid": {"images": 12, "related": 0},
        "busis": {"images": 20, "related": 6},
    }
    text = describe(found.metrics)
    assert "6 pairs of near-duplicates between busi and busis, 2 of them identical" in text
    assert "external source busis: 6 of 20 images" in text
    folds = make_folds(benchmark.frame, found.groups, FoldsConfig(count=2), 1, config.external)
    assert {each: counts["related"] for each, counts in sealed_counts(folds).items()} == {"buid": 0, "busis": 6}


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_components_agree_with_networkx(case):
    count, links = case
    graph = networkx.Graph(links)
    graph.add_nodes_from(range(count))
    expected = {node: min(part) for part in networkx.connected_components(graph) for node in part}
    assert components(count, links).tolist() == [expected[node] for node in range(count)]


def test_groups_file_is_checked(tmp_path):
    with pytest.raises(DatasetError, match="dvc repro audit"):
        read_groups(tmp_path / "groups.csv")
    (tmp_path / "groups.csv").write_text("image_id,group\na/1,a/1\na/1,a/1\n")
    with pytest.raises(DatasetError, match="one row an image"):
        read_groups(tmp_path / "groups.csv")


@pytest.mark.skipif(not (REAL / "busi").is_dir(), reason="the real BUSI images are not beside the project")
def test_real_busi_has_about_120_clusters_over_two_fifths_of_its_images(tmp_path):
    found = audit(assemble(config_for(REAL, "real", {}), [64], tmp_path / "b"))
    metrics = found.metrics
    assert metrics["exact_duplicate_pairs"] == 1
    assert 110 <= metrics["clusters"]["count"] <= 130
    assert 0.39 <= metrics["clusters"]["fraction_of_images"] <= 0.45
    assert metrics["clusters"]["largest"] <= 10
    assert len(metrics["conflicts"]["clusters"]) == 6
    group = found.groups.set_index("image_id")["group"]
    assert group["busi/benign (433)"] == group["busi/malignant (145)"]
    # the same frame with a wider field of view, which only a zoomed view shows
    assert group["busi/malignant (77)"] == group["busi/malignant (78)"] == group["busi/benign (333)"]
    assert metrics["near_duplicate_pairs_seen"].keys() <= {"as it is", "cropped"}  # nothing in BUSI is mirrored
