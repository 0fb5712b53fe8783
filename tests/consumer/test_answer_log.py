"""The log of answers: every answer once, whole, in one chain, whoever writes it and whatever stops him."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from projects import ROOT

from bus_mlops.consumer.answer_log import BEGINNING, AnswerLog, digest, rotated
from bus_mlops.consumer.client import Prediction, load_model
from bus_mlops.errors import AnswerLogError

MODEL = "0" * 64
ROW = Prediction("name of a patient.png", 0.7, 0.1, (0.65, 0.75), "malignant", 0.5, "m", "1", input="1" * 64)
WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from bus_mlops.consumer.answer_log import AnswerLog
from bus_mlops.consumer.client import Prediction
log = AnswerLog(sys.argv[1], max_bytes=4000)
rows = [Prediction("", i / 100, 0, (), "benign", 0.5, "m", "1", input=sys.argv[2]) for i in range(40)]
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda row: log.add("0" * 64, row), rows))
"""


def lines_of(path: Path) -> list[bytes]:
    return [line for file in (*rotated(path), path) for line in file.read_bytes().splitlines(keepends=True)]


def require_chain(lines: list[bytes]) -> None:
    before = BEGINNING
    for line in lines:
        assert json.loads(line)["before"] == before
        before = digest(line)


def test_a_line_says_what_was_answered_and_no_name(tmp_path, package_folder, scans):
    model = load_model(package_folder, log=tmp_path / "answers.jsonl")
    rows = model.predict([*scans, tmp_path / "absent of patient.png"])
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["probability"] for line in lines] == [row.probability for row in rows]
    assert [line["status"] for line in lines] == ["answered"] * 3 + ["refused"]
    assert [line["input"] for line in lines[:3]] == [hashlib.sha256(scan.read_bytes()).hexdigest() for scan in scans]
    assert lines[3]["input"] is None
    assert lines[3]["error_type"] == "ImageError"
    assert {line["model"] for line in lines} == {model.digest}
    assert all(line["seconds"] > 0 and line["time"].endswith("Z") for line in lines)
    said = (tmp_path / "answers.jsonl").read_text()
    assert not any(name in said for name in ("patient", "gray.png", str(tmp_path), model.name))
    require_chain(lines_of(tmp_path / "answers.jsonl"))


def test_the_check_at_the_start_is_no_answer(tmp_path, package_folder):
    model = load_model(package_folder, log=tmp_path / "log")
    model.check_example()
    assert (tmp_path / "log").read_bytes() == b""


def test_many_writers_lose_no_line_while_the_file_is_rotated(tmp_path):
    path = tmp_path / "log"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, str(n)], env={**os.environ, "PYTHONPATH": str(ROOT)}) for n in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    lines = lines_of(path)
    told = {(line["input"], line["probability"]) for line in map(json.loads, lines)}
    assert told == {(str(n), i / 100) for n in range(3) for i in range(40)}
    assert len(lines) == 120
    assert len(rotated(path)) > 5
    require_chain(lines)


def test_only_its_owner_reads_it(tmp_path):
    log = AnswerLog(tmp_path / "log", max_bytes=1)
    log.add(MODEL, ROW)
    log.add(MODEL, ROW)
    assert [file.stat().st_mode & 0o777 for file in tmp_path.iterdir()] == [0o600, 0o600]


def test_what_a_killed_process_left_stays_a_line_of_its_own(tmp_path):
    path = tmp_path / "log"
    AnswerLog(path).add(MODEL, ROW)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    AnswerLog(path).add(MODEL, ROW)
    first, torn, last = lines_of(path)
    assert (first, torn) == (whole, whole[:50] + b"\n")
    assert json.loads(last)["before"] == digest(torn)


@pytest.mark.parametrize("written", [0, 20])
def test_a_full_disk_is_said_and_leaves_no_half_line(tmp_path, monkeypatch, written):
    path = tmp_path / "log"
    log = AnswerLog(path)
    log.add(MODEL, ROW)
    before, write = path.read_bytes(), os.write

    def full(file: int, data: bytes) -> int:
        if written:
            return write(file, data[:written])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(AnswerLogError, match="no answer is given without its line"):
            log.add(MODEL, ROW)
    assert path.read_bytes() == before
    log.add(MODEL, ROW)
    require_chain(lines_of(path))
    assert log.lines == 2


def test_another_program_may_rotate_it_by_renaming(tmp_path):
    log = AnswerLog(tmp_path / "log")
    log.add(MODEL, ROW)
    (tmp_path / "log").rename(tmp_path / "log.000007")
    log.add(MODEL, ROW)
    assert [file.name for file in rotated(tmp_path / "log")] == ["log.000007"]
    require_chain(lines_of(tmp_path / "log"))


def test_numbers_that_json_lacks_are_not_written(tmp_path):
    log = AnswerLog(tmp_path / "log")
    with pytest.raises(ValueError, match="JSON"):
        log.add(MODEL, replace(ROW, probability=float("nan")))
    assert (tmp_path / "log").read_bytes() == b""


def test_what_cannot_be_a_log_is_refused(tmp_path):
    (tmp_path / "to-others").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "of-all").touch()
    (tmp_path / "of-all").chmod(0o666)
    for name, reason in {
        "to-others": "symbolic link",
        "pipe": "no regular file",
        "of-all": "chmod go-w",
        "absent/log": "No such",
        ".": "directory",
    }.items():
        with pytest.raises(AnswerLogError, match=reason):
            AnswerLog(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()


def test_threads_of_one_process_share_it(tmp_path):
    log = AnswerLog(tmp_path / "log")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: log.add(MODEL, ROW), range(200)))
    require_chain(lines_of(tmp_path / "log"))
    assert log.lines == len(lines_of(tmp_path / "log")) == 200


def test_a_file_of_another_kind_stays_as_it_is(tmp_path):
    picture = tmp_path / "scan.png"
    picture.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(AnswerLogError, match=r"scan\.png .*something else than a log"):
        AnswerLog(picture)
    assert picture.read_bytes() == b"\x89PNG\r\n"
