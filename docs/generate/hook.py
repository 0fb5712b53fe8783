"""What MkDocs calls: puts the tables of the reference where a page has a mark such as `<!-- table: parameters -->`."""

from __future__ import annotations

import re
from typing import Any

import commands
import parameters

MARK = re.compile(r"^<!-- table: (\w+) -->$", re.MULTILINE)
TABLES = {"parameters": parameters.page, "commands": commands.page}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables."""
    return MARK.sub(lambda mark: TABLES[mark[1]](), markdown)
