"""How a process of ours begins: quiet libraries, the configuration, readable errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import bus_mlops
from bus_mlops import logs
from bus_mlops.config import Config
from bus_mlops.environment import collect_rarely, quiet
from bus_mlops.error_messages import readable_errors
from bus_mlops.files import anchored
from bus_mlops.paths import home
from bus_mlops.project import load_config
from bus_mlops.stage_times import timed


def run_stage(main: Callable[[Config], None]) -> None:
    """Run a stage's `main(config)` as a script, and note what it took in `results/timing.json`.

    In a copy that `dvc exp run --temp` or `--queue` made of a project, by the copy's code, on the project's store.
    """
    quiet()
    collect_rarely()
    logs.show()
    with readable_errors():
        stage = "@".join([Path(sys.argv[0]).stem, *sys.argv[1:2]])
        if (project := home()) == Path():
            with timed(stage):
                main(load_config())
            return
        _use_code_of(Path.cwd())
        with timed(stage):
            main(_at_home(load_config(), project))


def _use_code_of(folder: Path) -> None:
    """Begin anew with the package that lies in a copy: an editable install would run what the project holds by now."""
    if (folder / "bus_mlops").is_dir() and not Path(bus_mlops.__file__).is_relative_to(folder):
        searched = filter(None, (str(folder), os.environ.get("PYTHONPATH")))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(searched)}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - of a stage


def _at_home(config: Config, project: Path) -> Config:
    """The same configuration where relative addresses of the store and of weights are those of a project folder."""
    tracking, weights = config.tracking, config.weights_folder
    with chdir(project):
        uri = anchored(tracking.uri)
    artifacts = tracking.artifacts if "://" in tracking.artifacts else str(project / tracking.artifacts)
    return config.model_copy(
        update={
            "tracking": tracking.model_copy(update={"uri": uri, "artifacts": artifacts}),
            "weights_folder": project / weights if weights is not None else None,
        }
    )
