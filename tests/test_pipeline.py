"""The whole way as a user walks it: `dvc repro` from phantoms to a registered model, then a consumer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from documented import DOCS, blocks, described_files, description_of, names_in, project_files
from projects import ROOT, copy_code, dvc_environment, small_profile, tiny_values
from small_network import add_small_networks, in_place_of_the_zoo

from bus_mlops.config import TrackingConfig
from bus_mlops.tracking.ledger import Ledger

WEIGHTS = ("strategy_settings", "losses", "positive_weights")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project folder, as after `git clone`, with the smallest parameters that are still real.

    Networks of a few layers stand for the zoo's; slow tests search, refit, package and promote MT-ESTAN itself.
    """
    folder = tmp_path_factory.mktemp("journey") / "project"
    folder.mkdir()
    copy_code(folder)
    for name in (".gitignore", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    values = tiny_values(small_profile())
    add_small_networks(folder)
    in_place_of_the_zoo(values)
    values["package"]["members"] = "one"  # each is exported to ONNX
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    git(folder, "init", "--quiet")
    done = dvc(folder, "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    git(folder, "add", ".")
    git(folder, "-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message=Reproduce")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=folder, env=dvc_environment(folder), capture_output=True, text=True, timeout=840, check=False
    )


def bus_mlops(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from bus_mlops.cli import main; main()", *arguments]
    return subprocess.run(
        command, cwd=folder, env=dvc_environment(folder), capture_output=True, text=True, timeout=240, check=False
    )


@contextmanager
def changed(folder: Path, value: object, *names: str) -> Iterator[None]:
    """One parameter set to another value, as long as the block lasts."""
    path = folder / "params.yaml"
    original = path.read_text()
    values = section = yaml.safe_load(original)
    for name in names[:-1]:
        section = section[name]
    section[names[-1]] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    try:
        yield
    finally:
        path.write_text(original)


def ledger(folder: Path) -> Ledger:
    return Ledger(TrackingConfig(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts=str(folder / "mlartifacts")))


def trained(folder: Path) -> int:
    return len(ledger(folder).runs("tags.kind = 'fold'"))


def versions(folder: Path) -> int:
    return len(ledger(folder).client.search_model_versions())


def stages_run(output: str) -> list[str]:
    """The stages that ran, but for the one that always runs."""
    ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
    return [stage for stage in ran if stage != "ledger"]


def test_everything_is_there(project):
    metrics = json.loads((project / "results/metrics.json").read_text())
    assert set(metrics) == {"losses", "multitask", "approaches", "tuned-loss"}
    report = (project / "results/report.html").read_text()
    assert "PHANTOMS" in report
    linked = report.replace("http://www.w3.org", "").replace('href="http://127.0.0.1:5000/#/', "")  # MLflow's runs
    assert "http://" not in linked
    assert all(f'<section id="{name}">' in report for name in ("failures", "robustness", "cost"))
    cost = pd.read_csv(project / "results/tables/cost.csv").set_index("metric")["estimate"]
    assert cost["latency_ms"] > 0
    assert 20 < cost["peak_memory_mb"] < 400  # TensorFlow alone takes more
    gate = json.loads((project / "results/promotion/gate.json").read_text())
    assert {rule["id"] for rule in gate["rules"]} >= {"G0", "G1", "G2", "G3"}
    record = json.loads((project / "results/promotion/promotion.json").read_text())
    assert record["model"] == "bus-small-approach-phantom"
    assert (record["alias"] == "champion") == record["passed"]
    best = json.loads((project / "results/search/loss/best.json").read_text())
    assert {choice["fold"]: len(best["trials"]) for choice in best["choices"]} == {1: 4, 2: 4}


def test_the_second_time_nothing_runs(project):
    done = dvc(project, "repro")
    assert (done.returncode, stages_run(done.stdout)) == (0, [])


def test_an_experiment_in_a_copy_runs_only_what_its_parameter_touches_and_registers_nothing(project):
    before = trained(project), versions(project)
    parameter = "promotion.sensitivity_margin=0.5"
    done = dvc(project, "exp", "run", "--temp", "--name", "wider", "--set-param", parameter, "headline")
    assert done.returncode == 0, done.stderr
    ran = stages_run(done.stdout)
    assert {"promote", "headline"} <= set(ran)
    assert not {"phantom", "assemble", "audit", "folds", "evaluate"} & set(ran)
    assert (trained(project), versions(project)) == before
    differing = json.loads(dvc(project, "params", "diff", "--json", "HEAD", "wider").stdout)["params.yaml"]
    assert {name: each["new"] for name, each in differing.items()} == {"promotion.sensitivity_margin": 0.5}
    commit = git(
        project, "rev-parse", *git(project, "for-each-ref", "--format=%(refname)", "refs/exps/**/wider").split()
    )
    record = json.loads(git(project, "show", f"{commit.strip()}:results/promotion/promotion.json"))
    assert (record["decision"], record["alias"]) == ("judged", None)
    assert "`dvc exp apply wider`" in record["note"]
    shown = dvc(project, "exp", "show", "--csv")
    assert "!" not in shown.stdout  # DVC's mark for what it cannot read
    (row,) = (line for line in shown.stdout.splitlines() if line.startswith("wider,"))
    assert ",0.5," in row


def test_a_queued_experiment_trains_its_new_cells_only_and_records_them_in_the_project(project):
    """Of three rows on two folds those of the weight 5 are new."""
    before = trained(project)
    parameter = f"{'.'.join(WEIGHTS)}=[3,5]"
    queued = dvc(project, "exp", "run", "--queue", "--name", "heavier", "--set-param", parameter, "train@losses")
    assert queued.returncode == 0, queued.stderr
    done = dvc(project, "exp", "run", "--run-all")
    assert done.returncode == 0, done.stderr
    assert set(stages_run(done.stdout)) == {"leakage", "plan", "train@losses"}
    assert trained(project) == before + 2


def test_your_first_hour(project):
    """Every block of docs/tutorial/your-first-hour.md, in its order; the candidate here is another one."""
    before = trained(project)
    record = json.loads((project / "results/promotion/promotion.json").read_text())
    ours = f"models:/{record['model']}/{record['version']}"
    (project / ".venv").symlink_to(sys.prefix)
    shutil.copy(ROOT / "Makefile", project)
    shell = ["set -euo pipefail", 'make() { command make --old-file=.venv/.installed "$@"; }']
    parameters = project / "params.yaml"
    original, said = parameters.read_text(), dict[str, str]()
    for block in blocks("tutorial/your-first-hour.md"):
        if block.title:
            values = _merged(yaml.safe_load(original), yaml.safe_load(block.code))
            (project / block.title).write_text(yaml.safe_dump(values, sort_keys=False))
            continue
        code = block.code.replace("models:/bus-mt-estan-phantom/1", ours)
        lines = [*shell, code if block.language == "bash" else f"python - <<'PYTHON'\n{code}\nPYTHON"]
        environment = dvc_environment(project, COLUMNS="120")
        done = subprocess.run(
            ["bash", "-c", "\n".join(lines)], cwd=project, env=environment, capture_output=True, text=True, timeout=840
        )
        assert done.returncode == 0, code + done.stdout[-3000:] + done.stderr[-3000:]
        said[code] = done.stdout
        if "activate" in code:
            shell.append("source .venv/bin/activate")
    reproduced, summary, table, history, predicted, from_python, changed_to, sensitivities = said.values()
    assert "report.html" in reproduced
    assert "bus-mlops predict" in summary
    assert "Approach" in table
    assert record["model"] in history
    assert len(list((project / "masks").glob("*.png"))) == 1
    assert from_python.split()[0] in predicted
    # Of three rows on two folds those of the new weight are new; `bus-mlops plan` knows it before.
    line = next(line for line in changed_to.splitlines() if line.split()[:1] == ["losses"])
    assert line.split()[1:5] == ["3", "3", "6", "4"]
    assert re.search(r"about \d+ s", line)
    assert set(stages_run(changed_to)) == {"leakage", "plan", "train@losses"}
    assert trained(project) == before + 2
    assert "WBCE(w_z=8)" in sensitivities
    parameters.write_text(original)
    assert dvc(project, "repro", "train@losses").returncode == 0


def _merged(values: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    return {**values, **{key: _merged(values.get(key), value) for key, value in changes.items()}}


def test_every_file_and_column_is_described(project):
    """In docs/reference/files.md."""
    files = described_files()
    found = {path: description_of(path, files) for path in project_files(project)}
    assert [path for path, description in found.items() if description is None] == []
    differences = {
        path: description.differences(names_in(project / path))
        for path, description in found.items()
        if description is not None and description.names
    }
    assert {path: names for path, names in differences.items() if names} == {}


def test_the_notebook_draws_its_figures(project, monkeypatch):
    """In this process, without Jupyter: its cells are plain Python."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(project / "results")  # it finds the project above
    cells = json.loads((DOCS / "tutorial" / "from-a-run-to-figures.ipynb").read_text("utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    try:
        exec(compile(code, "from-a-run-to-figures.ipynb", "exec"), {})
        drawn = [plt.figure(number).axes[0] for number in plt.get_fignums()]
        assert len(drawn) == 5
        assert all(axes.lines or axes.images for axes in drawn)
    finally:
        plt.close("all")


def test_edited_code_runs_its_stages_and_trains_nothing(project):
    before = trained(project)
    path = project / "bus_mlops/training/losses.py"
    original = path.read_text()
    path.write_text(original + "\n# edited\n")
    try:
        done = dvc(project, "repro", "train@losses")
        assert done.returncode == 0, done.stderr
        # Stage leakage says beforehand what the gate can see, through the gate's own code.
        assert [stage for stage in stages_run(done.stdout) if stage != "leakage"] == ["train@losses"]
        assert trained(project) == before
    finally:
        path.write_text(original)
    assert dvc(project, "repro", "train@losses").returncode == 0


def test_two_at_once_train_no_cell_twice_and_lose_none(project):
    """DVC lets one of them at a stage; the other says who is at it, and finds everything done the next time."""
    before = trained(project)
    command = [sys.executable, "-m", "dvc", "repro", "train@losses"]
    with changed(project, [3, 4], *WEIGHTS):
        both = [
            subprocess.Popen(
                command,
                cwd=project,
                env=dvc_environment(project),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(2)
        ]
        outputs = [process.communicate(timeout=600)[0] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes[0] == 0, outputs
        if codes[1]:
            refused = next(o for o, p in zip(outputs, both, strict=True) if p.returncode)
            assert "is busy" in refused or "lock" in refused, refused
            assert "Traceback" not in refused
        assert trained(project) == before + 2
        assert stages_run(dvc(project, "repro", "train@losses").stdout) == []
    assert dvc(project, "repro", "train@losses").returncode == 0


def test_a_deleted_output_comes_back_without_training(project):
    """After the tests whose last step DVC's cache of former runs shortens: here it is lost."""
    before = trained(project)
    path = project / "results/predictions/losses.parquet"
    content = path.read_bytes()
    path.unlink()
    shutil.rmtree(project / "results/tables")
    shutil.rmtree(project / ".dvc/cache")  # not even DVC's cache is needed: the ledger has it all
    done = dvc(project, "repro", "evaluate")
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == content
    assert (project / "results/tables/losses.csv").is_file()
    assert trained(project) == before


def test_metrics_and_plots_are_for_dvc(project):
    shown = dvc(project, "metrics", "show")
    assert (shown.returncode, shown.stderr) == (0, "")
    names, _ = (line.split() for line in shown.stdout.splitlines())
    assert set(names) == {"Path", "best", "new", "vs", "p", "se", "sp", "gate", "show"}
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for file in ("data/audit/audit.json", "data/leakage.json"):
        assert "groups" in dvc(project, "metrics", "show", file).stdout
    plots = dvc(project, "plots", "show")
    assert plots.returncode == 0, plots.stderr
    page = (project / "dvc_plots" / "index.html").read_text()
    assert page.count("vegaEmbed('#") == len(yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"])
    assert "src=" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # nothing is loaded from elsewhere


def test_without_a_champion_the_candidates_are_named(project):
    record = json.loads((project / "results/promotion/promotion.json").read_text())
    image = next((project / "data/phantom/busi/benign").glob("*).png"))
    done = bus_mlops(project, "predict", "--model", f"models:/{record['model']}@champion", str(image))
    if record["passed"]:
        assert done.returncode == 0
    else:
        assert done.returncode == 1
        assert f"models:/{record['model']}/{record['version']}" in done.stderr


def test_a_corrupt_image_stops_the_pipeline_by_name(project):
    image = min((project / "data/phantom/busi/benign").glob("*).png"))
    original = image.read_bytes()
    image.unlink()  # DVC may have linked it to its cache
    image.write_bytes(original[:100])
    try:
        done = dvc(project, "repro", "--single-item", "assemble")
        assert done.returncode != 0
        assert image.name in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        image.unlink()
        image.write_bytes(original)
