"""How a process of ours begins: quiet libraries, the configuration, readable errors."""

from __future__ import annotations

from collections.abc import Callable

from bus_mlops import logs
from bus_mlops.config import Config
from bus_mlops.environment import quiet
from bus_mlops.error_messages import readable_errors
from bus_mlops.project import load_config


def run_stage(main: Callable[[Config], None]) -> None:
    """Run a stage's `main(config)` as a script."""
    quiet()
    logs.show()
    with readable_errors():
        main(load_config())
