"""What a process shows of its messages, where, and what it keeps to itself."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from io import StringIO

import pytest
from projects import ROOT

from bus_mlops import logs

LOG = logging.getLogger("bus_mlops.somewhere")


def speak() -> None:
    LOG.debug("a detail")
    LOG.info("%d of 3", 1)
    LOG.warning("a warning")


@pytest.mark.parametrize(
    ("level", "out"),
    [
        (logging.WARNING, ""),
        (logging.INFO, "1 of 3\n"),
        (logging.DEBUG, "DEBUG   bus_mlops.somewhere: a detail\nINFO    bus_mlops.somewhere: 1 of 3\n"),
    ],
)
def test_messages_and_warnings_have_streams_of_their_own(capsys, level, out):
    logs.show(level)
    speak()
    shown = capsys.readouterr()
    assert shown.out == out
    assert shown.err == ("WARNING bus_mlops.somewhere: a warning\n" if level == logging.DEBUG else "a warning\n")


def test_what_is_chosen_last_holds_and_nothing_is_said_twice(capsys):
    logs.show(logging.DEBUG)
    logs.show()
    assert logs.are_shown()
    speak()
    assert capsys.readouterr().out == "1 of 3\n"


def test_other_libraries_stay_at_warnings(capsys):
    logs.show(logging.DEBUG)
    logging.getLogger("somebody.else").info("chatter")
    assert capsys.readouterr() == ("", "")


def test_a_stream_that_takes_the_place_of_standard_output_is_used(monkeypatch):
    logs.show()
    elsewhere = StringIO()
    monkeypatch.setattr(sys, "stdout", elsewhere)
    LOG.info("here")
    assert elsewhere.getvalue() == "here\n"


def test_the_library_says_nothing_by_itself():
    code = (
        "import logging; from bus_mlops.logs import are_shown; "
        "logging.getLogger('bus_mlops.x').info('?'); print(are_shown())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_nothing_but_the_command_line_prints():
    """Apart from `error: ...`, the last words of a process, and code that another process runs or a reader copies."""
    calls = re.compile(r"(?m)^(?!\s*>>>).*(?<![\w.])print\(")
    package = ROOT / "bus_mlops"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.parent.name != "cli" and calls.search(path.read_text())
    }
    assert found == {
        "error_messages.py",
        "paragraphs.py",
        "packaging/clean_load.py",
        "consumer/client.py",
        "experiments/engines/machine.py",
        "probes/shipped.py",
    }
