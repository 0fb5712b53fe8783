"""params.yaml is read as DVC reads it, or refused with the line and what to write instead."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bus_mlops import profiles
from bus_mlops.config.parameter_file import MOST_BYTES, parse_parameters
from bus_mlops.errors import ConfigError
from bus_mlops.project import load_config

loads_yaml = pytest.importorskip("dvc.utils.serialize").loads_yaml

ACCEPTED = """
    1 0 -3 +4 -0 1.5 1. .5 -.5 +.5 00.5 1e-3 1E3 1.5e3 1.5e+3 .5e-3 -0.0 ~ null Null true TRUE False word y n nan inf
    a:b 127.0.0.1:6379 0.1.2 -1-2 v1_0 . _ 0a 1e 0b 3d 1,5 ~/data s3://a/b http://x:1/y 'yes' '010' "1_0" '~' '=' '<<'
"""
REFUSED = {
    "truth value": "yes Yes no NO on off OFF",
    "computed with": ".inf -.INF +.inf .nan .NaN",
    "not the same to all readers": """
        20:21 1:2:3.5 010 00 08 -012 0o17 0x1F 0b1 1_000 1_0.5 1_0e3 0.1_0 2020-01-01 2001-12-14t21:59:43.10-05:00 = <<
    """,
    "larger than any number": "1e999 -1e999",
    "digits": "12345678901234567890",
    "refers to no": "*x",
    "the tag": "!!int !x !!python/object/apply:os.system !!binary !",
}


# Ten times ten times ten ...; and a tower of towers.
LAUGHS = "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9))
TOWER = "a: &a " + "[" * 15 + "]" * 15 + "\nb: &b " + "[" * 15 + "*a" + "]" * 15 + "\nc: [[[*b]]]"


def read(text: str) -> dict[str, Any]:
    return parse_parameters(text, "params.yaml").values


@pytest.mark.parametrize("name", profiles.NAMES)
def test_profiles_are_read_as_every_reader_does(name):
    text = profiles.text(name)
    assert read(text) == yaml.safe_load(text) == loads_yaml(text)


def test_references_are_the_values_that_they_refer_to():
    own = {"weights": "random", "optimizer": {"name": "adam", "learning_rates": [0.001, 0.01]}}
    text = yaml.safe_dump({"networks": {"mine": own, "rival": own}, "none": "&empty"}) + "void: &void\nagain: *void\n"
    assert "&id001" in text
    values = read(text)
    assert values == yaml.safe_load(text) == loads_yaml(text)
    networks = values["networks"]
    assert networks["mine"] is not networks["rival"]


@pytest.mark.parametrize("written", ACCEPTED.split())
def test_what_is_accepted_is_the_same_to_dvc(written):
    text = f"a: {written}\n"
    value, theirs = read(text)["a"], loads_yaml(text)["a"]
    assert (value, type(value)) == (theirs, type(theirs))


@given(st.text("0123456789+-.eExXoObB_:~=ynYNaflstru '\"#", max_size=10))
def test_a_value_is_the_same_to_dvc_or_refused(written):
    text = f"a: {written}\n"
    try:
        value = read(text)["a"]
    except ConfigError:
        return
    theirs = loads_yaml(text)["a"]
    assert (value, type(value)) == (theirs, type(theirs))


@pytest.mark.parametrize(
    ("reason", "written"), [(reason, each) for reason, all_ in REFUSED.items() for each in all_.split()]
)
def test_a_value_that_readers_take_for_different_ones_is_refused_with_its_line(reason, written):
    with pytest.raises(ConfigError) as caught:
        read(f"# a comment\nfolds:\n  count: 3\n  kind: {written}\n")
    assert str(caught.value).startswith("params.yaml, line 4: ")
    assert reason in str(caught.value)
    assert written.strip("*&") in str(caught.value) or reason == "the tag"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' stands in line 1 already"),
        ("a:\n  b: 1\n  c: 2\n  b: 1", "line 4: key 'a.b' stands in line 2 already"),
        ("a: [{b: 1,\n  b: 2}]", "line 2: key 'a.0.b' stands in line 1 already"),
        ("a: 1\n1: 2", "line 2: the key '1' is no word but 1"),
        ("a:\n  true: 2", "line 2: the key 'true' in a is no word but True"),
        ("~: 2", "line 1: the key '~' is no word but None"),
        ("on: 2", "line 1: on = on is a truth value"),
        ("? [a]\n: 1", "line 1: a key that is a list"),
        ("? {a: b}\n: 1", "line 1: a key that is a list, a mapping"),
        ("a: 1\n<<: {a: 1}", "line 2: << merges another place"),
        ("a: &a [*a]", "line 1: *a refers to no &a that is complete before it"),
        ("a: *b\nb: &b 1", "line 1: *b refers to no &b that is complete before it"),
        ("a: 1\n*a : 2", "line 2: a key that is a list, a mapping or a reference"),
        (LAUGHS, "line 6: more than 50,000 values"),
        (TOWER, "line 3: more than 32 levels"),
        ("---\na: 1\n---\nb: 2", "line 3: a second document"),
        ("%YAML 1.1\n---\na: 1", "line 1: a directive"),
        ("a: 1\nb:\t2", "line 2: is not valid YAML: a tab stands there"),
        ("a:\n\tb: 2", "line 2: is not valid YAML: a tab stands there"),
        ("a: 1\nb: x\0y", "line 2: is not valid YAML: the character U+0000"),
        ("a: 1\nb: x\x85y", "line 2: the character U+0085"),
        ("a: 1\nb: [1", "line 2: is not valid YAML: expected ',' or ']'"),
        ("a: 1\nb: c: d", "line 2: is not valid YAML: mapping values are not allowed"),
        ("a: 1\nb: " + "[" * 100_000, "line 2: more than 32 levels"),
        ("a: 1\nb: " + "{b: " * 5_000, "line 2: more than 32 levels"),
        ("\n".join("  " * depth + "b:" for depth in range(200)), "line 33: more than 32 levels"),
        ("", "must hold a mapping of parameters but holds nothing"),
        ("# nothing", "must hold a mapping of parameters but holds nothing"),
        ("- 1", "must hold a mapping of parameters but holds list"),
        ("word", "must hold a mapping of parameters but holds str"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_with_its_line(text, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("params.yaml")


def test_quotes_blocks_of_text_and_one_marked_document_are_what_they_say():
    text = "\ufeff---\na: 'no'\nb: |\n  010\nc: \"20:21\"\nd: >-\n  yes\n...\n"
    assert read(text) == {"a": "no", "b": "010\n", "c": "20:21", "d": "yes"}
    assert read("a: 1\r\nb:\r\n  - x\r\n") == {"a": 1, "b": ["x"]}


def test_a_value_that_the_schema_refuses_is_told_with_its_line(tmp_path):
    path = tmp_path / "params.yaml"
    lines = profiles.text("demo").splitlines()
    place = next(number for number, line in enumerate(lines, 1) if line.startswith("  epochs:"))
    lines[place - 1] = "  epochs: ~"
    lines.append("profle: demo")
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert f"line {place}: training.epochs = None" in str(caught.value)
    assert f"line {len(lines)}: unknown key 'profle'" in str(caught.value)


@pytest.mark.parametrize("written", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_none(tmp_path, written):
    path = tmp_path / "params.yaml"
    text = profiles.text("demo").replace("  epochs:", f"  dropout: {written}\n  epochs:", 1)
    path.write_text(re.sub(r"\n  dropout: [\d.].*", "", text))
    with pytest.raises(ConfigError, match=r"line \d+: training.dropout = .*finite"):
        load_config(path)


def test_what_is_no_file_of_text_is_named_and_never_waited_for(tmp_path):
    path = tmp_path / "params.yaml"
    path.mkdir()
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        load_config(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is a pipe, not a file"):
        load_config(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        with pytest.raises(ConfigError, match="is a socket, not a file"):
            load_config(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="is a device, not a file"):
        load_config(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ConfigError, match=r"cannot be read: .*symbolic links"):
        load_config(path)
    path.unlink()
    path.write_text("a: " + "x" * MOST_BYTES)
    with pytest.raises(ConfigError, match="has 262,147 bytes, and no parameter file has more than 262,144"):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: gr\xfcn\n", "line 2: cannot be read: the byte 0xFC is not UTF-8"),
        ("a: 1\n".encode("utf-16"), "line 1: cannot be read: the byte 0xFF is not UTF-8"),
        (b"a: 1\n\0\0\0", "line 2: .*U\\+0000"),
    ],
)
def test_another_encoding_is_told_with_its_line(tmp_path: Path, content, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
