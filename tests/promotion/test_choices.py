"""How a candidate's parameters were chosen: nested as its trials' runs say, refused where flat or where they do not."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from promotion_store import FOLDS, NAME, SEARCHED, SEEDS, TUNED, Store, make_search, record_search

from bus_mlops.consumer.client import load_model
from bus_mlops.errors import LedgerError
from bus_mlops.evaluation.searched import FLAT, SearchResult
from bus_mlops.promotion.choices import find_choice, with_choice
from bus_mlops.promotion.refit import refitted_folds
from bus_mlops.promotion.trained_model import RecordedChoice, TrainedModel, find_trained_model
from bus_mlops.promotion.verification import verify_version
from bus_mlops.spec import CellKey


def changed(result: SearchResult, kind: str, number: int, **values: Any) -> SearchResult:
    """A search's result with one of its trials or choices changed."""
    each = list(getattr(result, kind))
    each[number] = each[number].model_copy(update=values)
    return result.model_copy(update={kind: tuple(each)})


def problems(store: Store, model: TrainedModel, result: SearchResult | None) -> str:
    choice = RecordedChoice(how="nested", search=SEARCHED, result=result)
    return "; ".join(with_choice(store.ledger, model, choice, store.folds).lineage.choice_problems)


def test_what_the_trials_runs_say_holds_and_everything_else_is_noticed(store: Store) -> None:
    candidate = store.judge().candidate
    assert (candidate.lineage.chosen, candidate.lineage.search) == ("nested", SEARCHED)
    assert candidate.lineage.parameters == "dropout 0.4 (the same in 2 folds)"
    result = make_search(store, 0)
    assert problems(store, candidate, result) == ""
    tested = result.trials[2].runs
    without = result.model_copy(update={"trials": result.trials[:1] + result.trials[2:]})
    forged: list[tuple[SearchResult | None, str]] = [
        (None, f"MLflow has no run of it for mt_estan .* run `dvc repro search@{SEARCHED}`"),
        (changed(result, "trials", 0, values=(1.0,)), r"fold 1: trial 0 has a roc_auc of 0\.\d+, not of 1\.0"),
        (changed(result, "trials", 0, runs=tested), "fold 1: trial 0 rests on run .* of fold 2; .* which is tested"),
        (changed(result, "trials", 0, parameters={"dropout": 0.3}), "trial 0 was trained with another dropout"),
        (
            changed(result, "choices", 0, trial=0),
            "trial 0 was taken, but .* lead to trial 1 .*are not those of trial 0",
        ),
        (changed(result, "choices", 0, parameters={"dropout": 0.5}), r"\(fold 1\) was trained with another dropout"),
        (changed(result, "choices", 1, images="0" * 64), "fold 2: the images that it rests on are not those"),
        (changed(result, "choices", 1, fold=9), "nothing was chosen for fold 2"),
        (result.model_copy(update={"standard_errors": 99.0}), "trial 1 was taken, but .* lead to trial 0"),
        (result.model_copy(update={"constraint": {"sensitivity": 0.5}}), "has a sensitivity of .*, not of nan"),
        (
            without,
            f"no run of the search has this best.json: run `dvc repro --force search@{SEARCHED} tuned@{SEARCHED}`",
        ),
        (changed(result, "trials", 1, runs=("nobody",)), "fold 1: .*nobody"),
    ]
    for each, said in forged:
        found = problems(store, candidate, each)
        assert re.search(said, found), (said, found)


def test_the_trials_that_count_are_those_of_the_study_that_chose_and_of_its_time(store: Store) -> None:
    candidate = store.judge().candidate
    result = make_search(store, 0)
    (own,) = store.ledger.runs(f"tags.kind = 'search' and tags.`search.name` = '{SEARCHED}'")
    # Begun anew under the same name, with another space or sampler, it has more trials.
    more = result.model_copy(update={"trials": (*result.trials, result.trials[0].model_copy(update={"number": 2}))})
    record_search(store, more)
    assert problems(store, candidate, result) == problems(store, candidate, more) == ""

    place = {"search.fold": "1", "trial.number": "2", "mlflow.parentRunId": own.info.run_id}
    trial = store.ledger.client.create_run(store.ledger.experiment, tags={"kind": "trial", **place}).info
    store.ledger.client.set_terminated(trial.run_id, "FINISHED")
    assert "trial 2 of fold 1 is complete in MLflow and not among those" in problems(store, candidate, result)
    # Of what was judged before that trial it is no part.
    choice = RecordedChoice(how="nested", search=SEARCHED, result=result)
    assert candidate.choice == choice
    before = with_choice(store.ledger, candidate, choice, store.folds, until=trial.start_time - 1)
    assert before.lineage.choice_problems == ()


def test_a_flat_choice_is_refused_with_the_remedy(store: Store) -> None:
    flat = make_search(store, 0)
    choice = flat.choices[0].model_copy(update={"fold": FLAT})
    record_search(store, flat.model_copy(update={"nested": False, "choices": (choice,)}))
    judgement = store.judge()
    integrity = judgement.report.rules[0]
    assert not integrity.passed
    assert f"set `nested: true` in searches.{SEARCHED} of params.yaml and run `dvc repro`" in integrity.sentence
    assert integrity.values["chosen"] == "flat"
    # Nor does it help to name its runs.
    named = find_trained_model(store.ledger, judgement.candidate.runs[CellKey(1, SEEDS[0])])
    assert find_choice(store.ledger, named).how == "flat"
    fixed = store.judge(candidates=("approaches",)).candidate
    assert (fixed.lineage.chosen, fixed.lineage.choice_problems) == ("fixed", ())


def test_a_model_that_differs_by_fold_is_judged_packaged_verified_and_compared_with(store: Store) -> None:
    """For fold 1 the search leaves its first trial, with which the network of fold 2 is trained."""
    record_search(store, make_search(store, 1))
    tuned, approaches = (pd.read_parquet(store.predictions / f"{name}.parquet") for name in (TUNED, "approaches"))
    own = approaches[(approaches["network"] == "mt_estan") & (approaches["fold"] == 2)].assign(strategy=TUNED)
    pd.concat([tuned[tuned["fold"] == 1], own]).to_parquet(store.predictions / f"{TUNED}.parquet")
    # The tables tag every run that a strategy has asked for.
    finished = store.ledger.finished()
    by_fold = {fold: run for (print_, fold), run in finished.items() if print_ in set(own["fingerprint"])}
    parent = store.ledger.client.get_run(by_fold[2]).data.tags["mlflow.parentRunId"]
    store.ledger.client.set_tag(parent, f"strategy.{TUNED}", "Mt_Estan")

    outcome = store.promote("one", force_reason="a test", alpha=0.5)
    candidate = store.judge(baseline="best").candidate
    assert len(candidate.distinct_fingerprints) == 2
    assert candidate.strategy == TUNED
    assert set(candidate.runs) == {CellKey(fold, SEEDS[0]) for fold in FOLDS}
    assert refitted_folds(candidate) == (1,)
    assert candidate.lineage.parameters == "dropout 0.4, 0.5 (2 choices in 2 folds)"
    assert outcome.report.rules[0].passed, outcome.report.rules[0].sentence
    assert "chosen for each fold outside its test part: dropout 0.4, 0.5" in outcome.report.rules[0].sentence
    version = store.ledger.client.get_model_version(NAME, outcome.version)
    assert version.tags["candidate.chosen"] == "nested"
    assert version.tags["candidate.parameters"] == candidate.lineage.parameters
    assert version.tags["candidate.fingerprint"].split(", ") == list(candidate.distinct_fingerprints)
    package = load_model(f"models:/{NAME}/{outcome.version}", store.config.tracking.uri)
    assert package.package.lineage["parameters"] == f"nested, by the search {SEARCHED}"
    assert candidate.lineage.parameters in (package.folder / "MODEL_CARD.md").read_text()
    checks = verify_version(store.ledger, NAME, outcome.version)
    assert all(check.holds for check in checks), [check for check in checks if not check.holds]

    # As champion it is what later candidates meet: exactly its runs.
    against = store.judge(candidates=("approaches",)).baseline
    assert against.runs == candidate.runs
    # By its runs it is found from the run of the tuned row.
    row = store.ledger.client.create_run(store.ledger.experiment, tags={"kind": "tuned"}).info.run_id
    with pytest.raises(LedgerError, match="does not name the runs of its folds"):
        find_trained_model(store.ledger, row)
    store.ledger.client.set_tag(row, "tuned.runs", ", ".join(candidate.runs.values()))
    assert candidate.runs.items() <= find_trained_model(store.ledger, row).runs.items()  # and another seed of a fold


@pytest.mark.parametrize(
    ("chosen", "folds"), [("aab", (1, 2)), ("abb", (2, 3)), ("abc", (1,)), ("abab", (1, 3)), ("a", (1,))]
)
def test_a_refit_takes_what_was_chosen_in_most_folds(chosen: str, folds: tuple[int, ...]) -> None:
    fingerprints = {CellKey(fold, seed): each for seed in (1, 2) for fold, each in enumerate(chosen, 1)}
    candidate: Any = SimpleNamespace(seeds=(1, 2), runs=fingerprints, fingerprints=fingerprints)
    assert refitted_folds(candidate) == folds
