"""Near-duplicates: recall and precision on planted copies of every kind, on phantoms and on real BUSI."""

from pathlib import Path

import numpy as np
import pytest
from altered import EXPORTS, KINDS

from bus_mlops.dataset.assemble import assemble
from bus_mlops.dataset.audit import components
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.convert import load
from bus_mlops.dataset.near_duplicates import AS_IS, THRESHOLD, VIEW_THRESHOLD, VIEWS, View, near_duplicates
from bus_mlops.images.geometry import prepare
from bus_mlops.project import parse_config
from bus_mlops.sources.phantoms.write import write_phantoms
from bus_mlops.sources.record import Record
from bus_mlops.sources.registry import read_sources

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"
needs_busi = pytest.mark.skipif(not (REAL / "busi").is_dir(), reason="the real BUSI images are not beside the project")
# The least recall, as a fraction: a few below what was measured (see audit.py).
LEAST = dict.fromkeys(KINDS, 0.97) | {"cropped up to 20 %": 0.95, "cropped up to 25 %": 0.8}
LEAST |= dict.fromkeys(("sides trimmed", "black borders", "trimmed export"), 0.9)
ALTERATIONS = KINDS | EXPORTS


def collection(root: Path, kind: str, folder: Path) -> tuple[Benchmark, list[Record]]:
    values = {
        "profile": "test",
        "seed": 3,
        "data": {"kind": kind, "root": str(root), "sources": ["busi"]},
        "phantom": {"images": {"busi": 90}, "near_duplicates": 0, "size": 160},
        "cohorts": {"all": ["busi"], "multitask": ["busi"]},
        "networks": {},
        "strategies": ["approaches"],
        "searches": {},
    }
    config = parse_config(values)
    if kind == "phantom":
        write_phantoms(config, root)
    return assemble(config, [64], folder, workers=1), read_sources(config.data)


class Planted:
    """A collection with copies behind it, and what is found in it."""

    def __init__(self, benchmark: Benchmark, records: list[Record], kinds: list[str], copies: int) -> None:
        rng = np.random.default_rng(0)
        self.count = len(benchmark.frame)
        self.kinds = [kind for kind in kinds for _ in range(copies)]
        chosen = [rng.choice(self.count, copies, replace=False) for _ in kinds]
        self.original = np.concatenate(chosen)
        planted = zip(self.kinds, self.original, strict=True)
        images = [ALTERATIONS[kind](load(records[i], "gray")[0], rng) for kind, i in planted]
        stack = np.concatenate([benchmark.thumbnails(), [prepare(image, 64) for image in images]])
        widths = [*benchmark.frame["width"], *(image.shape[1] for image in images)]
        heights = [*benchmark.frame["height"], *(image.shape[0] for image in images)]
        self.pairs = near_duplicates(stack, widths, heights)

    def found(self, kind: str) -> int:
        """Copies of a kind that are paired with their original."""
        copies = [n for n, each in enumerate(self.kinds) if each == kind]
        return sum((int(self.original[n]), self.count + n) in self.pairs for n in copies)

    def wrong(self) -> tuple[int, int]:
        """Pairs with a copy whose originals are no near-duplicates of each other either, and all pairs with one."""
        inside = [pair for pair in self.pairs if pair[1] < self.count]
        cluster = components(self.count, inside)
        root = [*cluster, *cluster[self.original]]
        touching = [pair for pair in self.pairs if pair[1] >= self.count]
        return sum(root[i] != root[j] for i, j in touching), len(touching)


def test_planted_copies_of_every_kind_are_found_among_phantoms_and_nothing_else(tmp_path):
    benchmark, records = collection(tmp_path / "data", "phantom", tmp_path / "b")
    planted = Planted(benchmark, records, list(KINDS), 60)  # of 12 two are missed by chance where 58 of 60 are found
    for kind in KINDS:
        assert planted.found(kind) >= (45 if "25" in kind else 55), kind
    wrong, _ = planted.wrong()
    assert wrong == 0
    assert not [pair for pair in planted.pairs if pair[1] < planted.count]


@needs_busi
def test_copies_of_real_images_are_found_by_kind(tmp_path):
    benchmark, records = collection(REAL, "real", tmp_path / "b")
    planted = Planted(benchmark, records, list(LEAST), 12)
    for kind, least in LEAST.items():
        assert planted.found(kind) >= int(12 * least), kind
    wrong, touching = planted.wrong()
    assert wrong <= 0.01 * touching


@needs_busi
@pytest.mark.slow
def test_recall_and_precision_as_the_audits_docstring_states_them(tmp_path):
    benchmark, records = collection(REAL, "real", tmp_path / "b")
    for kind, least in LEAST.items():
        planted = Planted(benchmark, records, [kind], 150)
        wrong, touching = planted.wrong()
        print(f"{kind}: {planted.found(kind)} / 150, wrong {wrong} of {touching}")
        assert planted.found(kind) >= 150 * least, kind
        assert wrong <= 0.01 * touching, kind


def test_the_view_that_was_alike_is_named():
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(0, 256, (3, 32, 32)), np.ones((1, 2, 2))).astype(np.uint8)
    stack = np.stack([noise[0], noise[1], noise[2], noise[0], noise[1][:, ::-1]])
    found = near_duplicates(stack, [64] * 5, [64] * 5)
    assert {pair: match.view for pair, match in found.items()} == {(0, 3): AS_IS, (1, 4): View(1.0, True)}
    assert all(match.similarity == pytest.approx(1, abs=0.01) for match in found.values())
    assert [str(view) for view in VIEWS][::2] == ["as it is", "cropped", "mirrored", "mirrored and cropped"]
    assert THRESHOLD < VIEW_THRESHOLD


def test_a_view_has_a_threshold_of_its_own(monkeypatch):
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(0, 256, (2, 32, 32)), np.ones((1, 2, 2))).astype(np.uint8)
    stack = np.stack([noise[0], noise[1], noise[0], noise[1][:, ::-1]])
    assert set(near_duplicates(stack, [64] * 4, [64] * 4)) == {(0, 2), (1, 3)}
    monkeypatch.setattr("bus_mlops.dataset.near_duplicates.VIEW_THRESHOLD", 1.1)
    assert set(near_duplicates(stack, [64] * 4, [64] * 4)) == {(0, 2)}


def test_identical_images_and_images_without_structure():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 64, 64), dtype=np.uint8)
    stack = np.concatenate([noise, noise[:1], np.zeros((2, 64, 64), np.uint8)])
    assert list(near_duplicates(stack, [64] * 9, [64] * 9)) == [(0, 6)]
    assert near_duplicates(noise[:1], [64], [64]) == {}


def test_black_borders_are_no_likeness():
    """Different pictures in the same black frame, off the middle, share nothing; the same picture is found in it."""
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(40, 256, (12, 24, 24)), np.ones((1, 2, 2))).astype(np.uint8)
    stack = np.zeros((14, 64, 64), np.uint8)
    stack[:12, 4:52, 10:58] = noise
    stack[12, 10:58, 6:54] = noise[0]
    stack[13, 4:52, 6:54] = noise[1][:, ::-1]
    stack[:, 0] = rng.integers(0, 8, (14, 64))  # what JPEG leaves of black
    found = near_duplicates(stack, [64] * 14, [64] * 14)
    assert {pair: match.view for pair, match in found.items()} == {(0, 12): AS_IS, (1, 13): View(1.0, True)}


def test_padding_does_not_make_images_alike():
    rng = np.random.default_rng(0)
    stack = np.zeros((12, 64, 64), np.uint8)
    stack[:, 20:44] = rng.integers(100, 200, (12, 24, 64))
    assert near_duplicates(stack, [64] * 12, [24] * 12) == {}
