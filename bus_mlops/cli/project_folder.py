"""`bus-mlops init`: a project folder from the installed package, so that no clone is needed."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet, or is empty.")],
    profile: Annotated[str, typer.Option(help="demo, busi, study, paper or official-code.")] = "demo",
    data_root: Annotated[Path | None, typer.Option(help="Folder with one folder per source.")] = None,
    weights_folder: Annotated[Path | None, typer.Option(help="Folder with ImageNet weights.")] = None,
    update: Annotated[
        bool,
        typer.Option("--update", help="Bring the pipeline of a project up to this version; parameters and data stay."),
    ] = False,
) -> None:
    """Make a project folder from this package; needs no clone.

    With the pipeline, the parameters of a profile, and folders for data and extensions.
    """
    import yaml

    from bus_mlops import __version__, profiles, scaffold
    from bus_mlops.project import parse_config

    if update:
        scaffold.update(folder)
        print(f"the pipeline of {folder} is that of bus-mlops {__version__}. Next: git diff, git commit, dvc repro")
        return
    # From the project's own folder, relative ones of the user's would lead elsewhere.
    roots = {
        "data_root": data_root and data_root.resolve(),
        "weights_folder": weights_folder and weights_folder.resolve(),
    }
    wanted = profiles.customised(profile, **roots)
    parse_config(yaml.safe_load(wanted), f"profile {profile}")
    scaffold.make(folder, wanted)
    left = scaffold.commit(folder)
    print(f"{folder} is a project with the profile {profile}.")
    if left:
        print(f"Still to do: {left}")
    if importlib.util.find_spec("dvc") is None or importlib.util.find_spec("tensorflow") is None:
        print("This install only predicts; for the pipeline: pip install 'bus-mlops[train]'")
    print(f"Next: cd {shlex.quote(str(folder))} && dvc repro && bus-mlops summary")
