"""The closing summary: what it reads, what it prints at each width, what it gives to programs."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bus_mlops.cli import commands
from bus_mlops.cli.app import app
from bus_mlops.cli.summary import Summary, example_image, read_summary
from bus_mlops.cli.summary_view import show_summary
from bus_mlops.errors import EvaluationError
from bus_mlops.files import write_json
from bus_mlops.project import profile_config

LONG = "search mt_estan_loss: MT-ESTAN (mobilenet, width 0.25) Multi, tuned, from scratch"
BEST = "multitask: MobileNet (alpha 0.25) Multi, from scratch"
# strategy, order, and of each row: network, variant, fingerprint, images, ROC AUC, sensitivity, specificity
TABLES: dict[str, tuple[int, list[tuple[str, str, str, int, float | None, float, float]]]] = {
    "losses": (
        6,
        [
            ("MobileNet (alpha 0.25)", "BCE, from scratch", "a", 320, 0.861, 0.71, 0.88),
            ("MobileNet (alpha 0.25)", "WBCE(w_z=5), from scratch", "b", 320, 0.842, 0.9, 0.5),
        ],
    ),
    "optimizers": (7, [("MobileNet (alpha 0.25)", "ADAM, from scratch", "a", 320, 0.861, 0.71, 0.88)]),
    "approaches": (
        9,
        [
            ("MT-ESTAN (mobilenet, width 0.25)", "Multi, from scratch", "c", 220, 0.941, 0.86, 0.9),
            ("ESTAN", "Masks, from scratch", "d", 220, None, 0.0, 0.0),
        ],
    ),
}
RULES = [
    {"id": "G1", "title": "floors", "limit": "", "values": {}, "passed": True, "sentence": "Fine."},
    {
        "id": "G2",
        "title": "superiority",
        "limit": "p < 0.05",
        "values": {"p_adjusted": 0.01},
        "passed": True,
        "sentence": "roc_auc 0.941 against 0.912: a difference of +0.029 (95 % interval +0.011 to +0.047) over 3 folds "
        "x 2 seeds of each, one-sided p = 0.004.",
    },
]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def finding(name: str, strategy: str, verdict: str, statement: str, claim: str = "") -> dict[str, Any]:
    overall = None if verdict == "not tested" else {"difference": -0.0714}
    texts = {"statement": statement, "claim": claim, "paper": "Table 4"}
    return {"name": name, "strategy": strategy, "verdict": verdict, "overall": overall, "p_adjusted": None, **texts}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    for name, (order, rows) in TABLES.items():
        plan = {"strategy": name, "order": order, "title": name.capitalize(), "explanation": "", "rows": [{}]}
        write_json(root / "plan" / f"{name}.json", plan)
        records = []
        for model, variant, fingerprint, images, area, sensitivity, specificity in rows:
            means = {"roc_auc": area, "sensitivity": sensitivity, "specificity": specificity}
            record: dict[str, Any] = {"strategy": name, "model": model, "variant": variant, "fingerprint": fingerprint}
            record |= {"images": images, "leaks": 0}
            for metric, mean in means.items():
                ends = ("", "") if mean is None else (mean - 0.04, mean + 0.03)
                record |= {f"{metric}_mean": mean, f"{metric}_low": ends[0], f"{metric}_high": ends[1]}
            records.append(record)
        write_csv(root / "tables" / f"{name}.csv", records)
    statements = [
        finding(
            "transfer", "transfer_learning", "not tested", "Not tested: this run has no rows to compare.", "It helps."
        ),
        finding("weight", "losses", "shown", "Weighted cross-entropy raises sensitivity against cross-entropy: for 1."),
        finding(
            "focal", "losses", "not shown", "It does not show that focal loss raises sensitivity: lower for 1 of 1."
        ),
        finding(
            "sgd", "optimizers", "opposite", "The opposite shows: SGD lowers balanced accuracy against ADAM: for 1."
        ),
        finding(
            "masks", "multitask", "shown", "Multitask learning raises balanced accuracy: higher for 1 of 1 network."
        ),
        finding("own", "approaches", "shown", "Balanced accuracy of MT-ESTAN is higher than that of all others: so."),
        finding("choice", "losses", "not shown", "The choice is the paper's for 0 of 1 networks (w_z 2). On test."),
    ]
    write_json(root / "findings.json", statements)
    return root


def decide(results: Path, passed: bool, name: str = "", version: int = 1) -> None:
    """Write the record of a candidate, or of the challenger of a name, as the stage `promote` does."""
    folder = results / "promotion"
    values = {
        "model": "bus-mt-estan-phantom",
        "version": version,
        "alias": "champion" if passed else None,
        "decision": "promoted" if passed else "refused",
        "passed": passed,
        "candidate": name or LONG,
        "baseline": LONG if name else BEST,
        "evidence": "0" * 64,
    }
    write_json(folder / (f"challengers/{name}.json" if name else "promotion.json"), values)
    rules = [RULES[0], {**RULES[1], "passed": passed}]
    write_json(folder / (f"challengers/{name}/gate.json" if name else "gate.json"), {**values, "rules": rules})


def read(results: Path, **values: Any) -> Summary:
    return read_summary(results, profile_config("demo"), **values)


def printed(summary: Summary, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show_summary(summary, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_baseline_that_the_profile_names_is_said_to_be(results):
    decide(results, passed=True)
    said = [reason for reason in read(results).verdict.reasons if "promotion.baseline: mobilenet" in reason]
    assert len(said) == 1
    chosen = profile_config("busi")
    assert chosen.promotion.baseline == "champion"
    assert not any("promotion.baseline" in reason for reason in read_summary(results, chosen).verdict.reasons)


def test_the_verdict_comes_first_and_the_report_last(results):
    decide(results, passed=True)
    (results / "report.html").write_text("<html>")
    text = " ".join(printed(read(results, image=Path("data/phantom/busi/malignant (1).png"))).split())
    parts = (
        f"PROMOTED {LONG} beats {BEST} bus-mt-estan-phantom version 1 is champion G2 superiority: roc_auc 0.941",
        "SYNTHETIC images",
        "Ranking by ROC AUC",
        "1 MT-ESTAN (mobilenet, width 0.941 0.901 to 0.971 86 90 220",
        "2 MobileNet (alpha 0.25) 0.861",
        "Findings of the paper: 3 shown, 1 opposite, 2 not shown, 1 not tested",
        "shown Weighted cross-entropy raises sensitivity −7.1 points",
        "Next",
        "models:/bus-mt-estan-phantom@champion 'data/phantom/busi/malignant (1).png'",
        "Report: ",
    )
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)


@pytest.mark.parametrize("width", [120, 80, 56])
def test_it_fits_but_for_commands_which_stay_whole(results, width):
    decide(results, passed=False)
    decide(results, passed=False, name="sha_mtl", version=2)
    write_json(results / "timing.json", {"wall_seconds": 312.0, "cpu_seconds": 571.0})
    text = printed(read(results, left_to_paper=["ResNet50, VGG16 as classifiers"]), width)
    lines = text.splitlines()
    wide = [line for line in lines if len(line.rstrip()) > width]
    assert all("bus-mlops" in line for line in wide)
    assert "…" not in text
    assert any(line.rstrip().endswith("models:/bus-mt-estan-phantom/1 IMAGE") for line in lines)
    assert ("901 to 0.971" in text) == (width >= 80)


def test_what_a_run_came_to_for_programs(results):
    decide(results, passed=True)
    decide(results, passed=False, name="sha_mtl", version=2)
    write_csv(
        results / "plan/left_out.csv",
        [{"strategy": "transfer_learning", "network": "mobilenet", "variant": "TL", "reason": "no ImageNet weights"}],
    )
    values = json.loads(json.dumps(read(results, left_to_paper=["ResNet50 as classifiers"]).to_dict()))
    told = {*values, *values["verdict"], *values["ranking"][0], *values["findings"][0], *values["next"][0]}
    documented = Path(__file__).parents[2].joinpath("docs/reference/json.md").read_text()
    assert {key for key in told if f"`{key}`" not in documented} == set()
    assert values["verdict"]["uri"] == "models:/bus-mt-estan-phantom@champion"
    assert values["verdict"]["reasons"][0] == f"G2 superiority: {RULES[1]['sentence']}"
    assert values["challengers"]["sha_mtl"]["uri"] == "models:/bus-mt-estan-phantom/2"
    assert values["challengers"]["sha_mtl"]["reasons"] == values["verdict"]["reasons"][:1]
    assert [row["title"].split()[0] for row in values["ranking"]] == ["MT-ESTAN", "MobileNet", "MobileNet"]
    assert values["ranking"][1]["strategies"] == ["Losses", "Optimizers"], "a spec of two tables stands there once"
    assert values["ranking"][0]["metrics"]["roc_auc"] == pytest.approx({"mean": 0.941, "low": 0.901, "high": 0.971})
    assert values["left_out"][0]["network"] == "mobilenet"
    assert (values["time"], values["report"]) == (None, None)
    assert {each["name"]: each["text"] for each in values["findings"]}[
        "sgd"
    ] == "SGD lowers balanced accuracy against ADAM"


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda results: None, ["NO PROMOTION  the gate has not run yet: dvc repro promote", "gate --power"]),
        (
            lambda results: write_json(results / "promotion/promotion.json", {"passed": None, "note": "No rival."}),
            ["NO PROMOTION  No rival.", "gate --power"],
        ),
        (
            lambda results: decide(results, passed=False),
            ["REFUSED", "G2 superiority", "models:/bus-mt-estan-phantom/1"],
        ),
    ],
)
def test_without_a_champion(results, make, wanted):
    make(results)
    text = printed(read(results))
    assert all(each in text for each in wanted)
    assert "@champion" not in text
    assert "Left out" not in text
    assert "Time" not in text


def test_a_challenger_that_wins_is_the_one_to_ask(results):
    decide(results, passed=False)
    decide(results, passed=True, name="sha_mtl", version=2)
    assert "sha_mtl: PROMOTED" in printed(read(results))
    assert read(results).next[0].command.endswith("models:/bus-mt-estan-phantom@champion IMAGE")
    record = results / "promotion/promotion.json"
    write_json(record, {**json.loads(record.read_text()), "example": "data/phantom/busi/one.png"})
    assert read(results).next[0].command.endswith("@champion data/phantom/busi/one.png")


def test_five_findings_one_of_each_strategy_before_a_second(results):
    shown = [each.name for each in read(results).highlights]
    assert shown == ["weight", "focal", "sgd", "masks", "own"]


def test_before_any_result_it_says_what_to_run(tmp_path):
    with pytest.raises(EvaluationError, match="make reproduce"):
        read(tmp_path)


def test_the_example_is_a_malignant_image_that_was_tested(tmp_path):
    config = profile_config("demo")
    assert example_image(config, tmp_path / "manifest.csv", tmp_path / "folds.csv") is None
    ids = ["busi/benign (1)", "busi/malignant (1)", "busi/malignant (2)"]
    parts = zip(ids, "011", ("test", "train", "test"), strict=True)
    write_csv(tmp_path / "folds.csv", [{"image_id": i, "label": label, "fold_1": part} for i, label, part in parts])
    write_csv(tmp_path / "manifest.csv", [{"image_id": i, "path": f"{i}.png"} for i in ids])
    found = example_image(config, tmp_path / "manifest.csv", tmp_path / "folds.csv")
    assert found == Path("data/phantom/busi/malignant (2).png")


@pytest.mark.parametrize(
    ("variables", "is_active"),
    [
        ({"VIRTUAL_ENV": "PREFIX", "PATH": "/bin"}, True),
        ({"CONDA_PREFIX": "PREFIX", "PATH": "/bin"}, True),
        ({"PATH": "PREFIX/bin"}, True),
        ({"PATH": "PREFIX/bin", "MAKELEVEL": "1"}, False),
        ({"VIRTUAL_ENV": "PREFIX", "PATH": "PREFIX/bin", "MAKELEVEL": "1"}, True),
        ({"VIRTUAL_ENV": "/elsewhere", "PATH": "/bin"}, False),
    ],
)
def test_commands_work_where_they_are_pasted(tmp_path, monkeypatch, variables, is_active):
    program = tmp_path / ".venv/bin/bus-mlops"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("PREFIX", str(tmp_path / ".venv")))
    line = commands.command("bus-mlops", "summary", "two words")
    assert shlex.split(line) == ["bus-mlops" if is_active else ".venv/bin/bus-mlops", "summary", "two words"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert shlex.split(commands.command("bus-mlops"))[0] == ("bus-mlops" if is_active else str(program))


def test_the_command_prints_json_alone(results, monkeypatch):
    (results.parent / "params.yaml").write_text("profile: nothing\n")
    monkeypatch.chdir(results.parent)
    CliRunner().invoke(app, ["profile", "demo", "--force"], catch_exceptions=False)
    done = CliRunner().invoke(app, ["summary", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["profile"] == "demo"


def test_of_a_refused_challenger_the_terminal_says_the_main_reason(results):
    decide(results, passed=True)
    decide(results, passed=False, name="hasty", version=2)
    gate = results / "promotion/challengers/hasty/gate.json"
    values = json.loads(gate.read_text())
    floors = {**RULES[0], "id": "G1", "title": "floors", "passed": False, "sentence": "Below the floor."}
    write_json(gate, {**values, "rules": [floors, *values["rules"][1:]]})
    text = printed(read(results))
    assert "hasty: REFUSED" in text
    assert "G2 superiority: " in text.partition("hasty: REFUSED")[2]
    assert "1 further rule refused it too." in " ".join(text.split())
    assert "Below the floor." not in text


def test_a_finding_that_is_not_beyond_chance_is_told_by_what_it_is_about(results):
    path = results / "findings.json"
    findings = json.loads(path.read_text())
    lead = "Not beyond chance among 19 findings (p = 0.832 after Holm), though alone: "
    for each in findings:
        if each["name"] == "sgd":
            each.update(verdict="not shown", statement=f"{lead}{each['statement']}")
    write_json(path, findings)
    assert {each.name: each.text for each in read(results).findings}[
        "sgd"
    ] == "SGD lowers balanced accuracy against ADAM"
