"""The command line as a user meets it: quick help, profiles, plans, errors of one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bus_mlops import __version__, profiles


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from bus_mlops.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from bus_mlops.cli.app import app; "
        "heavy = {'tensorflow', 'keras', 'mlflow', 'pandas', 'sklearn', 'optuna', 'numpy', 'onnxruntime'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_needs_no_command(tmp_path):
    assert run("--version", folder=tmp_path).stdout == f"bus-mlops {__version__}\n"


def test_profile_writes_and_lists(tmp_path):
    assert run("profile", "busi", folder=tmp_path).returncode == 0
    assert (tmp_path / "params.yaml").read_text() == profiles.text("busi")
    listed = run("profile", "--list", folder=tmp_path).stdout
    assert all(name in listed for name in profiles.NAMES)


def test_profile_may_be_switched_after_its_folders_were_filled_in(tmp_path):
    assert run("profile", "busi", "--data-root", "elsewhere", folder=tmp_path).returncode == 0
    assert run("profile", "demo", folder=tmp_path).returncode == 0


def test_profile_does_not_overwrite_a_users_changes(tmp_path):
    mine = profiles.text("demo").replace("seed: 2021", "seed: 2022")
    (tmp_path / "params.yaml").write_text(mine)
    done = run("profile", "paper", folder=tmp_path)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert (tmp_path / "params.yaml").read_text() == mine
    assert run("profile", "paper", "--force", folder=tmp_path).returncode == 0


@pytest.mark.parametrize("name", profiles.NAMES)
def test_every_profile_plans(tmp_path, name):
    run("profile", name, folder=tmp_path)
    done = run("plan", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "each spec once" in done.stdout


def test_errors_are_one_line_without_traceback(tmp_path):
    done = run("plan", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml not found")
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = run("--debug", "plan", folder=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
