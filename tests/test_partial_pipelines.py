"""Profiles that lack a part (the candidate, masks, a rival) run from plan to report, by the scripts that DVC runs.

All of them train networks of a few layers in one project, so that the ledger shares what they have in common.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import yaml
from projects import run_stage_here
from small_network import add_small_networks, in_place_of_the_zoo
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.errors import NothingToJudgeError

SINGLE = {"networks": ["small"], "strategies": ["losses"]}
WITHOUT_MULTITASK = {"networks": ["small"], "strategies": ["transfer_learning", "losses"]}
WITHOUT_CANDIDATE = {"networks": ["small", "small_multitask"], "strategies": ["losses", "multitask"]}
WITHOUT_RIVAL = {"networks": ["small", "small_approach"], "strategies": ["transfer_learning", "approaches"]}
# The delivered search is of MT-ESTAN, which none of them plans; that of the last is of what stands for it.
LOSS, SMALL_LOSS = "mt_estan_loss", "loss"
NO_SEARCH = "Search mt_estan_loss: mt_estan is not among the networks of params.yaml"


@pytest.fixture(scope="module")
def project(tiny_data: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folded project whose ledger all profiles of this module share."""
    folder = Path(shutil.copytree(tiny_data, tmp_path_factory.mktemp("partial") / "project"))
    shutil.copy(empty_store, folder)
    add_small_networks(folder)
    values = yaml.safe_load((folder / "params.yaml").read_text())
    delivered = copy.deepcopy({name: values[name] for name in ("searches", "promotion")})
    in_place_of_the_zoo(values)
    (folder / "params.yaml").unlink()
    (folder / f"{SMALL_LOSS}.yaml").write_text(yaml.safe_dump(values))
    (folder / f"{LOSS}.yaml").write_text(yaml.safe_dump({**values, **delivered}))
    return folder


def run_pipeline(project: Path, search: str, networks: list[str], strategies: list[str]) -> dict[str, str]:
    """What each stage prints, from plan to report; the stages of the data are the same for all profiles."""
    values = yaml.safe_load((project / f"{search}.yaml").read_text())
    values["networks"] = {name: values["networks"][name] for name in networks}
    values["strategies"] = strategies
    values["training"]["epochs"] = 1
    # The paper's weights, which are those of the profile: nothing more to train.
    values["searches"][search]["trials"] = 1
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.rmtree(project / "results", ignore_errors=True)  # as DVC does with the outputs of a stage
    stages = [["plan"], *(["train", each] for each in strategies)]
    stages += [["search", search], ["tuned", search], ["evaluate"], ["promote"], ["report"]]
    printed = {}
    for stage in stages:
        done = run_stage_here(stage[0], project, *stage[1:])
        assert done.returncode == 0, done.stdout + done.stderr
        printed[" ".join(stage)] = done.stdout
    return printed


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def note(project: Path) -> str:
    record = json.loads((project / "results" / "promotion" / "promotion.json").read_text())
    assert record["passed"] is None
    return str(record["note"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(SINGLE, id="a single strategy"),
        pytest.param(WITHOUT_MULTITASK, id="no multitask network"),
        pytest.param(WITHOUT_CANDIDATE, id="no candidate"),
    ],
)
def test_without_a_candidate_there_is_a_report(project, profile, monkeypatch):
    printed = run_pipeline(project, LOSS, **profile)
    assert "no promotion: its candidate would be mt_estan of mt_estan_loss, which is not planned" in printed["plan"]
    assert f"tuned-{LOSS}" not in printed["plan"].splitlines()[0]
    assert "skipped" in printed[f"search {LOSS}"]
    assert "note:" not in printed["evaluate"]
    assert note(project).startswith("No promotion: no predictions of mt_estan that could be judged")
    report = (project / "results" / "report.html").read_text()
    assert NO_SEARCH in report
    assert note(project) in report
    assert all(f'<section id="{name}">' in report for name in profile["strategies"])
    assert not any(f'<section id="{name}">' in report for name in (f"tuned-{LOSS}", f"search-{LOSS}", "gate"))

    monkeypatch.chdir(project)
    planned = command("plan")
    assert "no promotion: its candidate would be mt_estan of mt_estan_loss" in planned
    assert f"tuned-{LOSS}" not in planned
    assert "no search mt_estan_loss: mt_estan is not among the networks" in planned
    assert "0 to train" in command("train")
    assert "no decision about bus-mt-estan-phantom yet" in command("history")
    assert note(project) in " ".join(command("summary").split())
    refused = CliRunner().invoke(app, ["gate"]).exception
    assert isinstance(refused, NothingToJudgeError)


@pytest.mark.slow
def test_a_candidate_without_a_rival_is_searched_and_reported_and_not_judged(project, monkeypatch):
    printed = run_pipeline(project, SMALL_LOSS, **WITHOUT_RIVAL)
    told = "no promotion until there is a champion: multitask and approaches plan no other network"
    assert told in printed["plan"]
    assert "trial 1 of 1" in printed[f"search {SMALL_LOSS}"]
    assert "nothing to compare small_approach with" in note(project)
    report = (project / "results" / "report.html").read_text()
    assert f'<section id="search-{SMALL_LOSS}">' in report
    assert f'<section id="tuned-{SMALL_LOSS}">' in report
    assert '<section id="gate">' not in report
    assert note(project) in report

    monkeypatch.chdir(project)
    assert told in command("plan")
    assert note(project) in " ".join(command("summary").split())
    refused = CliRunner().invoke(app, ["gate"]).exception
    assert isinstance(refused, NothingToJudgeError)
