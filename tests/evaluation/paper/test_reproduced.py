"""Reproduced or not: the rule by simulation, each verdict, each reason why a row is not comparable."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.published import paper_row
from bus_mlops.evaluation.paper.reproduced import (
    ABOVE,
    BELOW,
    NOT_COMPARABLE,
    RULE,
    WITHIN,
    noise,
    reproduced_table,
)
from bus_mlops.evaluation.report.reproduced_section import reproduced_section
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.evaluation.tidy import Evaluated

FOLDS = (1, 2, 3, 4, 5)
OURS = np.array([0.01, -0.01, 0.02, -0.02, 0.0])


def row(**changes: Any) -> PlannedRow:
    paper = changes.get("paper", (9, "MT-ESTAN", "Multi"))
    values: dict[str, Any] = {
        **{"strategy": "approaches", "model": "MT-ESTAN", "variant": "Multi", "cohort": ("busi", "busis")},
        **{"folds": FOLDS, "paper": paper},
    }
    return PlannedRow(**{**values, **changes})


def judged(tmp_path: Path, planned: PlannedRow, shift: float = 0.0, kind: str = "real", **record: Any) -> pd.DataFrame:
    (tmp_path / "benchmark.json").write_text(json.dumps({"kind": kind}))
    published = paper_row(*planned.paper) if planned.paper else {}
    cells = {name: (published or {}).get(name, 0.5) + shift + OURS[: len(planned.folds)] for name in METRICS}
    identity = {name: getattr(planned, name) for name in ("strategy", "model", "variant")}
    by_fold = pd.DataFrame({**identity, "fold": planned.folds, "seed": 1, **cells})
    table = pd.DataFrame([{**identity, "incomplete": "", "leaks": 0, **record}])
    fold = np.arange(50) % 5 + 1
    parts = {f"fold_{k}": np.where(fold == k, "test", "train") for k in FOLDS}
    sources = {"busi": range(25), "busis": range(25, 50)}
    folds = pd.concat(
        [
            pd.DataFrame({"image_id": [f"{s}{i}" for i in n], "source": s, **{k: v[list(n)] for k, v in parts.items()}})
            for s, n in sources.items()
        ]
    )
    strategy = planned.strategy
    given = Evaluated({strategy: [planned]}, {}, {strategy: table}, by_fold, folds, tmp_path, tmp_path)
    return reproduced_table(given).set_index("metric")


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, WITHIN), (0.2, ABOVE), (-0.2, BELOW)])
def test_each_verdict(tmp_path, shift, verdict):
    table = judged(tmp_path, row(), shift)
    line = table.loc["balanced_accuracy"]
    assert (line["verdict"], line["reason"]) == (verdict, "")
    assert line["paper"] == 0.901
    assert line["ours"] == pytest.approx(0.901 + shift)
    assert line["noise"] == pytest.approx(noise(OURS, 0.25))


@pytest.mark.parametrize(
    ("planned", "changes", "reason"),
    [
        (row(), {"kind": "phantom"}, "phantoms"),
        (row(cohort=("busi",)), {}, "without busis"),
        (row(cohort=("busi", "busis", "hmss")), {}, "with hmss"),
        (row(), {"incomplete": "busi: 3 of 647 images"}, "incomplete: busi: 3 of 647 images"),
        (row(), {"leaks": 35.0}, "35 leakage groups in test and training parts"),
        (row(folds=(1,)), {}, "a single fold"),
        (row(model="ResNet50", paper=(8, "ResNet50", "Multi")), {}, "the paper's row contradicts itself: its"),
    ],
)
def test_what_cannot_be_compared_says_why(tmp_path, planned, changes, reason):
    table = judged(tmp_path, planned, **changes)
    assert set(table["verdict"]) == {NOT_COMPARABLE}
    assert table["reason"].str.contains(reason, regex=False).all()


def test_rows_that_the_paper_does_not_print_have_no_line(tmp_path):
    assert judged(tmp_path, row(paper=None)).empty
    assert judged(tmp_path, row(task="segmentation")).empty


def test_two_studies_of_one_procedure_agree_in_about_95_of_100():
    """Folds share training images: their means vary by the corrected variance, of theirs as of ours."""
    rng = np.random.default_rng(1)
    ratio, repetitions = 0.25, 4000
    shared = rng.normal(0, np.sqrt(ratio), (repetitions, 2))  # what all folds of a study have in common
    studies = shared[..., None] + rng.normal(0, 1, (repetitions, 2, 5))
    bands = [noise(0.01 * ours, ratio) for ours, _ in studies]
    apart = 0.01 * np.abs(studies.mean(axis=2) @ [1, -1])
    agree = float(np.mean(apart <= bands))
    assert 0.93 <= agree <= 0.97


def test_the_section_states_the_rule_and_counts(tmp_path):
    judged(tmp_path, row()).reset_index().to_csv(tmp_path / "reproduced.csv", index=False)
    section = reproduced_section(tmp_path)
    assert section is not None
    assert RULE in html.unescape(section.html)
    assert "Of 1 rows: 1 within what noise allows." in section.html
    assert ">90.1<" in section.html
    judged(tmp_path, row(cohort=("busi",))).reset_index().to_csv(tmp_path / "reproduced.csv", index=False)
    other = reproduced_section(tmp_path)
    assert other is not None
    assert "Not comparable, 1 rows: without busis." in other.html
    assert reproduced_section(tmp_path / "nothing") is None
