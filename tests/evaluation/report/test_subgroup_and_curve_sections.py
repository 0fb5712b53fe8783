"""The sections Subgroups and Curves: drawn from tables alone, readable with twenty rows, silent where there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from assembled import write_benchmark

from bus_mlops.evaluation.curves import decision_curve, reliability, scores
from bus_mlops.evaluation.report.curve_section import curve_section
from bus_mlops.evaluation.report.subgroup_section import subgroup_section
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.evaluation.subgroups import subgroups
from bus_mlops.evaluation.tidy import Evaluated

FOLDS = (1, 2, 3, 4, 5)
COMPUTED = {"subgroups": subgroups, "decision_curve": decision_curve, "reliability": reliability, "scores": scores}


def planned(strategy: str, model: str, task: str = "multitask") -> PlannedRow:
    return PlannedRow(strategy, model, "Multi <b>", ("busi",), FOLDS, None, task, model.lower())


@pytest.fixture(scope="module")
def tables(predictions, tmp_path_factory) -> Path:
    """Tables of two approaches, one that only draws masks, a tuned row, and a strategy of no candidate."""
    rows = {
        "approaches": [
            planned("approaches", "A"),
            planned("approaches", "B"),
            planned("approaches", "M", "segmentation"),
        ],
        "tuned-focal": [planned("tuned-focal", "T", "classification")],
        "optimizers": [planned("optimizers", "O", "classification")],
    }
    frames = {
        strategy: pd.concat(
            predictions(
                strategy=strategy, model=row.model, variant=row.variant, task=row.task, separation=1 + i, seed=i
            )
            for i, row in enumerate(own)
        )
        for strategy, own in rows.items()
    }
    frames["approaches"].loc[frames["approaches"]["image_id"] < "busi/0020", "source"] = "small"
    ids = [f"busi/{i:04d}" for i in range(200)]
    benchmark = write_benchmark(tmp_path_factory.mktemp("assembled"), ids, [i + 1 for i in range(200)])
    folder = tmp_path_factory.mktemp("tables")
    empty = pd.DataFrame()
    evaluated = Evaluated(rows, frames, {}, empty, empty, benchmark, Path("nowhere"))
    for name, compute in COMPUTED.items():
        compute(evaluated).to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_both_sections_stand_for_themselves(tables):
    for build in (subgroup_section, curve_section):
        section = build(tables)
        assert section is not None
        pictures = re.findall(r'role="img" aria-label="([^"]+)"', section.html)
        assert len(pictures) == section.html.count('<figure class="drawn"') > 2
        assert all(len(alt) > 40 for alt in pictures)
        assert "NaN" not in section.html
        assert not re.search(r'="[^"]*\bnan\b', section.html)
        assert "<b> " not in section.html.replace("&lt;b&gt;", "")  # what a user calls a row is text
        assert "Multi &lt;b&gt;" in section.html
        assert not re.search(r'(?:src|href)="(?!data:|#)', section.html)


def test_subgroups_print_the_table_and_say_what_is_too_small(tables):
    section = subgroup_section(tables)
    assert section is not None
    table = pd.read_csv(tables / "subgroups.csv")
    assert section.html.count("<details open>") == 1
    assert "<details open><summary>B Multi" in section.html  # the better of the approaches
    assert section.html.count("<details") == 4  # nothing of a strategy without candidates
    assert "O Multi" not in section.html
    few = table[table["method"].str.startswith("too small") & (table["strategy"] != "optimizers")]
    assert section.html.count("too small</span>") == len(few) > 0
    small = table[(table["model"] == "B") & (table["subgroup"] == "smallest third")]
    by_metric = small.set_index("metric").to_dict("index")
    assert f"{100 * by_metric['dice']['estimate']:.1f}<small>" in section.html
    low, high = (100 * by_metric["sensitivity"][end] for end in ("low", "high"))
    assert f"<small>{low:.1f} to {high:.1f}</small>" in section.html
    assert f"up to {100 * by_metric['dice']['to_share']:.2g} % of the image" in section.html
    assert "tuned by the search focal" in section.html


def test_curves_print_benefits_and_errors_of_candidates_that_classify(tables):
    section = curve_section(tables)
    assert section is not None
    titles = re.findall(r"<tr><td>(\w) Multi", section.html)
    assert titles == ["A", "B", "T"]
    curve = pd.read_csv(tables / "decision_curve.csv")
    at = curve[(curve["model"] == "B") & (curve["threshold"] == 0.3)].set_index("what")["estimate"]
    assert f"<td>{at['model']:+.3f}<small>" in section.html
    assert f"<small>{at['treat all']:+.3f}</small>".replace("-", "−") in section.html
    whole = pd.read_csv(tables / "reliability.csv").query("model == 'B' and metric == 'calibration_error'")
    assert f"<td>{whole['estimate'].item():.3f}</td>" in section.html


def test_twenty_rows_have_a_panel_each(tables, tmp_path):
    for name in COMPUTED:
        frame = pd.read_csv(tables / f"{name}.csv")
        one = frame[frame["model"] == "B"]
        many = [one.assign(model=f"Network {number}") for number in range(20)]
        pd.concat(many).to_csv(tmp_path / f"{name}.csv", index=False)
    curves, groups = curve_section(tmp_path), subgroup_section(tmp_path)
    assert curves is not None
    assert groups is not None
    assert curves.html.count("<div><svg") == 3 * 20
    assert curves.html.count("<tr><td>Network") == 20
    assert groups.html.count("<details") == 20
    assert len(curves.html) + len(groups.html) < 4e6  # a page is to be sent


def test_there_is_no_section_without_its_tables(tables, tmp_path):
    assert subgroup_section(tmp_path) is None
    assert curve_section(tmp_path) is None
    for name in COMPUTED:
        pd.read_csv(tables / f"{name}.csv").iloc[:0].to_csv(tmp_path / f"{name}.csv", index=False)
    assert subgroup_section(tmp_path) is None
    assert curve_section(tmp_path) is None


def test_where_no_candidate_was_trained_all_strategies_are_shown(tables, tmp_path):
    frame = pd.read_csv(tables / "subgroups.csv")
    frame[frame["strategy"] == "optimizers"].to_csv(tmp_path / "subgroups.csv", index=False)
    section = subgroup_section(tmp_path)
    assert section is not None
    assert "O Multi" in section.html
