"""Sections of the report that are drawn from `results/tables` alone, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Section:
    """A section of the page: the id of its anchor, its heading, and its HTML."""

    anchor: str
    title: str
    html: str


# Each takes the folder `results/tables`, and returns None where the page has nothing to say.
SECTIONS: tuple[Callable[[Path], Section | None], ...] = ()


def tabled_sections(tables: Path) -> list[Section]:
    """The sections that have something to say."""
    return [section for build in SECTIONS if (section := build(tables)) is not None]


def render(template: str, **values: Any) -> str:
    """The HTML of `templates/sections/<template>.html.j2`, everything in it escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("bus_mlops.evaluation.report").joinpath("templates", "sections")
    return environment.from_string(folder.joinpath(f"{template}.html.j2").read_text(encoding="utf-8")).render(**values)
