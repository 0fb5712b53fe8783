"""How a process of ours begins: quiet libraries, the configuration, readable errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bus_mlops import logs
from bus_mlops.config import Config
from bus_mlops.environment import quiet
from bus_mlops.error_messages import readable_errors
from bus_mlops.errors import ConfigError
from bus_mlops.project import load_config


def run_stage(main: Callable[[Config], None]) -> None:
    """Run a stage's `main(config)` as a script."""
    quiet()
    logs.show()
    with readable_errors():
        _require_project_folder(Path.cwd())
        main(load_config())


def _require_project_folder(folder: Path) -> None:
    """Refuse DVC's copies of a project: they hold what git knows, so neither the data nor the ledger of runs."""
    if ".dvc/tmp/exps/" in f"{folder.as_posix()}/":
        raise ConfigError(
            f"{folder} is where `dvc exp run --temp` and `--queue` put what git knows of a project: the ledger of runs "
            "and your data are not there, so everything would be trained again, and be lost. Run `dvc exp run` without "
            "them: it works in the project itself."
        )
