"""bandit, without what ruff has been told of the same line: bandit's B608 is ruff's S608, and one remark is enough.

python tests/helpers/bandit_beside_ruff.py FOLDER...     from the root of the repository
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any


def findings(folders: list[str]) -> list[dict[str, Any]]:
    """All that bandit finds in the Python files of some folders."""
    command = [sys.executable, "-m", "bandit", "--quiet", "--recursive", "--format", "json", *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
        raise SystemExit(f"bandit did not run:\n{done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    if report["errors"]:
        raise SystemExit(f"bandit could not read {report['errors']}")
    return list(report["results"])


def excused(finding: dict[str, Any], lint: dict[str, Any]) -> bool:
    """Whether ruff has been told that this is meant: on the line, for the file, or for all."""
    rule = finding["test_id"].replace("B", "S", 1)
    name = finding["filename"].removeprefix("./")
    told = [*lint["ignore"]]
    told += [each for pattern, rules in lint["per-file-ignores"].items() if fnmatch(name, pattern) for each in rules]
    if rule in told:
        return True
    lines = Path(name).read_text(encoding="utf-8").splitlines()
    return any(re.search(rf"noqa:[^#]*\b{rule}\b", lines[number - 1]) for number in finding["line_range"])


def main() -> None:
    """Print what is left, and exit with 1 if anything is."""
    lint = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    left = [each for each in findings(sys.argv[1:]) if not excused(each, lint)]
    for each in left:
        print(f"{each['filename']}:{each['line_number']}: {each['test_id']} {each['issue_text']}")
    if left:
        raise SystemExit(f"bandit finds {len(left)}: mend them, or say why with `# noqa: S...` as for ruff.")


if __name__ == "__main__":
    main()
