"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bus_mlops.errors import FileContentError
from bus_mlops.files import read_json, replaced_folder, replacing, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def stop_after(written):
    assert written
    raise ZeroDivisionError


def test_an_error_leaves_the_former_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "value.json"
    write_json(path, {"a": [1, 2]})
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        stop_after(temporary.write_text("half"))
    assert read_json(path) == {"a": [1, 2]}
    assert names(path.parent) == ["value.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "deep" / "folder"
    for name in ("one", "two"):
        with replaced_folder(folder) as partial:
            (partial / name).write_text(name)
        assert names(folder) == [name]
    with pytest.raises(ZeroDivisionError), replaced_folder(folder) as partial:
        stop_after((partial / "three").write_text("half"))
    assert names(folder) == ["two"]
    assert names(folder.parent) == ["folder"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    folder = tmp_path / "folder"
    code = (
        "import os, pathlib, sys\n"
        "from bus_mlops.files import replaced_folder\n"
        "with replaced_folder(pathlib.Path(sys.argv[1])):\n    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 9
    (left,) = names(tmp_path)
    with replaced_folder(folder) as mine:
        assert names(tmp_path) == [mine.name]
        with replaced_folder(folder) as other:
            (other / "a").touch()
            assert mine.is_dir()
    assert left.startswith(".folder.partial-")
    assert str(os.getpid()) in mine.name
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: is not valid JSON: .*empty or cut off"),
        (b'{"a": 1,\n "b": [1, 2', "line 2: is not valid JSON: .*'\"b\": \\[1, 2'"),
        (b'{"a": 1,\n "b": yes}', "line 2: is not valid JSON: Expecting value in '\"b\": yes}'"),
        (b'{"a": 1,\n "b": {"c": 1,\n "d": 2,\n "c": 3}}', 'the key "c" stands twice in one object .*line 2, 4'),
        (b'{"a":\n "gr\xfcn"}', "line 2: the byte 0xFC is no text"),
        (b"[" * 200_000, "holds more levels"),
    ],
)
def test_json_that_was_cut_off_or_edited_is_told_with_its_line(tmp_path, content, message):
    path = tmp_path / "losses.json"
    path.write_bytes(content)
    with pytest.raises(FileContentError, match=f"losses.json.*{message}"):
        read_json(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(FileContentError, match=r"plan\.json is not a file\. Mend it, or remove it"):
        read_json(tmp_path / "plan.json")


def test_a_file_where_a_folder_shall_be_stays(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"params\.yaml"), replaced_folder(path):
        pass
    assert (names(tmp_path), path.read_text()) == (["params.yaml"], "mine")


def test_an_error_names_the_path_and_not_a_temporary_one(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", "/.temporary")

    monkeypatch.setattr("tempfile.mkstemp", refused)
    with pytest.raises(PermissionError) as caught, replacing(tmp_path / "mask.png"):
        pass
    assert caught.value.filename == str(tmp_path / "mask.png")
