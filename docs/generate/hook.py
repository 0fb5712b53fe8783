"""What MkDocs calls: makes the tables of the reference from the code, and a page of each notebook.

A page says where a table belongs by a mark such as `<!-- table: parameters -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

import commands
import parameters
from mkdocs.structure.files import File, Files

MARK = re.compile(r"^<!-- table: (\w+) -->$", re.MULTILINE)
TABLES = {"parameters": parameters.page, "commands": commands.page}
NOTEBOOK_LINK = re.compile(r"(\]\([^)\s]+)\.ipynb\)")


def on_files(files: Files, config: Any) -> Files:
    """The files with a page beside each notebook."""
    for file in [each for each in files if each.src_uri.endswith(".ipynb")]:
        page = str(PurePosixPath(file.src_uri).with_suffix(".md"))
        files.append(File.generated(config, page, content=notebook_page(file.content_string, file.name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables; links to a notebook, which are for readers of the repository, go to its page."""
    return NOTEBOOK_LINK.sub(r"\1.md)", MARK.sub(lambda mark: TABLES[mark[1]](), markdown))


def notebook_page(content: str, name: str) -> str:
    """A notebook's cells as Markdown, without outputs, which the repository has none of."""
    cells = json.loads(content)["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    shown = [
        f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for cell, text in zip(cells, texts, strict=True)
    ]
    shown.insert(1, f'<a href="{name}.ipynb" download>The notebook itself</a>, for Jupyter.')
    return "\n\n".join(shown) + "\n"
