"""Errors that a user can mend are one message and exit code 1; bugs keep their traceback."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from service import free_port

from bus_mlops.error_messages import explain, readable_errors
from bus_mlops.errors import DatasetError, store_reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DatasetError("no plan"), "no plan"),
        (OSError(errno.ENOSPC, "No space left on device", "results/x"), "disk is full while writing results/x"),
        (PermissionError(errno.EACCES, "denied", "data/raw"), "no permission for data/raw"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.png/x"), "a.png/x cannot be used: Not a directory"),
        (OSError(errno.EROFS, "Read-only file system", "/mnt/x"), "/mnt/x cannot be used: Read-only"),
        (ModuleNotFoundError("No module named 'dvc'", name="dvc"), "pip install 'bus-mlops[train]'"),
        (RuntimeError("(sqlite3.OperationalError) database is locked"), "locked by another process"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "disk is full"),
        (MlflowException("API request failed with error code 500"), "is its address right"),
    ],
)
def test_errors_a_user_can_mend(error, words):
    message = explain(error)
    assert message is not None
    assert words in message


def test_where_nobody_answers_the_reason_is_what_the_socket_says(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(MlflowException) as caught:
        client.search_experiments()
    assert re.fullmatch(r"\[Errno \d+\] Connection refused", store_reason(caught.value))


def test_a_reason_is_one_line_of_whole_words():
    assert store_reason(RuntimeError("")) == "RuntimeError"
    assert store_reason(RuntimeError("schema is old\nTraceback")) == "schema is old"
    long = store_reason(RuntimeError("word " * 100))
    assert len(long) <= 300
    assert long.endswith(" word ...")


def test_a_bug_keeps_its_traceback():
    assert explain(ValueError("a bug")) is None
    assert explain(ModuleNotFoundError("No module named 'bus_mlops.misspelt'", name="bus_mlops.misspelt")) is None
    with pytest.raises(ValueError, match="a bug"), readable_errors():
        raise ValueError("a bug")


def test_the_message_goes_to_stderr_and_the_exit_code_is_1(capsys):
    with pytest.raises(SystemExit) as left, readable_errors():
        raise DatasetError("no plan for strategy 'x'")
    assert left.value.code == 1
    assert capsys.readouterr().err == "error: no plan for strategy 'x'\n"


def test_debug_lets_everything_through(monkeypatch):
    with pytest.raises(DatasetError), readable_errors(debug=True):
        raise DatasetError("x")
    monkeypatch.setenv("BUS_MLOPS_DEBUG", "1")
    with pytest.raises(DatasetError), readable_errors():
        raise DatasetError("x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to stand for a full disk")
def test_a_full_disk_is_explained():
    code = (
        "from bus_mlops.entry import readable_errors\n"
        "with readable_errors():\n"
        "    handle = open('/dev/full', 'wb', buffering=0)\n"
        "    handle.write(b'x')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
