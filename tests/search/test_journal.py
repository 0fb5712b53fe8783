"""A study's journal that a kill or a disk has damaged: what is whole of it is used, and nothing is lost unsaid."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from damaged_journals import GARBLE
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from bus_mlops.errors import LedgerError
from bus_mlops.search.journal import mend


def study(path: Path) -> optuna.Study:
    """The study of a journal that has been mended, begun where there is none."""
    mend(path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(study_name="loss", storage=storage, load_if_exists=True)


def values(path: Path) -> list[float | None]:
    return [trial.value for trial in study(path).trials]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """One of two trials with a value each, the second of which the last line tells."""
    path = tmp_path / "loss.journal"
    for value in (0.5, 0.6):
        made = study(path)
        made.tell(made.ask(), value)
    return path


@pytest.mark.parametrize("kind", GARBLE)
def test_what_is_whole_of_a_damaged_journal_is_used(journal, kind, caplog):
    spoilt = b"".join(GARBLE[kind](journal.read_bytes().splitlines(keepends=True)))
    journal.write_bytes(spoilt)
    assert values(journal) == [0.5, None]
    assert "1 are lost" in caplog.text
    assert [path.read_bytes() for path in journal.parent.glob("*.damaged-*")] == [spoilt]
    again = study(journal)
    again.tell(again.ask(), 0.7)
    assert values(journal) == [0.5, None, 0.7]


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 300, bytes(range(256)), b"{}\n" * 3], ids=["empty", "0", "all", "{}"]
)
def test_a_journal_of_which_nothing_can_be_read_begins_anew(tmp_path, content):
    path = tmp_path / "loss.journal"
    path.write_bytes(content)
    assert values(path) == []
    assert [copy.read_bytes() for copy in tmp_path.glob("*.damaged-*")] == [content] * bool(content)


def test_a_whole_journal_is_left_alone(journal):
    before = journal.read_bytes()
    assert mend(journal) == mend(journal.with_name("none.journal")) == 0
    assert journal.read_bytes() == before
    assert list(journal.parent.iterdir()) == [journal]


def test_a_journal_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "loss.journal").mkdir()
    with pytest.raises(LedgerError, match=r"loss\.journal cannot be opened: .*move it away"):
        mend(tmp_path / "loss.journal")
