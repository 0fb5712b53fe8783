"""`-q` and `-v` on every command, before its name and after it."""

from __future__ import annotations

import logging

import pytest
import typer
from typer.testing import CliRunner

from bus_mlops.cli import verbosity
from bus_mlops.cli.app import app
from bus_mlops.cli.folds import folds_app
from bus_mlops.cli.sources import sources_app
from bus_mlops.errors import ConfigError

COMMANDS = [
    [*prefix, (each.name or each.callback.__name__.replace("_", "-"))]
    for prefix, group in (([], app), (["sources"], sources_app), (["folds"], folds_app))
    for each in group.registered_commands
    if each.callback is not None
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_both(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    for option in ("--quiet", "-q", "--verbose", "-v"):
        assert option in done.output


@pytest.fixture
def speaking() -> typer.Typer:
    """The options of `bus-mlops`, with a command that prints a result and logs."""

    def speak(number: int = 1) -> None:
        logger = logging.getLogger("bus_mlops.speaking")
        logger.debug("detail %d", number)
        logger.info("message")
        logger.warning("warning")
        print("result")

    made = typer.Typer()
    assert app.registered_callback is not None
    assert app.registered_callback.callback is not None
    made.callback()(app.registered_callback.callback)
    made.command()(verbosity.with_verbosity(speak))
    return made


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["speak"], "message\nresult\n"),
        (["-q", "speak"], "result\n"),
        (["speak", "--quiet"], "result\n"),
        (
            ["speak", "-v", "--number", "2"],
            "DEBUG   bus_mlops.speaking: detail 2\nINFO    bus_mlops.speaking: message\nresult\n",
        ),
        (["-q", "speak", "-v"], "DEBUG   bus_mlops.speaking: detail 1\nINFO    bus_mlops.speaking: message\nresult\n"),
    ],
    ids=" ".join,
)
def test_results_are_printed_whatever_is_shown(speaking, arguments, out):
    done = CliRunner().invoke(speaking, arguments, catch_exceptions=False)
    assert done.stdout == out
    assert "warning" in done.stderr


def test_both_at_once_are_refused(speaking):
    assert isinstance(CliRunner().invoke(speaking, ["speak", "-q", "-v"]).exception, ConfigError)


def test_quiet_profile_says_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Next: dvc repro" in CliRunner().invoke(app, ["profile", "demo"], catch_exceptions=False).output
    assert CliRunner().invoke(app, ["profile", "busi", "-q"], catch_exceptions=False).output == ""
    assert "profile: busi" in (tmp_path / "params.yaml").read_text()
