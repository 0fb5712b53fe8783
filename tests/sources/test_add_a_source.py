"""docs/how-to/add-a-source.md, executed: its modules and its one line are all that a sixth source needs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pages import blocks
from projects import ROOT, small_profile
from tiny_sources import mask, picture

PAGE = "add-a-source.md"
MODULE, PHANTOMS, REGISTRY, TEST, PARAMS = (
    "bus_mlops/sources/minerva.py",
    "bus_mlops/sources/phantoms/minerva.py",
    "bus_mlops/sources/registry.py",
    "tests/sources/test_minerva.py",
    "params.yaml",
)
LESIONS = {"P001": ("left-1", "left-2"), "P002": ("right-1",), "P007": ("left-1",), "P011": ("left-1", "right-9")}


def patched(text: str, diff: str) -> str:
    """The text after a diff of context and added lines, which must fit in exactly one place, or be in it already."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] == " ")
    after = "".join(line[1:] for line in lines)
    assert text.count(before) == 1, before
    return text if after in text else text.replace(before, after)


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=project, env=os.environ | {"PYTHONPATH": str(project)}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def command(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(project, "-c", "from bus_mlops.cli import main; main()", *arguments)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the page's blocks in their places, and a tiny source below data/raw."""
    folder, page = tmp_path_factory.mktemp("project"), blocks(PAGE)
    for room in ("bus_mlops", "pipelines"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    registry = folder / REGISTRY
    registry.write_text(patched(registry.read_text(), page[REGISTRY]))
    for module in (MODULE, PHANTOMS):
        (folder / module).write_text(page[module])
    (folder / TEST).parent.mkdir(parents=True)
    (folder / TEST).write_text(page[TEST])
    values = small_profile()
    for key, change in yaml.safe_load(page[PARAMS]).items():
        values[key] |= change
    (folder / PARAMS).write_text(yaml.safe_dump(values))
    write_minerva(folder / "data" / "raw" / "minerva")
    return folder


def write_minerva(folder: Path) -> None:
    shade = 0
    for patient, names in LESIONS.items():
        for name in names:
            picture(folder / patient / f"{name}.png", (40, 30), shade=(shade := shade + 17))
            mask(folder / patient / f"{name}.lesion.png", (40, 30))
    rows = [f"{patient},{'Malignant' if patient in ('P007', 'P011') else 'benign'}" for patient in LESIONS]
    (folder / "patients.csv").write_text("\n".join(["patient,diagnosis", *rows]) + "\n")


def test_the_page_is_about_short_modules_and_one_line():
    page = blocks(PAGE)
    assert set(page) == {MODULE, PHANTOMS, REGISTRY, TEST, PARAMS}
    assert len(page[MODULE].splitlines()) <= 80
    assert len(page[PHANTOMS].splitlines()) <= 30
    assert [line for line in page[REGISTRY].splitlines() if line[0] in "+-"] == ['+    "minerva",']


def test_the_module_keeps_the_projects_style(project):
    pytest.importorskip("ruff", reason="style is looked at on one set of versions")
    files = [str(project / each) for each in (MODULE, PHANTOMS, TEST)]
    for action in (("check",), ("format", "--check")):
        done = run(project, "-m", "ruff", *action, "--config", str(ROOT / "pyproject.toml"), *files)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_pages_own_test_passes(project):
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_read_sources_takes_it_from_params_yaml(project):
    code = (
        "import json; from bus_mlops.project import load_config; from bus_mlops.sources.registry import read_sources;"
        "print(json.dumps([[r.image_id, r.case_id, r.label] for r in read_sources(load_config().data)]))"
    )
    done = run(project, "-c", code)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert len(records) == 6
    assert records[0] == ["minerva/P001-left-1", "minerva/P001", 0]
    assert records[-1] == ["minerva/P011-right-9", "minerva/P011", 1]


def test_it_reaches_the_manifest(project):
    (project / "results" / "plan").mkdir(parents=True)
    (project / "results" / "plan" / "sizes.json").write_text('{"sizes": [32]}')
    done = run(project, "pipelines/assemble.py")
    assert done.returncode == 0, done.stderr
    code = (
        "from pathlib import Path; from bus_mlops.dataset.benchmark import Benchmark, validate_manifest;"
        "b = Benchmark.open(Path('data/benchmark')); f = validate_manifest(b.frame);"
        "print(b.sources, len(f), f['has_mask'].sum(), f['case_id'].nunique(), b.masks(32).max(), b.images(32).shape)"
    )
    done = run(project, "-c", code)
    assert done.stdout.strip() == "('minerva',) 6 6 4 1 (6, 32, 32)", done.stderr


def test_the_report_calls_it_by_its_title(project):
    code = (
        "import json; from pathlib import Path; from bus_mlops.evaluation.report.rows import flow_rows;"
        "print(flow_rows(json.loads(Path('data/benchmark/benchmark.json').read_text())['flow'])[1][0][:3])"
    )
    done = run(project, "-c", code)
    assert done.stdout.strip() == "['Minerva', '6', '6']", done.stderr


def test_fetch_says_why_it_cannot_be_downloaded(project):
    done = command(project, "sources", "fetch", "minerva", "--metadata", "data/raw/minerva/patients.csv")
    assert done.returncode == 1
    assert "minerva cannot be downloaded: no table of its owner says where its images are" in done.stderr


def test_its_phantoms_are_drawn_and_assembled(project, tmp_path):
    other = tmp_path / "drawn"
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("__pycache__", "data"))
    values = yaml.safe_load((other / PARAMS).read_text())
    values["data"] |= {"kind": "phantom", "root": "data/phantom"}
    values["phantom"] |= {"images": {"minerva": 7}, "near_duplicates": 0, "size": 60}
    (other / PARAMS).write_text(yaml.safe_dump(values))
    (other / "results" / "plan").mkdir(parents=True, exist_ok=True)
    (other / "results" / "plan" / "sizes.json").write_text('{"sizes": [32]}')
    for stage in ("phantom", "assemble"):
        done = run(other, f"pipelines/{stage}.py")
        assert done.returncode == 0, done.stderr
    assert "minerva: 7 listed, 7 kept (4 benign, 3 malignant) in 7 cases, 7 with mask" in done.stdout


def test_verify_knows_it_and_names_what_is_wrong(project, tmp_path):
    done = command(project, "sources", "verify", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["sources"]["minerva"]["status"] == "not compared"
    assert report["sources"]["minerva"]["found"]["with_mask"] == 6
    shutil.copytree(project / "data" / "raw", tmp_path / "raw")
    (tmp_path / "raw" / "minerva" / "P007" / "left-1.lesion.png").unlink()
    done = command(project, "sources", "verify", "--root", str(tmp_path / "raw"))
    assert done.returncode == 1
    assert "without a mask beside it: P007/left-1.png. Restore what is missing." in done.stdout


def test_without_the_line_the_name_is_refused(project, tmp_path):
    other = tmp_path / "unregistered"
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("__pycache__", "data", "results"))
    registry = (other / REGISTRY).read_text()
    (other / REGISTRY).write_text(registry.replace('    "minerva",\n', ""))
    done = command(other, "plan")
    assert done.returncode == 1
    assert "data.sources.0 = 'minerva': must be one of hmss, busi, busis, thammasat, dataset_b, busbra" in done.stderr
