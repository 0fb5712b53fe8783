"""Each test that docs/explanation/security.md names is there."""

from __future__ import annotations

import ast
import re

from projects import ROOT

PAGE = ROOT / "docs" / "explanation" / "security.md"


def test_the_threat_model_names_tests_that_exist():
    text = PAGE.read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)+)`", text)
    assert len(named) == text.count("`tests/") > 40
    assert [f"{file}{names}" for file, names in named if not exists(file, names.split("::")[1:])] == []


def test_every_threat_has_a_test():
    table = PAGE.read_text("utf-8").partition("## What could be sent")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row for row in rows if "`tests/" not in row.rpartition(" | ")[2]] == []


def exists(file: str, names: list[str]) -> bool:
    body = ast.parse((ROOT / file).read_text("utf-8")).body if (ROOT / file).is_file() else []
    for name in names:
        found = [each for each in body if isinstance(each, ast.ClassDef | ast.FunctionDef) and each.name == name]
        if not found:
            return False
        body = found[0].body
    return True
