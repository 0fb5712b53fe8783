"""The user's own files in `extensions/`, run before the configuration is read, which may name what they add."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

from bus_mlops.errors import ExtensionError
from bus_mlops.registries import Registry

_PREFIX = "bus_mlops_extension_"


def load_extensions(folder: Path) -> None:
    """Make what users add that of the folder's `*.py`: new files are run, changed ones once more.

    A folder that is not there has none.

    Raises:
        ExtensionError: Names the file that cannot be run.
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
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - the user's own code, meant to be run
    except BaseException as error:
        _forget(name)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ExtensionError(f"{path} cannot be run: {type(error).__name__}: {error}") from error


def _forget(name: str) -> None:
    del sys.modules[name]
    Registry.forget_everywhere(name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
