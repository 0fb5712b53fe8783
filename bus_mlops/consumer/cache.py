"""Packages kept on this machine by the digest of their content, and which of them were pulled on purpose."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bus_mlops.consumer.package_format import Origin
from bus_mlops.consumer.standing import Standing
from bus_mlops.errors import without_passwords
from bus_mlops.files import settle, write_json

INDEX = "pulled.json"
# The latest signed decision that was seen of each model of each store: one that is older now has been replayed.
SEEN = "decisions.json"


class Pulled(BaseModel):
    """What a URI meant when it was pulled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    uri: str
    digest: str
    name: str
    version: str | None
    when: str
    standing: Standing | None = None
    decision: dict[str, str] | None = None


_ENTRIES = TypeAdapter(list[Pulled])
_TIMES: TypeAdapter[dict[str, list[str]]] = TypeAdapter(dict[str, Annotated[list[str], Field(min_length=2)]])


def cache_folder() -> Path:
    """Where fetched packages are kept, by digest: BUS_MLOPS_CACHE, else the user's cache folder."""
    named = os.environ.get("BUS_MLOPS_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "bus-mlops" / "models"


def remember(store: str, uri: str, origin: Origin) -> Pulled:
    """Record that a URI was pulled; the newest pull of a URI counts."""
    store = without_passwords(store)
    entry = Pulled(
        store=store,
        uri=uri,
        digest=origin.digest,
        name=origin.name,
        version=origin.version,
        standing=origin.standing,
        decision=origin.decision,
        when=time.strftime("%Y-%m-%d %H:%M:%S %z"),
    )
    others = [each for each in _entries() if (each.store, each.uri) != (store, uri)]
    write_json(cache_folder() / INDEX, [each.model_dump() for each in (*others, entry)])
    return entry


def recall(store: str, uri: str) -> Pulled | None:
    """The pull of a URI whose package is still in the cache, if there is one."""
    for each in _entries():
        if (each.store, each.uri) == (without_passwords(store), uri) and (cache_folder() / each.digest).is_dir():
            return each
    return None


def latest_seen(store: str, name: str) -> tuple[str, str]:
    """Time and record of the latest signed decision on a model that this machine has seen; both empty without one."""
    found = _seen().get(f"{name} in {without_passwords(store)}", ["", ""])
    return found[0], found[1]


def remember_seen(store: str, name: str, when: str, record: str) -> None:
    """Write down a signed decision that is later than all seen before; a cache that cannot be written holds none."""
    with contextlib.suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_json(cache_folder() / SEEN, {**_seen(), f"{name} in {without_passwords(store)}": [when, record]})


def _seen() -> dict[str, list[str]]:
    with contextlib.suppress(OSError, ValidationError):
        return _TIMES.validate_json((cache_folder() / SEEN).read_bytes())
    return {}


def _entries() -> list[Pulled]:
    path = cache_folder() / INDEX
    with contextlib.suppress(FileNotFoundError):
        try:
            return _ENTRIES.validate_json(path.read_bytes())
        except ValidationError:
            # It says what may be used offline, no more: nobody is kept from a store that can be asked.
            logging.getLogger(__name__).warning(
                "%s was changed by hand or cut off, so nothing counts as pulled. `bus-mlops pull` writes it anew.", path
            )
    return []


def put(folder: Path, target: Path) -> Path:
    """Put a finished folder into the cache, in the place of a damaged one if there is one."""
    if target.is_dir():
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix="damaged-"))
        with contextlib.suppress(OSError):  # another process was faster
            target.rename(aside / "package")
        shutil.rmtree(aside, ignore_errors=True)
    return settle(folder, target)
