"""`--help` and completion: every command has its place, a short line and an example that its parser takes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from bus_mlops.cli import layout, verbosity
from bus_mlops.cli.app import app
from bus_mlops.paragraphs import say


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for each in group.commands.values():
        name = f"{before} {each.name}".strip()
        yield from commands(each, name) if hasattr(each, "commands") else [(name, each)]


PROGRAM: Any = typer.main.get_command(app)
COMMANDS = dict(commands(PROGRAM))
DOCUMENTED = (Path(__file__).parents[2] / "docs/reference/json.md").read_text()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")


def test_every_command_has_an_example_and_no_other_has():
    assert layout.EXAMPLES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_its_example_is_shown_and_can_be_parsed(name, narrow):
    command, example = COMMANDS[name], layout.EXAMPLES[name]
    text = CliRunner().invoke(app, [*name.split(), "--help"]).output
    assert "Example:" in text
    assert "<bool>" not in text
    program, *arguments = shlex.split(example.removeprefix('eval "$(').removesuffix(')"'))
    assert [program, *arguments[: len(name.split())]] == ["bus-mlops", *name.split()]
    command.make_context(name, arguments[len(name.split()) :])


def test_the_list_of_commands_has_a_line_for_each_at_80_columns(narrow):
    done = CliRunner().invoke(app, ["--help"])
    described = [line for line in done.output.splitlines() if line.startswith("│")]
    # `ui` warns in its first sentence that there is no password.
    names = [line[1:].split()[0] for line in described if line[2:3].strip()]
    assert {each.split()[0] for each in COMMANDS} <= set(names)
    folded = [line for line in described if not line[2:3].strip()]
    assert len(folded) <= 4, folded
    assert layout.EXIT_CODES.split(":")[0] in done.output


def test_paragraphs_keep_no_line_breaks_of_the_source():
    for name, command in COMMANDS.items():
        assert "\n" not in command.help.replace("\n\n", ""), name


def test_a_stopped_command_says_so_and_exits_with_130(capsys):
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        verbosity.with_verbosity(stopped)(quiet=False, verbose=False)
    assert left.value.code == 130
    assert capsys.readouterr().err.startswith("error: stopped.")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_word_of_a_help_is_taken_for_a_style(name):
    command = COMMANDS[name]
    for text in (command.help, *(getattr(each, "help", None) for each in command.params)):
        assert Text.from_markup(text or "").plain == (text or "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell):
    done = CliRunner().invoke(app, ["completion", shell], catch_exceptions=False)
    assert f"_BUS_MLOPS_COMPLETE=complete_{shell}" in done.output


# What each types for a line, and how it prints what may come next.
SHELLS = {
    "bash": (
        ["bash", "--norc", "-c"],
        'eval "$(bus-mlops completion bash)"\nfound=$(complete -p bus-mlops) found=${found#*-F } found=${found%% *}\n',
        'COMP_WORDS=(%s) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); $found bus-mlops; echo "${COMPREPLY[*]}"\n',
    ),
    "zsh": (
        ["zsh", "-f", "-c"],
        'compdef() {}; _arguments() { print -r -- "$@" }; eval "$(bus-mlops completion zsh)"\n',
        "words=(%s) CURRENT=${#words}; _bus_mlops_completion\n",
    ),
    "fish": (["fish", "--no-config", "-c"], "bus-mlops completion fish | source\n", 'complete -C "%s"\n'),
}


@pytest.mark.parametrize(
    "shell", [pytest.param(s, marks=pytest.mark.skipif(not shutil.which(s), reason=f"needs {s}")) for s in SHELLS]
)
def test_a_real_shell_completes_commands_options_and_names_of_the_project(tmp_path, shell):
    program = tmp_path / "bin/bus-mlops"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c 'from bus_mlops.cli import main; main()' \"$@\"\n")
    program.chmod(0o755)
    (tmp_path / "params.yaml").write_text("strategies: [losses, optimizers]\nsearches: {focal: {}}\n")
    typed = {"bus-mlops fo": "folds", "bus-mlops train lo": "losses", "bus-mlops search status ": "focal"}
    command, script, asks = SHELLS[shell]
    for line in typed:
        words = [*line.split(), *([""] if line.endswith(" ") else [])]
        script += asks % (line if shell == "fish" else shlex.join(words))
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(Path(layout.__file__).parents[2])}
    done = subprocess.run(
        [*command, script],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert [word in line for word, line in zip(typed.values(), lines, strict=True)] == [True] * 3, lines
    assert "benchmark's" in lines[0] or shell == "bash"  # which shows no help


@pytest.mark.parametrize(("command", "size"), [("models", 10), ("plan", 6)])
def test_what_programs_get_is_json_alone_and_documented(tmp_path, monkeypatch, command, size):
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["profile", "demo"], catch_exceptions=False)
    found = json.loads(CliRunner().invoke(app, [command, "--json"], catch_exceptions=False).stdout)
    assert len(found) >= size
    entry = found[0] if command == "models" else {**found, **found["strategies"][0]}
    assert {key for key in entry if f"`{key}`" not in DOCUMENTED} == set()
    if command == "plan":
        assert found["total"]["cells"] > max(each["cells"] for each in found["strategies"])
        assert (found["known"], found["total"]["done"], found["total"]["seconds_left"]) == (False, None, None)


@pytest.mark.parametrize(
    ("person", "shown"),
    [(True, "  G1 floors: passed (limit:\n    0.5).\n"), (False, "  G1 floors: passed (limit: 0.5).\n")],
)
def test_sentences_are_wrapped_for_people_alone(monkeypatch, capsys, person, shown):
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: person)
    say("  G1 floors: passed (limit: 0.5).")
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("option", [["--candidate", "abc"], ["--dry-run"], ["--full"], ["--amend", "why"]])
def test_what_power_does_not_look_at_is_refused(option):
    done = CliRunner().invoke(app, ["gate", "--power", *option])
    assert done.exit_code == 2
    assert "for judging" in done.output
