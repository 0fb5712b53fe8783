"""Promotion on a real store: who competes, registered once with its evidence, forced, rolled back, verified."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from promotion_store import DATA, FOLDS, NAME, SEEDS, TUNED, Store, copy_store, fold_frame
from tiny_package import speckle

from bus_mlops.consumer.client import load_model
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.errors import EvaluationError, LedgerError, PromotionConflictError, RegistryError
from bus_mlops.evaluation.roc import youden_threshold
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.files import sha256_file
from bus_mlops.project import parse_config
from bus_mlops.promotion import judgement, records
from bus_mlops.promotion.aliases import Aliases
from bus_mlops.promotion.candidate_package import calibration_of, member_cells, threshold_of
from bus_mlops.promotion.comparing import compare_models
from bus_mlops.promotion.contenders import named_by_hand, rivals_of
from bus_mlops.promotion.inputs import registered_name
from bus_mlops.promotion.judgement import judge_candidates
from bus_mlops.promotion.looks import read_taken
from bus_mlops.promotion.promote import REPORT_TAG, Outcome
from bus_mlops.promotion.registration import check_files
from bus_mlops.promotion.rivals import ranked_on_validation
from bus_mlops.promotion.rollback import roll_back
from bus_mlops.promotion.trained_model import _without_seed, find_trained_model
from bus_mlops.promotion.verification import verify_version
from bus_mlops.spec import CellKey
from bus_mlops.tracking.ledger import MODEL, PREDICTIONS
from bus_mlops.tracking.params import flatten


@pytest.mark.parametrize(("kind", "name"), [("phantom", NAME), ("real", "bus-mt-estan")])
def test_a_model_of_phantoms_says_so_in_its_name(demo_values, kind, name):
    demo_values["data"]["kind"] = kind
    assert registered_name(parse_config(demo_values)) == name


def test_the_registered_name_is_that_of_the_candidate_network(demo_values):
    demo_values["promotion"].update(candidate_network="mobilenet_multitask", candidates=["approaches"])
    assert registered_name(parse_config(demo_values)) == "bus-mobilenet-multitask-phantom"


def test_folds_and_seeds_of_a_spec_are_one_model_and_only_common_seeds_count(store):
    judgement = store.judge()
    assert judgement.candidate.seeds == judgement.baseline.seeds == tuple(sorted(SEEDS))
    values = judgement.report.rules[2].values
    assert (values["folds"], values["seeds"], values["method"]) == (2, 2, "clustered")
    assert "2 folds x 2 seeds" in judgement.report.rules[2].sentence
    assert judgement.report.rules[0].passed, judgement.report.to_markdown()
    against = store.judge(baseline="mobilenet")
    assert against.candidate.seeds == against.baseline.seeds == SEEDS[:1]
    assert "7" in against.report.notes[-1]
    some_fold = judgement.candidate.runs[CellKey(2, 7)]
    assert find_trained_model(store.ledger, some_fold).runs == judgement.candidate.runs


def test_what_a_network_trained_on_follows_from_what_it_validated_on(store):
    """Which may be another fraction than that of the folds (here 40 of 80); the ratio of G2 takes the smaller."""
    judged = store.judge()
    assert judged.comparison.context.n_train == {1: 40, 2: 40}
    rows = judged.candidate.predictions
    fewer = rows[(rows["part"] == "test") | (rows["fold"] == 2) | rows["image_id"].str.endswith(("0", "1", "2", "3"))]
    small = replace(judged.candidate, predictions=fewer)
    known = set(rows.loc[(rows["part"] == "validation") & (rows["fold"] == 2), "image_id"])
    learnt = rows[(rows["part"] == "test") & (rows["fold"] == 1) & ~rows["image_id"].isin(known)]
    more = learnt.drop_duplicates("image_id").head(10).assign(part="validation", fold=2)
    large = replace(judged.candidate, predictions=pd.concat([rows, more]))
    contexts = [compare_models([model, judged.baseline], judged.terms).context for model in (small, large)]
    assert [context.n_train for context in contexts] == [{1: 40, 2: 40}, {1: 40, 2: 30}]
    both = compare_models([small, small], judged.terms).context
    assert both.n_train[1] == 80 - small.part("validation", CellKey(1, 7))["image_id"].nunique() > 40


def test_a_seed_recorded_by_an_earlier_version_belongs_to_the_others(demo):
    params = flatten(make_spec(demo, "mt_estan", "multitask").model_dump(mode="json"))
    earlier = {name: value for name, value in params.items() if name != "training.kept_epoch"} | {"seed": "7"}
    later = {**params, "training.kept_epoch": "last"}
    same, other, ours = (
        _without_seed(cast("Any", SimpleNamespace(data=SimpleNamespace(params=each))))
        for each in (earlier, later, params)
    )
    assert same == ours != other


def test_threshold_and_calibration_come_from_validation_parts_alone(store):
    candidate = store.judge().candidate
    cells = member_cells(candidate, "all", "roc_auc")
    assert cells == [CellKey(fold, seed) for seed in sorted(SEEDS) for fold in FOLDS]
    assert member_cells(candidate, "one", "roc_auc")[0] in cells
    calibrations = [calibration_of(candidate, cell) for cell in cells]
    chosen = threshold_of(candidate, cells, calibrations, "youden")
    labels, means = [], []
    for fold in FOLDS:
        parts = [candidate.part("validation", CellKey(fold, seed)) for seed in sorted(SEEDS)]
        fits = [calibration_of(candidate, CellKey(fold, seed)) for seed in sorted(SEEDS)]
        labels.append(parts[0]["label"].to_numpy())
        means.append(np.mean([fit.apply(part["probability"]) for fit, part in zip(fits, parts, strict=True)], axis=0))
    assert chosen == youden_threshold(np.concatenate(labels), np.concatenate(means))
    flipped = candidate.predictions.assign(
        probability=lambda f: f["probability"].where(f["part"] == "validation", 1 - f["probability"])
    )
    other = replace(candidate, predictions=flipped)
    assert [calibration_of(other, cell) for cell in cells] == calibrations
    assert threshold_of(other, cells, calibrations, "youden") == chosen
    assert threshold_of(candidate, cells, calibrations, "half") == 0.5


@pytest.mark.parametrize("metric", ["roc_auc", "balanced_accuracy", "accuracy", "f1", "false_negative_rate", "brier"])
def test_the_first_baseline_is_the_best_network_that_is_not_mt_estan(store, metric):
    assert store.judge(metric=metric).baseline.network == "resnet50"
    assert store.judge(metric=metric, baseline="best").baseline.network == "resnet50"


def test_a_challenger_of_nobody_is_compared_with_the_baseline_of_the_candidate(store):
    judged = judge_candidates(store.inputs(baseline="mobilenet"), challenger="approaches")
    assert (judged.candidate.strategy, judged.candidate.network) == ("approaches", "mt_estan")
    assert judged.baseline.network == "mobilenet"


def test_a_named_baseline_and_named_runs_are_taken(store):
    named = store.judge(baseline="mobilenet")
    assert named.baseline.network == "mobilenet"
    run, other = named.baseline.runs[CellKey(1, 2021)], store.judge().baseline.runs[CellKey(1, 2021)]
    swapped = store.judge([other], run, candidate_network="resnet50")
    assert (swapped.candidate.network, swapped.baseline.network) == ("resnet50", "mobilenet")
    assert swapped.report.model_name == "bus-resnet50-phantom"
    with pytest.raises(
        RegistryError,
        match=rf"of the network resnet50, but {NAME} holds models of mt_estan only: set promotion.candidate_network to",
    ):
        store.judge([other], run)
    with pytest.raises(LedgerError, match="run nobody is not in the store"):
        store.judge(["nobody"])


def test_a_baseline_named_by_hand_is_a_change_where_it_is_another_than_the_terms_ask_for(store):
    judgement, inputs = store.judge(), store.inputs()
    asked = [judgement.candidate]
    assert named_by_hand(inputs, asked, None, judgement.baseline) == ()
    (clause,) = named_by_hand(inputs, asked, None, judgement.candidate)
    assert clause == (
        "--baseline names tuned-mt_estan_loss: Mt_Estan, and promotion.baseline is champion, approaches: Resnet50"
    )


def test_rivals_come_from_both_tables_and_name_a_class(store, tmp_path):
    frame = pd.read_parquet(store.predictions / "approaches.parquet")
    masks_only = frame[frame["network"] == "resnet50"].assign(network="estan", probability=float("nan"))
    pd.concat([frame, masks_only]).to_parquet(tmp_path / "approaches.parquet")
    better = frame[frame["network"] == "resnet50"].assign(network="vgg16", strategy="multitask")
    better["probability"] = better["label"].astype(float)
    better.to_parquet(tmp_path / "multitask.parquet")
    config = store.config.model_copy(update={"strategies": ("multitask", "approaches")})
    rivals = rivals_of(config, tmp_path)
    assert set(rivals["network"]) == {*frame["network"], "vgg16"}
    assert set(rivals_of(store.config, tmp_path)["network"]) == set(frame["network"])  # multitask is not planned
    with pytest.raises(EvaluationError, match="add multitask or approaches"):
        rivals_of(store.config.model_copy(update={"strategies": ("losses",)}), tmp_path)


def test_a_baseline_is_chosen_on_validation_alone_and_equals_by_name(store):
    frame = pd.read_parquet(store.predictions / "approaches.parquet")
    rows = {network: frame[frame["network"] == network] for network in ("resnet50", "mobilenet")}
    found = ranked_on_validation(rows, "roc_auc")
    assert list(found) == ["resnet50", "mobilenet"]
    # A perfect test part makes no network the better one, nor a metric of which less is better.
    perfect = rows["mobilenet"].assign(probability=lambda f: f["probability"].where(f["part"] != "test", f["label"]))
    assert ranked_on_validation(rows | {"mobilenet": perfect}, "roc_auc") == found
    errors = ranked_on_validation(rows, "brier")
    assert list(errors) == list(found)
    assert 0 < errors["resnet50"] < errors["mobilenet"]
    assert list(ranked_on_validation({"b": perfect, "c": perfect, "a": perfect}, "roc_auc")) == ["a", "b", "c"]
    untold = rows["mobilenet"][rows["mobilenet"]["part"] == "test"]
    with pytest.raises(EvaluationError, match=r"mobilenet cannot be compared with others .* name a network in"):
        ranked_on_validation(rows | {"mobilenet": untold}, "roc_auc")


def test_of_several_refused_candidates_the_best_on_validation_is_returned(store, monkeypatch):
    monkeypatch.setattr(judgement, "validation_score", lambda frame, _: frame["strategy"].iloc[0] == "approaches")
    worse = store.judge(candidates=("mt_estan_loss", "approaches"), minimum_sensitivity=1.0, baseline="resnet50")
    assert not worse.report.passed
    assert worse.candidate.strategy == "approaches"


def test_several_candidates_share_alpha_and_the_best_is_chosen(store):
    judgement = store.judge(candidates=("mt_estan_loss", "approaches"))
    assert judgement.candidate.strategy == TUNED
    assert [rival.strategy for rival in judgement.rivals] == ["approaches"]
    assert judgement.report.rules[2].values["candidates"] == 2
    assert "Candidate of the same decision: Mt_Estan." in judgement.report.notes


@pytest.mark.parametrize("missing", [TUNED, "approaches"])
def test_missing_predictions_are_an_error_that_names_the_file(store, tmp_path, missing):
    for path in (store.predictions).iterdir():
        if path.stem != missing:
            shutil.copy(path, tmp_path)
    with pytest.raises(EvaluationError, match=rf"{missing}\.parquet is missing: run `dvc repro`"):
        judge_candidates(replace(store.inputs(), predictions=tmp_path))


def test_predictions_that_the_ledger_does_not_know_and_other_folds_are_refused(store, tmp_path):
    shutil.copytree(store.predictions, tmp_path, dirs_exist_ok=True)
    frame = pd.read_parquet(tmp_path / f"{TUNED}.parquet").assign(fingerprint="of another database")
    frame.to_parquet(tmp_path / f"{TUNED}.parquet")
    with pytest.raises(LedgerError, match="no finished run for fold 1 of mt_estan"):
        judge_candidates(replace(store.inputs(), predictions=tmp_path))
    swapped = fold_frame().rename(columns={"fold_1": "fold_2", "fold_2": "fold_1"})
    other = Folds.checked(swapped[fold_frame().columns], "other folds")
    with pytest.raises(EvaluationError, match="was not trained on these folds"):
        judge_candidates(replace(store.inputs(), folds=other))


def test_a_whole_life_refused_forced_promoted_rolled_back_and_verified(store, tmp_path):
    client = store.ledger.client

    # Refused: registered with its evidence and the alias `candidate`, once however often it is tried.
    refused = [store.promote(alpha=1e-9) for _ in range(2)]
    assert [each.decision for each in refused] == ["refused", "refused"]
    assert [each.fresh for each in refused] == [True, False]
    assert [rule.id for rule in refused[0].report.rules] == ["G0", "G1", "G2", "G3", "G4", "G5", "G6", "G7"]
    assert [rule.id for rule in refused[0].report.failed] == ["G2"]
    assert store.aliases() == Aliases(candidate="1")
    assert standing(store, "1") == ("refused", "refused", store.history()[0].record)

    # Forced: the same version, a record of its own, a tag that everybody sees.
    forced = store.promote(force_reason="the ward asked for it", alpha=1e-9)
    assert (forced.version, forced.decision, forced.is_champion) == ("1", "forced", True)
    assert store.aliases() == Aliases(champion="1")
    tags = client.get_model_version(NAME, "1").tags
    assert (tags["gate"], tags["forced"]) == ("refused", "the ward asked for it")
    assert "forced: the ward asked for it" in store.history()[0].why
    assert standing(store, "1") == ("forced", "refused", store.history()[0].record)

    # Passed: the champion is the candidate itself, so it is judged against what it was compared with then.
    judged_before = store.judge(alpha=0.9)
    raised = store.judge(alpha=0.9).report.rules[0]
    assert not raised.passed
    assert "promotion.alpha of this name on these images was 1e-09 and is 0.9" in raised.sentence
    # What was amended stays so for the same evidence.
    passed = [store.promote(members="all", alpha=0.9, amend=reason) for reason in ("it was mistyped", None)]
    assert [(each.version, each.decision, each.fresh) for each in passed] == [
        ("2", "promoted", True),
        ("2", "promoted", False),
    ]
    assert passed[0].report.passed, passed[0].report.to_markdown()
    assert store.aliases() == Aliases(champion="2", previous="1")

    # Two looks: what ships is another one, and the first, which promoted nothing through the gate, is spent.
    looks = [read_taken(each.look) for each in reversed(store.history())]
    assert [each and each.number for each in looks] == [1, 1, 2]
    assert [each and each.level for each in looks] == pytest.approx([6e-10, 6e-10, 0.54])
    assert store.history()[0].amended == "it was mistyped"
    said = "Look 2 of this name at these 160 test images: p must be below 0.54; 0.36 of alpha 0.9 is left after it"
    assert any(note.startswith(said) for note in passed[0].report.notes)

    # A challenger is judged alone against the champion, whatever else `promotion.baseline` says.
    challenge = judge_candidates(store.inputs(alpha=0.9, baseline="mobilenet"), challenger="approaches")
    assert (challenge.candidate.strategy, challenge.baseline.strategy) == ("approaches", TUNED)
    assert "Look 3 of this name" in challenge.report.notes[-1] + " ".join(challenge.report.notes)

    # A decision against a champion that is gone is a conflict, on the record, and moves nothing.
    with pytest.raises(PromotionConflictError, match="was version 1 when this was decided and is version 2 now"):
        store.decide(replace(judged_before, report=store.judge(alpha=0.8).report), alpha=0.8)
    assert store.aliases() == Aliases(champion="2", previous="1")
    assert [each.decision for each in store.history()] == ["conflict", "promoted", "forced", "refused"]
    assert standing(store, "1") == ("replaced", "refused", store.history()[1].record)
    assert standing(store, "2") == ("promoted", "passed", store.history()[1].record)

    check_lineage(store, passed[0])
    check_rollback(store)
    moved = copy_store(store, tmp_path / "moved")  # its addresses rewritten, as `bus-mlops relocate` does
    assert [check for check in verify_version(moved.ledger, NAME, "2") if not check.holds] == []
    assert standing(moved, "2")[:2] == ("promoted", "passed")
    check_verification(store)


def standing(store: Store, version: str) -> tuple[str, str, str]:
    """What whoever loads the version is told."""
    told = load_model(f"models:/{NAME}/{version}", store.config.tracking.uri).standing
    return told.state, told.gate, told.decision


def check_lineage(store: Store, outcome: Outcome) -> None:
    client = store.ledger.client
    candidate = store.judge().candidate
    version = client.get_model_version(NAME, outcome.version)
    assert json.loads(version.tags["lineage.runs"]) == list(candidate.runs.values())
    assert version.tags["data_digest"] == DATA
    assert version.tags["folds_digest"] == candidate.lineage.folds_digest
    assert version.run_id is not None
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    gate = {item.path for item in client.list_artifacts(version.run_id, "gate")}
    assert {"gate/gate.json", "gate/gate.md", "gate/evidence.json", "gate/folds.csv"} <= gate
    report = client.download_artifacts(version.run_id, "gate/gate.json")
    assert sha256_file(Path(report)) == version.tags[REPORT_TAG]
    model = load_model(f"models:/{NAME}@champion", store.config.tracking.uri)
    assert model.version == outcome.version
    assert len(model.package.members) == 4
    assert model.package.lineage["run.seed_7.fold_2"] == candidate.runs[CellKey(2, 7)]
    assert model.predict([speckle(50, 60)])[0].error is None
    last = store.history()[1]
    assert (last.champion_before, last.champion_after, last.who) == ("1", "2", records.who())


def check_rollback(store: Store) -> None:
    client, tracking = store.ledger.client, store.config.tracking
    with pytest.raises(RegistryError, match="needs --reason"):
        roll_back(client, tracking, NAME, "  ")
    done = roll_back(client, tracking, NAME, "worse on the new scanner")
    assert (done.champion_before, done.champion_after, done.why) == ("2", "1", "worse on the new scanner")
    assert store.aliases() == Aliases(champion="1", previous="2")
    assert store.history()[0].decision == "rolled back"
    assert standing(store, "2") == ("rolled back", "passed", done.record)
    assert standing(store, "1")[:2] == ("forced", "refused")
    assert not store.promote(members="all", alpha=0.9).is_champion  # the same evidence again does not undo it
    with pytest.raises(RegistryError, match=r"version 3 of .* was never champion"):
        roll_back(client, tracking, NAME, "why not", to="3")
    with pytest.raises(RegistryError, match="is champion already"):
        roll_back(client, tracking, NAME, "why not", to="1")
    roll_back(client, tracking, NAME, "the scanner was at fault", to="2")
    assert store.aliases() == Aliases(champion="2", previous="1")


def check_verification(store: Store) -> None:
    client = store.ledger.client
    checks = verify_version(store.ledger, NAME, "2")
    assert all(check.holds for check in checks), [check for check in checks if not check.holds]
    assert {"package files", "record", "gate report", "G2 superiority", "G6 package"} <= {
        check.what for check in checks
    }
    with pytest.raises(RegistryError, match="has no version 99"):
        verify_version(store.ledger, NAME, "99")

    version = client.get_model_version(NAME, "2")
    run = store.judge().candidate.runs[CellKey(1, 7)]
    stored = Path(client.get_run(run).info.artifact_uri.removeprefix("file://")) / PREDICTIONS
    card = check_files(client, version) / "artifacts" / "package" / "MODEL_CARD.md"
    contents = {path: path.read_bytes() for path in (stored, card)}
    frame = pd.read_csv(stored)
    frame.assign(probability=0.95 - 0.9 * frame["label"]).to_csv(stored, index=False)
    card.write_text("better than it is")
    assert version.run_id is not None
    client.set_tag(version.run_id, "why", "because")
    failed = {check.what: check.found for check in verify_version(store.ledger, NAME, "2") if not check.holds}
    assert "MODEL_CARD.md was changed" in failed["package files"]
    assert f"run {run} (Mt_Estan): predictions.csv is changed" in failed["predictions of the candidate"]
    assert "tags of the record" in failed["record"]
    assert failed["gate"] == "cannot be recomputed without the predictions"
    roll_back(client, store.config.tracking, NAME, "its files are in doubt")
    with pytest.raises(RegistryError, match=r"MODEL_CARD\.md was changed"):
        roll_back(client, store.config.tracking, NAME, "back to it all the same")
    for path, content in contents.items():
        path.write_bytes(content)


def test_a_registration_that_fails_leaves_a_failed_record_and_no_version(store):
    client = store.ledger.client
    judgement = store.judge(alpha=0.3)
    run = judgement.candidate.runs[CellKey(1, 7)]
    network = Path(client.get_run(run).info.artifact_uri.removeprefix("file://")) / MODEL
    content = network.read_bytes()
    network.write_bytes(b"no network")
    before = client.search_model_versions(f"name = '{NAME}'")
    with pytest.raises(LedgerError, match=r"model\.keras is changed"):
        store.decide(judgement, alpha=0.3)
    network.write_bytes(content)
    assert len(client.search_model_versions(f"name = '{NAME}'")) == len(before)
    experiment = client.get_experiment_by_name(records.EXPERIMENT).experiment_id
    assert len(client.search_runs([experiment], "attributes.status = 'FAILED'")) == 1
