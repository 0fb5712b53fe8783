"""The closing summary: rows without a class stay readable, and what was left to the paper is named."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rich.console import Console

from bus_mlops.evaluation.report.summary import render_summary
from bus_mlops.files import write_json

METRICS = ("roc_auc", "sensitivity", "specificity")


def write_table(results: Path, strategy: str, model: str, values: dict[str, str]) -> None:
    record = {"strategy": strategy, "model": model, "variant": "Multi", "leaks": "0"}
    record |= {f"{name}_{part}": values.get(part, "") for name in METRICS for part in ("mean", "std")}
    record |= {f"paper_{name}": "" for name in METRICS}
    plan = {"strategy": strategy, "order": 8, "title": strategy.capitalize(), "explanation": "", "rows": [{}]}
    write_json(results / "plan" / f"{strategy}.json", plan)
    (results / "tables").mkdir(exist_ok=True)
    with (results / "tables" / f"{strategy}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(record))
        writer.writeheader()
        writer.writerow(record)


def rendered(results: Path, left: tuple[str, ...] = ()) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render_summary(results, phantom=False, left_to_paper=left))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_network_that_only_draws_masks_has_no_numbers_of_a_class(tmp_path):
    write_table(tmp_path, "approaches", "ESTAN", {})
    write_table(tmp_path, "multitask", "MobileNet", {"mean": "0.75", "std": "0.05"})
    lines = rendered(tmp_path).splitlines()
    estan = next(line for line in lines if "ESTAN" in line)
    assert estan.split() == ["ESTAN", "Multi"]
    assert "0.750 ± 0.050" in next(line for line in lines if "MobileNet" in line)


def test_what_was_left_to_the_paper_is_named(tmp_path):
    write_table(tmp_path, "approaches", "MT-ESTAN", {"mean": "0.75"})
    shown = rendered(tmp_path, ("ResNet50, VGG16 as classifiers", "all but 5 of 98 rows of losses"))
    assert "Left to the profile paper  ResNet50, VGG16 as classifiers; all but 5 of 98 rows of losses" in shown
    assert "Left to the profile paper" not in rendered(tmp_path)
