"""Nearest neighbours: exact as scikit-learn's for small collections, and near to it for large ones."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from bus_mlops.dataset import neighbours
from bus_mlops.dataset.neighbours import Neighbours


def unit_vectors(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, 24)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference(base: np.ndarray, queries: np.ndarray, count: int) -> set[tuple[int, int]]:
    found = NearestNeighbors(n_neighbors=count + 1, metric="cosine").fit(base).kneighbors(queries)[1]
    return {(i, int(j)) for i, row in enumerate(found) for j in [j for j in row if j != i][:count]}


@pytest.mark.parametrize("count", [1, 5])
def test_small_collections_are_searched_exactly(count):
    base, queries = unit_vectors(300), unit_vectors(300, seed=1)
    index = Neighbours(base)
    for asked in (base, queries):
        assert set(map(tuple, index.query(asked, count).tolist())) == reference(base, asked, count)


def test_large_collections_lose_only_what_is_unlike(monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT", 500)
    monkeypatch.setattr(neighbours, "_PROBED", 8)
    monkeypatch.setattr(neighbours, "_ROWS", 700)
    rng = np.random.default_rng(0)
    base = unit_vectors(2000)
    base[1::2] = base[::2] + 0.1 * rng.standard_normal((1000, 24)).astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    pairs = Neighbours(base).query(base, 3)
    assert len(pairs) == len(np.unique(pairs, axis=0)) == 6000
    assert not (pairs[:, 0] == pairs[:, 1]).any()
    twins = sum((i, i ^ 1) in set(map(tuple, pairs.tolist())) for i in range(0, 2000, 40))
    assert twins >= 48
    close = {tuple(pair) for pair in pairs.tolist()} & reference(base, base, 3)
    assert len(close) > 0.6 * 6000


def test_fewer_rows_than_neighbours_asked_for():
    pairs = Neighbours(unit_vectors(3)).query(unit_vectors(3), 24)
    assert sorted(map(tuple, pairs.tolist())) == [(i, j) for i in range(3) for j in range(3) if i != j]


def test_many_equal_rows_leave_cells_empty_and_harm_nothing(monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT", 50)
    base = np.repeat(unit_vectors(4), 100, axis=0)
    pairs = Neighbours(base).query(base, 2)
    assert len(pairs) == 800
    assert (pairs[:, 0] // 100 == pairs[:, 1] // 100).all()
