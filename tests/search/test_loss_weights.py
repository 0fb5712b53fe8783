"""The search's bookkeeping on real Optuna journals: the same study after a stop, cut-off trials tried again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from bus_mlops.config import SearchConfig
from bus_mlops.errors import LedgerError
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.search.loss_weights import _forget_unfinished, _open_study, _report, suggest, with_loss

SEARCH = SearchConfig(trials=4, folds=(1, 2))
PAPER = {"classification_weight": 3.0, "kind": "cross_entropy", "positive_weight": 3.0}


@pytest.fixture
def spec(demo):
    return make_spec(demo, "mt_estan", "multitask")


def digests_only(*digests: str, seed: int = 5) -> Any:
    """What opening a study asks a runner for: the digests of data and folds, and the seed."""
    return SimpleNamespace(digests=lambda spec: digests or ("data", "folds"), config=SimpleNamespace(seed=seed))


def by_journal(study: optuna.Study) -> dict[int, float]:
    return {trial.number: trial.value for trial in study.trials if trial.value is not None}


def start(study: optuna.Study) -> optuna.Trial:
    """Ask for a trial as the search does; it is RUNNING until somebody tells its value."""
    trial = study.ask()
    suggest(trial, SEARCH)
    return trial


@pytest.mark.parametrize(
    "parameters",
    [
        {"classification_weight": 1.25, "kind": "cross_entropy", "positive_weight": 4.5},
        {"classification_weight": 1.25, "kind": "focal", "gamma": 3.0, "alpha": 0.8},
    ],
)
def test_a_trial_changes_the_loss_and_nothing_else(spec, parameters):
    changed = with_loss(spec, parameters)
    before, after = spec.model_dump(), changed.model_dump()
    loss = after["training"].pop("loss")
    assert loss.items() >= parameters.items()
    assert loss["mask_weight"] == before["training"].pop("loss")["mask_weight"]
    assert after == before
    assert changed.fingerprint("d", "f") != spec.fingerprint("d", "f")
    assert changed.program_key() == spec.program_key()  # trials share one compiled program


def test_the_papers_loss_is_the_spec_itself(spec):
    assert with_loss(spec, PAPER) == spec


def test_each_kind_of_loss_has_its_own_parameters(spec, tmp_path):
    study = _open_study(digests_only(), spec, SEARCH, tmp_path)
    names = set()
    for _ in range(24):
        trial = start(study)
        study.tell(trial, 0.5)
        names.add((trial.params["kind"], *sorted(trial.params.keys() - {"classification_weight", "kind"})))
        with_loss(spec, trial.params)
    assert names == {("cross_entropy", "positive_weight"), ("focal", "alpha", "gamma")}


def test_without_cross_entropy_the_papers_loss_is_not_tried(spec, tmp_path):
    focal = SEARCH.model_copy(update={"losses": ("focal",)})
    study = _open_study(digests_only(), spec, focal, tmp_path)
    assert study.trials == []


def test_the_papers_weights_are_tried_first_and_once(spec, tmp_path):
    study = _open_study(digests_only(), spec, SEARCH, tmp_path)
    again = _open_study(digests_only(), spec, SEARCH, tmp_path)
    assert [trial.state for trial in again.trials] == [TrialState.WAITING]
    assert start(study).params == PAPER
    assert start(study).params != PAPER


def test_a_second_opening_resumes_the_study(spec, tmp_path):
    study = _open_study(digests_only(), spec, SEARCH, tmp_path)
    for value in (0.5, 0.75):
        study.tell(start(study), value)
    resumed = _open_study(digests_only(), spec, SEARCH.model_copy(update={"trials": 9}), tmp_path)
    assert resumed.study_name == study.study_name
    assert [(t.value, t.params) for t in resumed.trials] == [(t.value, t.params) for t in study.trials]
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".journal"]


@pytest.mark.parametrize(
    ("digests", "change"),
    [
        (("other data", "folds"), {}),
        (("data", "other folds"), {}),
        ((), {"folds": (1,)}),
        ((), {"objective": "balanced_accuracy"}),
        ((), {"positive_weight": (1.0, 3.0)}),
    ],
)
def test_other_data_folds_or_space_is_another_study(spec, tmp_path, digests, change):
    one = _open_study(digests_only(), spec, SEARCH, tmp_path)
    two = _open_study(digests_only(*digests), spec, SEARCH.model_copy(update=change), tmp_path)
    assert one.study_name != two.study_name


def test_trials_of_a_search_that_was_cut_off_are_closed_and_tried_again(spec, tmp_path):
    study = _open_study(digests_only(), spec, SEARCH, tmp_path)
    study.tell(start(study), 0.5)
    cut_off = [start(study), start(study)]

    resumed = _open_study(digests_only(), spec, SEARCH, tmp_path)
    _forget_unfinished(resumed)
    states = [trial.state for trial in resumed.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL, TrialState.WAITING, TrialState.WAITING]
    assert [start(resumed).params for _ in cut_off] == [trial.params for trial in cut_off]

    quiet = _open_study(digests_only(), spec, SEARCH, tmp_path / "finished")
    quiet.tell(start(quiet), 0.5)
    _forget_unfinished(quiet)
    assert [trial.state for trial in quiet.trials] == [TrialState.COMPLETE]


def test_the_earliest_of_equal_trials_wins(spec, tmp_path):
    study = _open_study(digests_only(), spec, SEARCH, tmp_path)
    trials = [start(study) for _ in range(4)]
    for number in (2, 0, 3, 1):  # the order in which they end does not matter
        study.tell(trials[number], (0.5, 0.75, 0.75, 0.6)[number])
    report = _report(study, spec, SEARCH, by_journal(study))
    assert (report["value"], report["best"]) == (0.75, trials[1].params)
    assert report["trials"] == 4
    assert [(row["trial"], row["value"]) for row in report["history"]] == [(0, 0.5), (1, 0.75), (2, 0.75), (3, 0.6)]
    assert report["history"][1] == {"trial": 1, "value": 0.75, **trials[1].params}
    assert report["objective"] == "validation roc_auc, folds 1, 2"


def test_the_report_holds_finished_trials_and_no_more_than_were_asked_for(spec, tmp_path):
    study = _open_study(digests_only(), spec, SEARCH, tmp_path)
    trials = [start(study) for _ in range(4)]
    study.tell(trials[0], state=TrialState.FAIL)
    for trial, value in zip(trials[1:], (0.5, 0.6, 0.9), strict=True):
        study.tell(trial, value)
    report = _report(study, spec, SEARCH.model_copy(update={"trials": 2}), by_journal(study))
    assert (report["trials"], report["value"], report["best"]) == (2, 0.6, trials[2].params)


GARBLE: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "half a last line": lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],
    "a line written behind half a line": lambda lines: [*lines[:-1], lines[-1][:9] + lines[-1]],
    "no last newline": lambda lines: [*lines[:-1], lines[-1].rstrip()],
    "binary at the end": lambda lines: [*lines[:-1], b"\x00\xff\n"],
    "a number at the end": lambda lines: [*lines[:-1], b"7\n"],
    "an unknown entry": lambda lines: [*lines[:-1], b'{"op_code": 99}\n'],
    "an entry without its fields": lambda lines: [*lines[:-1], b'{"op_code": 6}\n'],
}


@pytest.mark.parametrize("kind", GARBLE)
def test_what_is_whole_of_a_damaged_journal_is_used(spec, tmp_path, kind, caplog):
    study = _open_study(digests_only(), spec, SEARCH, tmp_path)
    for value in (0.5, 0.6):
        study.tell(start(study), value)
    journal = next(tmp_path.glob("*.journal"))
    spoilt = b"".join(GARBLE[kind](journal.read_bytes().splitlines(keepends=True)))
    journal.write_bytes(spoilt)
    again = _open_study(digests_only(), spec, SEARCH, tmp_path)
    assert [trial.value for trial in again.trials] == [0.5, None]  # the last line told the second value
    assert "1 are lost" in caplog.text
    assert next(tmp_path.glob("*.damaged-*")).read_bytes() == spoilt
    _forget_unfinished(again)
    again.tell(start(again), 0.7)
    assert [trial.value for trial in _open_study(digests_only(), spec, SEARCH, tmp_path).trials] == [0.5, None, 0.7]


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 300, bytes(range(256)), b"{}\n" * 3], ids=["empty", "0", "all", "{}"]
)
def test_a_journal_of_which_nothing_can_be_read_begins_anew(spec, tmp_path, content):
    journal = tmp_path / f"{_open_study(digests_only(), spec, SEARCH, tmp_path / 'other').study_name}.journal"
    journal.write_bytes(content)
    assert start(_open_study(digests_only(), spec, SEARCH, tmp_path)).params == PAPER
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged-*")] == [content] * bool(content)


def test_a_journal_that_cannot_be_opened_is_named(spec, tmp_path):
    name = _open_study(digests_only(), spec, SEARCH, tmp_path / "other").study_name
    (tmp_path / f"{name}.journal").mkdir()
    with pytest.raises(LedgerError, match=rf"{name}.journal cannot be opened: .*move it away"):
        _open_study(digests_only(), spec, SEARCH, tmp_path)
