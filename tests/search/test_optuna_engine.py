"""What is proposed, pruned and kept: the same whatever was cut off, damaged or done by another driver."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from damaged_journals import GARBLE
from optuna.storages.journal import JournalFileBackend
from recorded_trials import RecordedRunner, plan_of

from bus_mlops.errors import ConfigError, LedgerError
from bus_mlops.evaluation.searched import FLAT, SearchResult, TrialRecord
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.search_plan import SearchPlan
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.search.optuna_engine import run_study, stages
from bus_mlops.search.proposer import make_sampler
from bus_mlops.search.study import run_search
from bus_mlops.search.trials import Trials

SPACE: dict[str, Any] = {
    "loss.classification_weight": {"low": 0.5, "high": 5, "step": 0.25},
    "loss.kind": ["cross_entropy", "focal"],
    "loss.positive_weight": {"low": 1, "high": 5, "step": 0.25, "when": {"loss.kind": "cross_entropy"}},
    "loss.gamma": {"low": 1, "high": 5, "step": 0.5, "when": {"loss.kind": "focal"}},
    "loss.alpha": {"low": 0.2, "high": 0.9, "step": 0.05, "when": {"loss.kind": "focal"}},
}
PAPER = {"loss.classification_weight": 3.0, "loss.kind": "cross_entropy", "loss.positive_weight": 3.0}
INNER_AND_RUNGS = {"inner_folds": 5, "pruning": {"folds": "wilcoxon", "epochs": "successive_halving"}}


def right(cell: Cell) -> int:
    """More weight on the class is better, focal loss worse, and an inner fold and an epoch make a little difference."""
    training = cell.spec.training
    part = 0 if cell.spec.inner is None else cell.spec.inner.fold % 3
    return round(
        38 + 6 * training.loss.classification_weight - 10 * (training.loss.kind == "focal") + training.epochs / 9 + part
    )


@pytest.fixture
def plan(demo) -> Callable[..., SearchPlan]:
    spec = make_spec(demo, "mt_estan", "multitask")
    training = spec.training.model_copy(update={"epochs": 27})
    spec = spec.model_copy(update={"cohort": ("busi",), "training": training})

    def make(**settings: Any) -> SearchPlan:
        usual = {"space": SPACE, "trials": 10, "objective": "balanced_accuracy"}
        return plan_of(spec, PAPER, folds=(1,), **{**usual, **settings})

    return make


def searched(plan: SearchPlan, folder: Path, runner: RecordedRunner | None = None) -> SearchResult:
    return run_search((runner or RecordedRunner(right)).as_runner, plan, folder)


def without_costs(result: SearchResult) -> SearchResult:
    """What a study found; how much of it was trained, and not found in the ledger, depends on what was cut off."""
    trials = tuple(trial.model_copy(update={"epochs": 0}) for trial in result.trials)
    return result.model_copy(update={"trials": trials})


def journal(folder: Path) -> Path:
    return next(folder.glob("*.journal"))


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsgaii", "nsgaiii", "brute_force"])
def test_the_first_trial_is_the_papers_and_the_rest_is_the_samplers(plan, tmp_path, sampler):
    result = searched(plan(sampler=sampler), tmp_path)
    assert [trial.number for trial in result.trials] == list(range(10))
    assert result.trials[0].parameters == PAPER
    kinds = {trial.parameters["loss.kind"]: set(trial.parameters) for trial in result.trials}
    shared = {"loss.classification_weight", "loss.kind"}
    assert kinds == {
        "cross_entropy": shared | {"loss.positive_weight"},
        "focal": shared | {"loss.gamma", "loss.alpha"},
    }
    assert len({str(trial.parameters) for trial in result.trials}) > 7


@pytest.mark.parametrize("name", ["gp", "cmaes", "annealing"])
def test_a_sampler_that_is_not_to_be_had_is_named_with_those_that_are(name):
    with pytest.raises(
        ConfigError, match=rf"must be one of tpe, random, .*brute_force but got '{name}'.*gp needs torch"
    ):
        make_sampler(name, 0)


def test_studies_of_different_folds_share_nothing(plan, tmp_path):
    both = plan().model_copy(update={"folds": (1, 2)})
    result = searched(both, tmp_path)
    one, two = ([trial for trial in result.trials if trial.fold == fold] for fold in (1, 2))
    assert [trial.parameters for trial in one] != [trial.parameters for trial in two]
    alone = searched(both.model_copy(update={"folds": (2,)}), tmp_path / "alone")
    assert [trial.parameters for trial in alone.trials] == [trial.parameters for trial in two]


class Killed(BaseException):
    """The process is gone."""


class Dying(RecordedRunner):
    """Dies at a cell: before it is recorded."""

    left = 0

    def run(self, cells: Any, name: str) -> Any:
        for cell in cells:
            if cell.key not in self.finished:
                if self.left == 0:
                    raise Killed
                self.left -= 1
                super().run([cell], name)
        return super().run(cells, name)


@pytest.mark.parametrize("settings", [{}, {"sampler": "nsgaii"}, INNER_AND_RUNGS], ids=["tpe", "nsgaii", "pruned"])
def test_a_study_that_is_killed_again_and_again_ends_as_one_that_is_not(plan, tmp_path, settings):
    undisturbed = RecordedRunner(right)
    expected = searched(plan(**settings), tmp_path / "undisturbed", undisturbed)
    chance = random.Random(4)
    dying = Dying(right)
    result, deaths = None, 0
    while result is None:
        dying.left = chance.randint(0, 4 if settings != INNER_AND_RUNGS else 30)
        try:
            result = searched(plan(**settings), tmp_path / "killed", dying)
        except Killed:
            deaths += 1
    assert deaths > 1
    assert without_costs(result) == without_costs(expected)
    assert dying.finished.keys() == undisturbed.finished.keys()


def test_a_kill_between_the_trials_of_a_group_repeats_none(plan, tmp_path, monkeypatch):
    expected = searched(plan(), tmp_path / "undisturbed")
    runner = RecordedRunner(right)
    add_trial = optuna.Study.add_trial
    written: list[optuna.trial.FrozenTrial] = []

    def add(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if len(written) == 6 and study.study_name.startswith("tried"):
            raise Killed
        written.append(trial)
        add_trial(study, trial)

    monkeypatch.setattr(optuna.Study, "add_trial", add)
    with pytest.raises(Killed):
        searched(plan(), tmp_path / "killed", runner)
    monkeypatch.undo()
    trained = len(runner.finished)
    result = searched(plan(), tmp_path / "killed", runner)
    assert without_costs(result) == without_costs(expected)
    assert len(runner.finished) - trained == len({str(trial.parameters) for trial in expected.trials}) - trained


def test_a_full_disk_is_told_and_nothing_that_was_trained_is_lost(plan, tmp_path, monkeypatch):
    expected = searched(plan(), tmp_path / "undisturbed")
    runner = RecordedRunner(right)
    append = JournalFileBackend.append_logs
    calls = []

    def full(backend: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        calls.append(logs)
        if len(calls) > 4:
            with journal(tmp_path / "full").open("a") as file:
                file.write('{"op_code": 4, "half')
            raise OSError(errno.ENOSPC, "No space left on device")
        append(backend, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    with pytest.raises(LedgerError, match=r"No space left on device.*Make room on its disk"):
        searched(plan(), tmp_path / "full", runner)
    monkeypatch.undo()
    assert without_costs(searched(plan(), tmp_path / "full", runner)) == without_costs(expected)


def test_two_drivers_on_one_study_keep_each_trial_once_and_agree(plan, tmp_path):
    """The second driver runs whole while the first is at a group: what it kept first is what counts."""
    expected = searched(plan(), tmp_path / "undisturbed")
    shared: dict[Any, Cell] = {}
    other = RecordedRunner(right, finished=shared)
    results = []

    class Slow(RecordedRunner):
        def run(self, cells: Any, name: str) -> Any:
            done = super().run(cells, name)
            if len(self.asked) == 2:
                results.append(searched(plan(), tmp_path / "shared", other))
            return done

    results.append(searched(plan(), tmp_path / "shared", Slow(right, finished=shared)))
    assert [without_costs(result) for result in results] == [without_costs(expected)] * 2
    lines = journal(tmp_path / "shared").read_text().splitlines()
    assert sum('"op_code": 4' in line or '"op_code":4' in line for line in lines) == 10


def test_a_trial_that_another_driver_saw_fail_is_failed_for_both(plan, tmp_path):
    unlucky = RecordedRunner(right, fails=lambda cell: cell.spec.training.loss.kind == "focal")
    first = searched(plan(), tmp_path, unlucky)
    failed = [trial for trial in first.trials if trial.state == "failed"]
    assert failed
    assert all("the loss diverged" in trial.reason for trial in failed)
    lucky = RecordedRunner(right)
    assert without_costs(searched(plan(), tmp_path, lucky)) == without_costs(first)
    assert all(cell.spec.training.loss.kind != "focal" for cell in lucky.finished.values())


def test_trials_of_another_version_stay_as_they_were(plan, tmp_path, caplog):
    before = searched(plan(trials=4), tmp_path)
    trials = Trials(RecordedRunner(right).as_runner, plan(trials=8), plan().networks[0], 1)
    trials.seed = lambda: 99  # type: ignore[method-assign]
    records = run_study(trials, tmp_path)
    assert [trial.parameters for trial in records[:4]] == [trial.parameters for trial in before.trials]
    assert "was proposed by another version, and stays as it was" in caplog.text
    assert len(records) == 8


def test_a_search_with_more_trials_goes_on_where_it_was(plan, tmp_path):
    runner = RecordedRunner(right)
    few = searched(plan(trials=4), tmp_path, runner)
    more = searched(plan(trials=8), tmp_path, runner)
    assert more.trials[:4] == few.trials
    assert searched(plan(trials=8), tmp_path / "at once").trials == more.trials
    assert searched(plan(trials=3), tmp_path, runner).trials == few.trials[:3]
    assert len(list(tmp_path.glob("*.journal"))) == 1


@pytest.mark.parametrize(
    "settings", [{"objective": "f1"}, {"inner_folds": 3}, {"seeds": 2}, {"epochs": 9}, {"sampler": "random"}]
)
def test_what_would_not_be_the_same_study_has_a_journal_of_its_own(plan, tmp_path, settings):
    searched(plan(), tmp_path)
    searched(plan(**settings), tmp_path)
    assert len(list(tmp_path.glob("*.journal"))) == 2


def pruned_by(result: SearchResult) -> dict[int, str]:
    return {trial.number: trial.reason for trial in result.trials if trial.state == "pruned"}


@pytest.mark.parametrize(
    ("pruning", "reason"),
    [
        ({"epochs": "median"}, "after 3 epochs, by median"),
        ({"epochs": "successive_halving"}, "after 3 epochs, by successive halving"),
        ({"epochs": "hyperband"}, "after 3 epochs, by hyperband"),
        ({"epochs": "median", "rungs": [5, 11]}, "after 5 epochs, by median"),
    ],
)
def test_a_trial_is_pruned_between_epochs(plan, tmp_path, pruning, reason):
    runner = RecordedRunner(right)
    result = searched(plan(trials=20, pruning=pruning), tmp_path, runner)
    assert reason in pruned_by(result).values()
    assert 0 not in pruned_by(result)
    lengths = {trial.number: trial for trial in result.trials if trial.state == "pruned"}
    for trial in lengths.values():
        assert trial.values
        assert trial.epochs < 27
        assert trial.number != result.choices[0].trial
    best = max(trial.values[0] for trial in result.trials if trial.state == "complete")
    assert best >= max(trial.values[0] for trial in lengths.values())
    # Each call trains one group to one rung.
    for call in runner.asked:
        assert len({cell.spec.training.epochs for cell in call}) == 1


def test_a_trial_is_pruned_between_folds_when_it_is_worse_on_all_so_far(plan, tmp_path):
    result = searched(plan(inner_folds=5, pruning={"folds": "wilcoxon"}), tmp_path)
    reasons = pruned_by(result)
    assert set(reasons.values()) <= {f"after {count} of 5 steps, by wilcoxon" for count in (3, 4)}
    assert reasons
    trials = {trial.number: trial for trial in result.trials}
    best = trials[result.choices[0].best]
    for number in reasons:
        assert 3 <= len(trials[number].steps) < 5
        if number > best.number:
            assert all(own < its for own, its in zip(trials[number].steps, best.steps, strict=False))


def test_stages_rise_from_rungs_to_steps(plan):
    trials = Trials(RecordedRunner().as_runner, plan(**INNER_AND_RUNGS), plan().networks[0], 1)
    assert [(stage.epochs, stage.steps) for stage in stages(trials)] == [
        (3, 5), (9, 5), (None, 1), (None, 2), (None, 3), (None, 4), (None, 5)
    ]  # fmt: skip


def test_a_study_ends_when_more_would_gain_less_than_the_noise(plan, tmp_path):
    result = searched(plan(trials=60, stop="noise"), tmp_path)
    assert len(result.trials) < 60
    (stopped,) = result.stopped
    assert (stopped.fold, stopped.trials) == (1, len(result.trials))
    assert "less than the noise of validation" in stopped.reason
    never = searched(plan(trials=60), tmp_path)
    assert (len(never.trials), never.stopped) == (60, ())
    assert never.trials[: len(result.trials)] == result.trials


def test_several_objectives_under_a_constraint(plan, tmp_path):
    settings = {"objective": ["sensitivity", "specificity"], "constraint": {"sensitivity": 0.8}, "trials": 12}
    result = searched(plan(**settings), tmp_path)
    feasible = [trial for trial in result.trials if trial.constraints["sensitivity"] >= 0.8]
    assert result.choices[0].trial in {trial.number for trial in feasible}
    assert (
        max(trial.values[1] for trial in feasible)
        == next(trial for trial in result.trials if trial.number == result.choices[0].trial).values[1]
    )


def test_watchers_are_told_everything_again_when_a_search_is_resumed(plan, tmp_path):
    class Listener:
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def started(self, study: Trials) -> None:
            self.heard.append(study.name)

        def told(self, trial: TrialRecord) -> None:
            self.heard.append(trial)

        def chosen(self, result: SearchResult) -> None:
            self.heard.append(result)

    runner = RecordedRunner(right)
    one, two = Listener(), Listener()
    for listener in (one, two):
        result = run_search(runner.as_runner, plan(), tmp_path, [listener])
        assert listener.heard[1:-1] == list(result.trials)
    assert one.heard == two.heard


@pytest.mark.parametrize("kind", GARBLE)
def test_what_is_whole_of_a_damaged_journal_is_used(plan, tmp_path, kind, caplog):
    runner = RecordedRunner(right)
    expected = searched(plan(trials=4), tmp_path, runner)
    path = journal(tmp_path)
    spoilt = b"".join(GARBLE[kind](path.read_bytes().splitlines(keepends=True)))
    path.write_bytes(spoilt)
    asked = len(runner.finished)
    assert without_costs(searched(plan(trials=4), tmp_path, runner)) == without_costs(expected)
    assert len(runner.finished) == asked
    assert "1 are lost" in caplog.text
    assert next(tmp_path.glob("*.damaged-*")).read_bytes() == spoilt
    assert searched(plan(trials=4), tmp_path, runner).trials[:3] == expected.trials[:3]


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 300, bytes(range(256)), b"{}\n" * 3], ids=["empty", "0", "all", "{}"]
)
def test_a_journal_of_which_nothing_can_be_read_begins_anew(plan, tmp_path, content):
    expected = searched(plan(trials=4), tmp_path)
    journal(tmp_path).write_bytes(content)
    assert searched(plan(trials=4), tmp_path) == expected
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged-*")] == [content] * bool(content)


def test_a_journal_that_cannot_be_opened_is_named(plan, tmp_path):
    searched(plan(trials=1), tmp_path)
    path = journal(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(LedgerError, match=rf"{path.name} cannot be opened: .*move it away"):
        searched(plan(trials=1), tmp_path)


def test_a_flat_search_is_one_study(plan, tmp_path):
    flat = plan()
    settings = flat.settings.model_copy(update={"nested": False, "folds": (1, 2)})
    runner = RecordedRunner(right)
    result = searched(flat.model_copy(update={"settings": settings, "folds": (1, 2, 3)}), tmp_path, runner)
    assert {trial.fold for trial in result.trials} == {FLAT}
    assert {cell.fold for cell in runner.finished.values()} == {1, 2}
    assert result.nested is False
