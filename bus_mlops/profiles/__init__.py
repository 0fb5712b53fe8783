"""Profiles: whole parameter sets, written to params.yaml by `bus-mlops profile NAME`."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from bus_mlops.errors import ConfigError

NAMES = ("demo", "busi", "study", "paper", "official-code")
FIRST_REAL = "busi"
"""What to go on with after the demo."""


def text(name: str) -> str:
    """The YAML of a profile, comments included.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in NAMES:
        raise ConfigError(f"unknown profile {name!r}; there are: {', '.join(NAMES)}")
    return (files("bus_mlops.profiles") / f"{name}.yaml").read_text(encoding="utf-8")


def explanation(name: str) -> str:
    """What a profile is for: its leading comment."""
    lines = text(name).splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").strip())
    return " ".join(comment)


def customised(name: str, *, data_root: Path | None = None, weights_folder: Path | None = None) -> str:
    """A profile's text with the user's own folders put in, comments kept."""
    result = text(name)
    if data_root is not None:
        result = re.sub(r"(?m)^(  root: )\S+", lambda m: m.group(1) + _quoted(data_root), result, count=1)
    if weights_folder is not None:
        result = re.sub(r"(?m)^(weights_folder: )\S+", lambda m: m.group(1) + _quoted(weights_folder), result, count=1)
    return result


def _quoted(path: Path) -> str:
    import json

    return json.dumps(path.as_posix())
