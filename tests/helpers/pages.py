"""The how-to pages whose code tests execute."""

from __future__ import annotations

import re
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to"


def blocks(page: str) -> dict[str, str]:
    """A page's code blocks by the file that they belong to; several of one file together."""
    text = (PAGES / page).read_text("utf-8")
    found: dict[str, str] = {}
    for file, block in re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        found[file] = found.get(file, "") + block
    return found
