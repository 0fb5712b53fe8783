"""What a section of the report is that is drawn from `results/tables` alone; `sections.py` names them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Section:
    """A section of the page: the id of its anchor, its heading, its HTML, and what is said while that is folded.

    `tables` are the csv files in `results/tables` that it is drawn from, without the ending; empty: that of its anchor.
    """

    anchor: str
    title: str
    html: str
    lead: str
    tables: tuple[str, ...] = ()


def render(template: str, **values: Any) -> str:
    """The HTML of `templates/sections/<template>.html.j2`, everything in it escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("bus_mlops.evaluation.report").joinpath("templates", "sections")
    return environment.from_string(folder.joinpath(f"{template}.html.j2").read_text(encoding="utf-8")).render(**values)
