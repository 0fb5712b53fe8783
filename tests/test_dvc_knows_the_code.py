"""dvc.yaml and the code: every stage depends on what it imports, so an edit runs what it may change, and no more."""

from __future__ import annotations

import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from import_graph import file_of, is_empty, reached_from
from projects import ROOT, copy_code, dvc_environment

from bus_mlops import profiles

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DEMO = yaml.safe_load(profiles.text("demo"))
TRAIN, SEARCH, TUNED = (
    {f"{stage}@{name}" for name in DEMO[of]}
    for stage, of in (("train", "strategies"), ("search", "searches"), ("tuned", "searches"))
)
AFTER_TRAINING = {"probe", "evaluate", "promote", "external", "report"}
BEFORE_TRAINING = {"plan", "phantom", "assemble", "audit", "folds", "leakage"}

# The ground that every stage stands on: how a process begins, reads params.yaml, fails and names things. A stage
# does not depend on it, as a change there changes no output, and would run everything.
GROUND_THAT_COUNTS = {"bus_mlops.files", "bus_mlops.spec"}


def dependencies(stage: str) -> list[Path]:
    definition = STAGES[stage]
    return [Path(name) for name in definition.get("do", definition)["deps"]]


def is_ground(module: str) -> bool:
    """A file directly in bus_mlops/."""
    return file_of(module).parent.name == "bus_mlops" and module not in GROUND_THAT_COUNTS


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_it_can_reach(stage):
    reached = reached_from(ROOT / "pipelines" / f"{stage}.py")
    needed = {file_of(module) for module in reached if not is_ground(module) and not is_empty(module)}
    covered = dependencies(stage)
    missing = [path for path in needed if not any(path == on or on in path.parents for on in covered)]
    assert not missing, f"dvc.yaml: add to the deps of {stage}: {', '.join(map(str, sorted(missing)))}"
    unused = [
        on
        for on in covered
        if on.parts[0] == "bus_mlops" and not any(path == on or on in path.parents for path in needed)
    ]
    assert not unused, f"dvc.yaml: {stage} reaches nothing of {', '.join(map(str, unused))}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_can_meet_a_users_own_code_depends_on_it(stage):
    if "bus_mlops.registries" in reached_from(ROOT / "pipelines" / f"{stage}.py"):
        assert Path("extensions") in dependencies(stage)


@pytest.mark.parametrize("profile", profiles.NAMES)
def test_every_parameter_that_a_stage_depends_on_is_in_every_profile(profile):
    values = yaml.safe_load(profiles.text(profile))
    for stage, definition in STAGES.items():
        for key in definition.get("do", definition).get("params", ()):
            found = values
            # What is named by the item of a loop is there, since the loop is over the section itself.
            for part in key.split(".${")[0].split("."):
                assert part in found, f"DVC refuses stage {stage}: profile {profile} lacks {key}"
                found = found[part]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which every stage is up to date; what the stages made is a word each."""
    folder = tmp_path_factory.mktemp("dvc") / "project"
    copy_code(folder)
    (folder / "params.yaml").write_text(profiles.text("demo"))
    for name, definition in STAGES.items():
        for item in DEMO[definition["foreach"][2:-1]] if "foreach" in definition else [name]:
            outputs = definition.get("do", definition)
            for out in (*outputs.get("outs", ()), *outputs.get("metrics", ())):
                path = out if isinstance(out, str) else next(iter(out))
                write_output(folder, path.replace("${item}", item).replace("${key}", item))
    for name in ("manifest.csv", "benchmark.json"):
        (folder / "data/benchmark" / name).write_text("made")
    for name in DEMO["searches"]:
        (folder / "results/search" / name / "best.json").write_text("made")
    make_plan(folder)
    Repo.init(str(folder), no_scm=True)
    with chdir(folder), Repo() as repo:
        repo.commit(force=True)
    assert changed(folder) == set()
    return folder


def make_plan(folder: Path) -> None:
    """What the stage does, with the project's own copy of the package."""
    command = [sys.executable, "pipelines/plan.py"]
    subprocess.run(command, cwd=folder, env=dvc_environment(folder), check=True, capture_output=True, timeout=120)


def write_output(folder: Path, name: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_text("made")
    else:
        path.mkdir(exist_ok=True)
        (path / "made").write_text("made")


def changed(folder: Path) -> set[str]:
    """The stages that `dvc repro` would run first, beside that which it always runs; what follows it sees then."""
    with chdir(folder), Repo() as repo:
        return set(repo.status()) - {"ledger"}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("evaluation/tables.py", {"evaluate", "report"}),
        ("evaluation/report/page.py", {"evaluate", "report"}),
        ("gate/gate.py", {"leakage", "promote"}),  # it says what the rules can see; what it writes stays the same
        ("training/losses.py", {*TRAIN, "premium", *SEARCH, *TUNED, "promote"}),
        ("spec.py", {"plan", "leakage", *TRAIN, "premium", *SEARCH, *TUNED, *AFTER_TRAINING}),
        # Its title is in the report, and its licence in a package's bill of materials.
        ("sources/busi.py", {"phantom", "assemble", "report", "promote"}),
        (
            "images/geometry.py",
            {*BEFORE_TRAINING, *TRAIN, "premium", *SEARCH, *TUNED, *AFTER_TRAINING},
        ),
        ("probes/corruptions.py", {"probe"}),
        ("cli/app.py", set()),
        ("serving/app.py", set()),
    ],
)
def test_an_edit_runs_the_stages_that_it_may_change(project, file, stages):
    path = project / "bus_mlops" / file
    original = path.read_text()
    path.write_text(original + "\n# edited\n")
    try:
        assert changed(project) == stages
    finally:
        path.write_text(original)


def test_what_python_leaves_behind_runs_nothing(project):
    caches = project / "bus_mlops" / "evaluation" / "__pycache__"
    caches.mkdir(exist_ok=True)
    (caches / "tables.cpython-311.pyc").write_bytes(b"made")
    assert changed(project) == set()


@pytest.mark.parametrize(
    ("file", "constant", "stages"),
    [
        ("spec.py", "NUMERICS_VERSION", {*TRAIN, *SEARCH, *TUNED}),
        ("images/geometry.py", "GEOMETRY_VERSION", {"assemble"}),
    ],
)
def test_a_raised_version_changes_the_plan_that_its_stages_depend_on(project, file, constant, stages):
    """The code is put back before DVC looks, so that only the plan files tell."""
    path = project / "bus_mlops" / file
    original = path.read_text()
    assert f"{constant} = " in original
    path.write_text(original.replace(f"{constant} = ", f"{constant} = 7 + "))
    try:
        make_plan(project)
    finally:
        path.write_text(original)
    assert stages <= changed(project) <= {"plan", *stages, "premium", *AFTER_TRAINING}
    make_plan(project)
    assert changed(project) == set()


def test_dvc_repro_notices_that_the_ledger_has_lost_what_results_rest_on(project):
    about = project / "results/predictions/approaches_runs.json"
    before = about.read_text()
    about.write_text('{"files": {}, "runs": {"deadbeef": {"files": {"predictions.csv": "0"}}}}')
    command = [sys.executable, "-m", "dvc", "repro"]
    try:
        done = subprocess.run(
            command, cwd=project, env=dvc_environment(project), capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        about.write_text(before)
    assert done.returncode != 0
    assert "approaches*: 1 runs, deadbeef is in no database" in done.stderr
    assert "`bus-mlops repair`" in done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("Running")] == ["Running stage 'ledger':"]
