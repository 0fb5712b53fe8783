"""Networks of the user's own: one decorated function in a file of the folder `extensions`.

Planning reads these files too, so that they are best written with Keras imported inside the function.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from bus_mlops.errors import NetworkError
from bus_mlops.models import zoo
from bus_mlops.models.entry import NetworkEntry, OptionRule, Task

Builder = TypeVar("Builder", bound=Callable[..., Any])
_PREFIX = "bus_mlops_extension_"


def network(
    *,
    label: str,
    task: str,
    input_size: int,
    source: str,
    backbone: str = "",
    multiple: int = 1,
    minimum: int = 32,
    options: Mapping[str, OptionRule] | None = None,
    scaling: str = "unit",
) -> Callable[[Builder], Builder]:
    """Register the decorated function as the network of its name; the arguments are `NetworkEntry`'s.

    The function is called with `input_size` (pixels), `scaling`, `dropout` (fraction) and the options, and
    returns a Keras model from "image" (B, S, S, 3), 0-255, to a dict of "malignancy" (B, 1), "mask"
    (B, S, S, 1) or both, as `task` (classification, segmentation or multitask) says. Raises NetworkError for an
    unknown task or a name that the zoo has already.
    """
    if task not in list(Task):
        raise NetworkError(f"task of the network {label!r} must be one of {', '.join(Task)} but got {task!r}.")

    def register(function: Builder) -> Builder:
        zoo.register(
            NetworkEntry(
                name=function.__name__,
                label=label,
                task=Task(task),
                input_size=input_size,
                builder=f"{function.__module__}:{function.__name__}",
                backbone=backbone,
                source=source,
                multiple=multiple,
                minimum=minimum,
                options=options or {},
                scaling=scaling,
                code=_digest(Path(inspect.getfile(function))),
            )
        )
        return function

    return register


def load_extensions(folder: Path) -> None:
    """Make the zoo's user networks those of the folder's `*.py`: new files are run, changed ones once more.

    A folder that is not there has none. Raises NetworkError naming the file that cannot be run.
    """
    files = {_PREFIX + path.stem: path for path in sorted(folder.resolve().glob("*.py"))}
    for name, module in [(name, module) for name, module in sys.modules.items() if name.startswith(_PREFIX)]:
        path = files.get(name)
        if path is not None and str(path) == module.__file__ and _digest(path) == module.__dict__["digest"]:
            del files[name]
        else:
            _forget(name)
    for name, path in files.items():
        _run(name, path)


def _run(name: str, path: Path) -> None:
    module = ModuleType(name)
    module.__file__ = str(path)
    module.__dict__["digest"] = _digest(path)
    # Builders are looked up here by name; not a real import, which would leave a cache in the user's folder.
    sys.modules[name] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except Exception as error:
        _forget(name)
        raise NetworkError(f"{path} cannot be run: {type(error).__name__}: {error}") from error


def _forget(name: str) -> None:
    del sys.modules[name]
    for network in [each.name for each in zoo.NETWORKS.values() if each.builder.startswith(f"{name}:")]:
        del zoo.NETWORKS[network]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
