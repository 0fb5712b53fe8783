"""Optuna's journal of a study, which a kill may leave with half a line and a disk with worse: what is whole is used."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from pathlib import Path

from bus_mlops.errors import LedgerError
from bus_mlops.files import replacing

LOG = logging.getLogger(__name__)


def mend(path: Path) -> int:
    """Cut a journal behind its last line that can be read, after keeping a copy beside it; says what is lost.

    The cells of lost trials stay in the ledger, so that weights proposed again are not trained again.

    Returns:
        How many lines were lost: 0 for a journal that is whole, or not there yet.

    Raises:
        LedgerError: It cannot be opened; says which file to move away.
    """
    try:
        if not path.exists() or _whole(lines := _lines(path)) == len(lines):
            return 0
        return _cut(path)
    except OSError as error:
        raise LedgerError(
            f"the search's journal {path} cannot be opened: {error}. Give this account the right to read and write it, "
            "or move it away: the search then begins anew, and trains nothing again that the ledger has."
        ) from error


def _cut(path: Path) -> int:
    from optuna.storages.journal import JournalFileSymlinkLock

    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()  # another search may be writing the line that seems to be missing
    try:
        lines = _lines(path)
        whole = _whole(lines)
        lost = len(lines) - whole
        if not lost:
            return 0
        copy = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        copy.write_bytes(b"".join(lines))
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(lines[:whole]))
    finally:
        lock.release()
    LOG.warning(
        "[search] the journal %s is damaged: the %d lines that can be read are used, %d are lost (a copy of all is "
        "%s); runs of lost trials stay in the ledger",
        path,
        whole,
        lost,
        copy.name,
    )
    return lost


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def _whole(lines: list[bytes]) -> int:
    """How many lines from the first on Optuna can replay."""
    good = next((number for number, line in enumerate(lines) if not _is_entry(line)), len(lines))
    if _replays(lines[:good]):
        return good
    least, most = 0, good  # the first `least` lines replay, the first `most` do not
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if _replays(lines[:middle]) else (least, middle)
    return least


def _is_entry(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _replays(lines: list[bytes]) -> bool:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with tempfile.TemporaryDirectory(prefix="bus-journal-") as folder:
        copy = Path(folder) / "journal"
        copy.write_bytes(b"".join(lines))
        try:
            JournalStorage(JournalFileBackend(str(copy))).get_all_studies()
        except Exception:  # an entry may be wrong in as many ways as Optuna has lines
            return False
    return True
