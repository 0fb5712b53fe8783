"""The commands of docs/how-to/sign-and-trust-models.md, as they stand there, in a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from documented import blocks
from projects import ROOT


def test_its_commands_make_sign_check_trust_and_revoke(package_folder, scans, tmp_path):
    shutil.copytree(package_folder, tmp_path / "package")
    shutil.copy(scans[0], tmp_path / "scan.png")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, module in (("bus-mlops", "bus_mlops.cli"), ("model_signing", "model_signing")):
        start = '-c "from bus_mlops.cli import main; main()"' if name == "bus-mlops" else f"-m {module}"
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {start} "$@"\n')
        (programs / name).chmod(0o755)
    code = [block.code for block in blocks("how-to/sign-and-trust-models.md") if block.language == "bash"]
    trusting = "mkdir trusted && cp keys/maker.pub trusted/"
    script = "\n".join(
        ["set -e", *code[:-2], trusting, code[-2], code[-1], "! bus-mlops predict --model package scan.png"]
    )
    script = script.replace("bus-mlops keys list\n", "bus-mlops keys list | grep maker.pub\n", 1)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Signed by sha256:" in done.stdout
    assert "is revoked by" in done.stderr
