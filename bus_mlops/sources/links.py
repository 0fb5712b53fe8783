"""Links below `data.root` that DVC does not follow: what changes behind them would go unnoticed.

DVC hashes a linked file as the file that it is, but neither enters a linked folder nor says so. `data.root` itself, and
the folders above it, may be links: DVC follows those.
"""

from __future__ import annotations

import os
from pathlib import Path

from bus_mlops.sources.source import some


def unfollowed_links(folder: Path) -> list[Path]:
    """The links to folders and to nothing at and below a source's folder, sorted."""
    if folder.is_symlink():
        return [folder]
    found = []
    for place, folders, files in os.walk(folder):
        paths = [Path(place) / name for name in (*folders, *files)]
        found += [path for path in paths if path.is_symlink() and not path.is_file()]
    return sorted(found)


def link_problem(folder: Path) -> str:
    """What is to be done about the links of a source's folder; empty where there is nothing."""
    links = unfollowed_links(folder)
    if not links:
        return ""
    shown = some(f"{link} -> {link.readlink()}{'' if link.exists() else ' (which is not there)'}" for link in links)
    return (
        f"{shown}: DVC does not look behind links to folders, so what changes there would go unnoticed. Mount or copy "
        "the folder there, or set data.root in params.yaml to the folder that holds the sources: data.root itself may "
        "be a link, and so may files."
    )
