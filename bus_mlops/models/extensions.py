"""Networks of the user's own: one decorated function in a file of the folder `extensions`.

Planning reads these files too, so that they are best written with Keras imported inside the function.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from bus_mlops.errors import NetworkError
from bus_mlops.models import zoo
from bus_mlops.models.entry import NetworkEntry, OptionRule
from bus_mlops.spec import Task

Builder = TypeVar("Builder", bound=Callable[..., Any])


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
    (B, S, S, 1) or both, as `task` (classification, segmentation or multitask) says.

    Raises:
        NetworkError: The task is unknown, or the zoo has the name already.
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


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
