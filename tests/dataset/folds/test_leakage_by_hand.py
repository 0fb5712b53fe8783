"""The leakage check against counting by hand, on folds that tear groups and cases in every way."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import combinations
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.leakage import check_leakage, leaking
from bus_mlops.errors import LeakageError

FOLDS = 3
PARTS = ("train", "validation", "test", "unused")


@st.composite
def assignments(draw: st.DrawFn) -> pd.DataFrame:
    """Up to 14 images in few groups and few cases, each in any part of each of three folds, tested at most once."""
    rows = []
    for number in range(draw(st.integers(3, 14))):
        tested = draw(st.integers(0, FOLDS))
        parts = [
            "test" if fold == tested else draw(st.sampled_from([part for part in PARTS if part != "test"]))
            for fold in range(1, FOLDS + 1)
        ]
        source = draw(st.sampled_from(["busi", "hmss"]))
        group, case = (f"{source}/{draw(st.integers(0, 3))}" for _ in range(2))
        rows.append([f"{source}/{number:02d}", source, number % 2, case, group, *parts])
    columns = ["image_id", "source", "label", "case_id", "group", *(f"fold_{k}" for k in range(1, FOLDS + 1))]
    return pd.DataFrame(rows, columns=columns)


def torn(rows: list[dict[Hashable, Any]], kind: str, fold: int, borders: set[frozenset[str]]) -> set[str]:
    """Names of which two images lie on either side of one of the borders between parts of a fold."""
    return {
        one[kind]
        for one, other in combinations(rows, 2)
        if one[kind] == other[kind] and frozenset((one[f"fold_{fold}"], other[f"fold_{fold}"])) in borders
    }


TESTED = {frozenset(("test", "train")), frozenset(("test", "validation"))}
VALIDATED = {frozenset(("validation", "train"))}


@settings(max_examples=40, deadline=None)
@given(assignments())
def test_the_check_finds_what_counting_by_hand_finds(frame: pd.DataFrame) -> None:
    rows = frame.to_dict("records")
    folds = Folds.checked(frame, "drawn", kind="official")
    every = range(1, FOLDS + 1)
    counted = [
        len(set().union(*(torn(rows, kind, fold, borders) for fold in every)))
        for borders in (TESTED, VALIDATED)
        for kind in ("group", "case_id")
    ]
    exposed = sum(
        any(
            other["group"] == row["group"] and other[f"fold_{fold}"] in ("train", "validation")
            for other in rows
        )
        for fold in every
        for row in rows
        if row[f"fold_{fold}"] == "test"
    )  # fmt: skip
    found = check_leakage(folds, tolerate=True)
    names = ("leaks", "leaking_cases", "validation_leaks", "validation_leaking_cases")
    assert [found[name] for name in names] == counted
    assert found["exposed_test_images"] == exposed
    busi = [row for row in rows if row["source"] == "busi"]
    assert leaking(frame, sources=["busi"]) == set().union(*(torn(busi, "group", fold, TESTED) for fold in every))
    if any(counted):
        with pytest.raises(LeakageError):
            check_leakage(folds)
    else:
        assert check_leakage(folds)["leaks"] == 0
