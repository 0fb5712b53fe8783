"""Cohorts that no fold touches, from folds to verification: read once, and again only with a reason on record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from projects import small_profile, tiny_values
from tiny_package import SIZE
from typer.testing import CliRunner

from bus_mlops import paths
from bus_mlops.cli.app import app
from bus_mlops.consumer.client import BusModel, Prediction, load_model
from bus_mlops.dataset.assemble import assemble
from bus_mlops.dataset.audit import audit
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.make import make_folds, write_folds
from bus_mlops.dataset.folds.sealed import sealed_cohorts
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.gate.external import ExternalCohort
from bus_mlops.paths import BENCHMARK, FOLDS, PARAMS
from bus_mlops.project import parse_config
from bus_mlops.promotion import external_answers
from bus_mlops.promotion.candidate_package import calibration_of
from bus_mlops.promotion.external_cohorts import KEPT, _shared, digest_of, looks_of, read_cohorts, write_cohorts
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.judgement import judge_candidates
from bus_mlops.promotion.promote import Outcome, promote
from bus_mlops.promotion.recomputation import rows_of_package
from bus_mlops.promotion.trained_model import find_trained_model
from bus_mlops.promotion.verification import Check, verify_version
from bus_mlops.sources.phantoms.write import write_phantoms
from bus_mlops.tracking.ledger import MODEL, PREDICTIONS, Ledger

NAME = "bus-mt-estan-phantom"
WIDE = {
    "alpha": 0.5,
    "bootstrap": 200,
    "minimum_sensitivity": 0.0,
    "minimum_specificity": 0.0,
    "sensitivity_margin": 0.9,
    "source_margin": 0.9,
    "calibration_margin": 0.9,
    "external_margin": 0.9,
    "external_sensitivity_margin": 0.95,
}


@dataclass(frozen=True)
class Project:
    """A project whose folds leave out a locked part and the source busis, with recorded runs and real networks."""

    inputs: PromotionInputs
    first: str
    second: str
    baseline: str
    weak: str

    def promote(self, candidate: str, amend: str | None = None, **limits: Any) -> Outcome:
        return promote(self.with_limits(**limits), [candidate], self.baseline, amend=amend)

    def with_limits(self, **limits: Any) -> PromotionInputs:
        config = self.inputs.config
        changed = config.promotion.model_copy(update=limits)
        return replace(self.inputs, config=config.model_copy(update={"promotion": changed}))

    def verify(self, version: str, benchmark: Benchmark | None = None) -> dict[str, Check]:
        return {each.what: each for each in verify_version(self.inputs.ledger, NAME, version, benchmark)}


def record(
    project: PromotionInputs, network: str, dropout: float, gain: float, members: list[Path], folder: Path
) -> str:
    """Finished runs of both folds with predictions of that separation; returns the first of them."""
    ledger, frame = project.ledger, project.folds.frame
    spec = make_spec(project.config, "mt_estan" if network == "mt_estan" else "mobilenet", "multitask", input_size=SIZE)
    training = spec.training.model_copy(update={"dropout": dropout})
    spec = spec.model_copy(update={"network": network, "training": training})
    split = project.folds.digest(frame.loc[frame["source"] == "busi", "image_id"])
    # Of other images than those at hand, so that nobody compares what is made up here with what the networks say.
    tags = {"data_digest": "d" * 64, "folds_digest": split, "leaks": "0 groups", "folds_kind": "grouped"}
    fingerprint = f"{network}-{dropout}"
    parent = ledger.parents.find_or_create(spec, fingerprint, network.title(), tags)
    runs = []
    for fold, member in enumerate(members, start=1):
        rows = frame[frame[f"fold_{fold}"].isin(["validation", "test"])].rename(columns={f"fold_{fold}": "part"})
        # Alike on validation, so that calibrations and thresholds are the same, as are the networks.
        separation = np.where(rows["part"] == "test", gain, 2.0)
        logits = separation * (2 * rows["label"] - 1) + np.random.default_rng(fold).normal(size=len(rows))
        written = rows[["part", "image_id", "case_id", "group", "source", "label"]]
        written = written.assign(fold=fold, probability=1 / (1 + np.exp(-logits)), dice=np.nan, iou=np.nan)
        own = folder / f"{fingerprint}-{fold}"
        own.mkdir()
        written.to_csv(own / PREDICTIONS, index=False)
        shutil.copy(member, own / MODEL)
        named = {"git_clean": "yes", "network": network, "fingerprint": fingerprint, "fold": str(fold)}
        run = ledger.start(parent, network, spec, {**tags, **named})
        ledger.finish(run, {"roc_auc": 0.9}, own, {})
        runs.append(run)
    return str(runs[0])


@pytest.fixture(scope="module")
def project(tmp_path_factory, members, empty_store) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("cohorts")
    shutil.copy(empty_store, folder)
    values = tiny_values(small_profile())
    values["data"].update(root=str(folder / "phantom"), sources=["busi", "busis"])
    values["phantom"].update(images={"busi": 110, "busis": 40}, near_duplicates=4)
    values["folds"]["locked"] = 0.2
    values["cohorts"] = {"all": ["busi"], "multitask": ["busi"], "external": ["busis"]}
    values["promotion"].update(WIDE)
    values["tracking"].update(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts=str(folder / "artifacts"))
    (folder / PARAMS).write_text(yaml.safe_dump(values))
    config = parse_config(values)
    write_phantoms(config, folder / "phantom")
    benchmark = assemble(config, [SIZE], folder / BENCHMARK, workers=1)
    groups = audit(benchmark).groups
    made = make_folds(benchmark.frame, groups, config.folds, config.seed, config.external)
    write_folds(made, "grouped", folder / FOLDS)
    folds = Folds.open(folder / FOLDS / "folds.csv")
    inputs = PromotionInputs(config, Ledger(config.tracking), benchmark, folds, folder / paths.PREDICTIONS)
    runs = [
        record(inputs, network, dropout, gain, members, folder)
        for network, dropout, gain in (
            ("mt_estan", 0.5, 3.0),
            ("mt_estan", 0.4, 3.5),
            ("mobilenet", 0.5, 0.3),
            ("mt_estan", 0.3, 0.1),
        )
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Project(inputs, *runs)


def external(outcome: Outcome) -> Any:
    return outcome.report.rules[-1]


def test_a_whole_life(project: Project) -> None:
    check_that_nothing_is_opened_before_all_else_passed(project)
    first = check_that_a_candidate_that_passed_is_judged_on_both_cohorts_once(project)
    second = check_that_another_candidate_may_not_read_them_again(project)
    amended = check_that_a_reason_allows_it_and_stays_on_record(project, second)
    check_that_looks_without_a_record_or_decision_count(project)
    check_that_all_of_it_is_verified(project, second, amended)
    check_that_edited_images_and_answers_are_seen(project, first)


def check_that_nothing_is_opened_before_all_else_passed(project: Project) -> None:
    client = project.inputs.ledger.client
    # Refused by another rule: no look is spent.
    refused = project.promote(project.weak)
    assert refused.decision == "refused"
    assert "G2" in [rule.id for rule in refused.report.failed]
    assert "Not opened (locked, busis), and no look is spent" in external(refused).sentence
    assert looks_of(client, NAME) == []
    # Nor is one spent on how many of its images would be refused.
    unopened = load_model(f"models:/{NAME}/{refused.version}", project.inputs.config.tracking.uri)
    assert unopened.package.judged is not None
    assert unopened.package.judged.external == {}
    assert "On images that no fold touches: no evidence" in (unopened.folder / "MODEL_CARD.md").read_text()

    # Judging without deciding opens nothing either.
    shown = CliRunner().invoke(
        app, ["gate", "--candidate", project.first, "--baseline", project.baseline], catch_exceptions=False
    )
    assert "G7 external: not judged" in shown.stdout
    assert looks_of(client, NAME) == []


def check_that_a_candidate_that_passed_is_judged_on_both_cohorts_once(project: Project) -> Outcome:
    client = project.inputs.ledger.client
    # By the package and by the baseline's networks.
    with pytest.MonkeyPatch.context() as patch:
        read: list[int] = []
        patch.setattr(external_answers, "rows_of_package", counting(read, rows_of_package))
        first = project.promote(project.first)
    assert [rule.sentence for rule in first.report.failed] == []
    assert first.decision == "promoted"
    assert external(first).judged
    looks = looks_of(client, NAME)
    assert [look.cohort for look in looks] == ["busis", "locked"]
    sealed = {each.name: each for each in sealed_cohorts(project.inputs.folds.frame)}
    assert [look.images for look in looks] == [len(sealed[name].frame) for name in ("busis", "locked")]
    # The package was asked about each once, for its numbers and its shares alike.
    assert sorted(read) == sorted(look.images for look in looks)
    values = external(first).values
    package = load_model(f"models:/{NAME}@champion", project.inputs.config.tracking.uri)
    assert_numbers_are_those_of(package, project, values)
    judged = package.package.judged
    assert judged is not None
    assert list(judged.external) == ["locked", "busis"]
    assert judged.external["busis"].numbers["roc_auc"].estimate == values["busis_roc_auc"]
    card = (package.folder / "MODEL_CARD.md").read_text()
    assert "once, on the external source busis" in card
    shares = judged.external["busis"].shares
    assert "On the external source busis, which no fold touches, read once" in card
    assert all(f"| {what} | {share} |" in card for what, share in shares.items())

    (example,) = np.flatnonzero([same_picture(package, square) for square in project.inputs.benchmark.images(SIZE)])[:1]
    part = project.inputs.folds.frame.set_index("image_id")["fold_1"]
    assert part[project.inputs.benchmark.frame["image_id"].iloc[example]] not in ("locked", "external")

    # The same evidence again costs nothing.
    again = project.promote(project.first)
    assert (again.fresh, len(looks_of(client, NAME))) == (False, 2)
    return first


def check_that_another_candidate_may_not_read_them_again(project: Project) -> Outcome:
    client = project.inputs.ledger.client
    looks = looks_of(client, NAME)
    second = project.promote(project.second)
    assert [rule.id for rule in second.report.failed] == ["G7"]
    assert not external(second).judged
    assert f"was read on {looks[0].when}, for another decision ({looks[0].record})" in external(second).sentence
    assert len(looks_of(client, NAME)) == 2
    assert project.promote(project.second).fresh is False
    return second


def check_that_a_reason_allows_it_and_stays_on_record(project: Project, second: Outcome) -> Outcome:
    client = project.inputs.ledger.client
    amended = project.promote(project.second, amend="the scanner's settings were corrected")
    assert [rule.sentence for rule in amended.report.failed] == []
    assert amended.decision == "promoted"
    assert amended.version != second.version
    assert "once more, since: the scanner's settings were corrected" in external(amended).sentence
    told = CliRunner().invoke(app, ["history"], catch_exceptions=False).stdout
    assert "busis (" in told
    assert told.count("once more, since: the scanner's settings were corrected") == 2
    written = json.loads(CliRunner().invoke(app, ["history", "--json"], catch_exceptions=False).stdout)
    assert [each["amended"] for each in written["cohort_looks"]] == ["", "", *[looks_of(client, NAME)[-1].amended] * 2]
    return amended


def check_that_looks_without_a_record_or_decision_count(project: Project) -> None:
    client = project.inputs.ledger.client
    record_of_first = looks_of(client, NAME)[0].record
    client.delete_run(record_of_first)
    assert [look.record for look in looks_of(client, NAME)][:2] == [record_of_first] * 2
    told = CliRunner().invoke(app, ["history"], catch_exceptions=False).stdout
    assert f"the record {record_of_first} came to no decision; its look counts: busis" in told
    client.restore_run(record_of_first)


def check_that_all_of_it_is_verified(project: Project, second: Outcome, amended: Outcome) -> None:
    # Everything is recomputed from what is stored, and a sample from the images.
    for version in (second.version, amended.version):
        checks = project.verify(version, project.inputs.benchmark)
        assert [check for check in checks.values() if not check.holds] == []
        opened = version == amended.version
        assert ("answers on cohorts that no fold touches" in checks) is opened
    anew = checks["answers on cohorts that no fold touches"]
    assert anew.checked
    assert "images were predicted anew" in anew.found


def check_that_edited_images_and_answers_are_seen(project: Project, first: Outcome) -> None:
    # A cohort that was edited since is not taken for the one that was judged.
    frame = project.inputs.benchmark.frame
    edited = replace(
        project.inputs.benchmark,
        frame=frame.assign(digest=np.where(frame["source"] == "busis", "0" * 64, frame["digest"])),
    )
    later = project.verify(first.version, edited)["answers on cohorts that no fold touches"]
    assert not later.checked
    assert "busis: its images here are not those that were judged" in later.found
    assert project.verify(first.version)["G7 external"].holds

    # And answers that were edited since are no evidence.
    client = project.inputs.ledger.client
    run = client.get_run(str(client.get_model_version(NAME, first.version).run_id))
    answers = Path(run.info.artifact_uri.removeprefix("file://")) / "gate" / "external_busis.csv"
    answers.write_text(answers.read_text().replace("0.", "0.1", 1))
    assert not project.verify(first.version)["evidence"].holds


def counting(read: list[int], call: Callable[..., Any]) -> Callable[..., Any]:
    def counted(package: BusModel, benchmark: Benchmark, images: list[str]) -> Any:
        read.append(len(images))
        return call(package, benchmark, images)

    return counted


def same_picture(package: BusModel, square: np.ndarray) -> bool:
    with Image.open(package.folder / "example.png") as picture:
        return np.array_equal(np.asarray(picture), square)


def assert_numbers_are_those_of(package: BusModel, project: Project, values: dict[str, Any]) -> None:
    """Both areas on busis, computed here from the package and from the baseline's own networks."""
    from bus_mlops.packaging.onnx_export import load_network

    benchmark, ledger = project.inputs.benchmark, project.inputs.ledger
    rows = next(each.frame for each in sealed_cohorts(project.inputs.folds.frame) if each.name == "busis")
    squares = np.stack(
        [benchmark.images(SIZE)[i] for i in benchmark.frame.set_index("image_id")["index"][rows["image_id"]]]
    )
    assert_shares_are_those_of(package.predict(list(squares)), rows["label"].to_numpy(), package)
    answered = package.predict(list(squares), refuse=False)
    candidate = METRICS["roc_auc"].value(rows["label"].to_numpy(), np.array([each.probability for each in answered]))
    assert values["busis_roc_auc"] == pytest.approx(candidate, abs=1e-12)
    model = find_trained_model(ledger, project.baseline)
    pixels = np.repeat(squares[..., None], 3, axis=-1).astype(np.float32) if squares.ndim == 3 else squares
    answers = [
        calibration_of(model, cell).apply(
            np.asarray(load_network(ledger.artifact(run, MODEL, Path("fetched")))(pixels)["malignancy"])[:, 0]
        )
        for cell, run in model.runs.items()
    ]
    baseline = METRICS["roc_auc"].value(rows["label"].to_numpy(), np.mean(answers, axis=0))
    assert values["busis_roc_auc_difference"] == pytest.approx(candidate - baseline, abs=1e-6)


def assert_shares_are_those_of(given: list[Prediction], labels: np.ndarray, package: BusModel) -> None:
    """What consumers would have been told of busis, counted here from answers that may be refusals."""
    judged = package.package.judged
    assert judged is not None
    shares = judged.external["busis"].shares
    said = np.array(["refused" if each.status == "refused" else each.triage for each in given])
    for word in ("refused", "low", "high", "uncertain"):
        assert shares[word].share == pytest.approx(np.mean(said == word))
        assert shares[word].of == len(given)
    assert shares["malignant called low"].of == labels.sum()
    assert shares["malignant called low"].share == pytest.approx(np.mean(said[labels == 1] == "low"))
    assert shares["benign among low"].of == np.sum(said == "low")


def test_a_locked_part_that_was_changed_after_training_is_told_apart(project: Project) -> None:
    config = project.inputs.config
    groups = project.inputs.folds.frame[["image_id", "group"]]
    other = make_folds(
        project.inputs.benchmark.frame, groups, config.folds.model_copy(update={"locked": 0.3}), config.seed, ("busis",)
    )
    changed = replace(project.inputs, folds=Folds.checked(other, "other"))
    with pytest.raises(EvaluationError, match="was not trained on these folds: their digest differs"):
        judge_candidates(changed, [project.first], project.baseline)


def test_a_cohort_is_known_again_by_its_images() -> None:
    then = tuple(sorted(f"{i:08x}" for i in range(100)))
    assert _shared(then, then) == 1
    assert _shared(then[:60], then) == 1
    assert _shared(then, then[:40]) == 0.4
    assert _shared((), then) == 0
    # Of many images the smallest hashes are kept, which estimate the share.
    rng = np.random.default_rng(0)
    hashes = [f"{each:08x}" for each in rng.permutation(2**20)[:4000]]
    today, half = sorted(hashes)[:KEPT], sorted(hashes[:2000])[:KEPT]
    assert _shared(tuple(today), tuple(half)) == pytest.approx(0.5, abs=0.08)


def test_cohorts_are_read_back_to_the_last_digit(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "image_id": ["busis/001"],
            "label": [1],
            "probability": [1 / 3],
            "oddness": [-0.1 / 3],
            "threshold": [0.1 + 0.2],
        }
    )
    rows = rows.assign(
        case_id="busis/001", group="000", source="busis", probability_baseline=0.7, threshold_baseline=2 / 7
    )
    cohorts = (
        ExternalCohort("busis", "e" * 64, 1, 2, rows, note="n"),
        ExternalCohort("locked", "f" * 64, 3, closed="read before"),
    )
    write_cohorts(tmp_path, cohorts)
    busis, locked = read_cohorts(tmp_path)
    assert busis.answers is not None
    pd.testing.assert_frame_equal(busis.answers, rows, check_exact=True)
    assert replace(busis, answers=None) == replace(cohorts[0], answers=None)
    assert locked == cohorts[1]
    (tmp_path / "external_busis.csv").write_text("other")
    with pytest.raises(ValueError, match=r"external_busis\.csv is not the file that"):
        read_cohorts(tmp_path)
    assert read_cohorts(tmp_path / "nothing") == ()


def test_the_digest_of_a_cohort_follows_its_images_labels_and_groups(project: Project) -> None:
    folds, benchmark = project.inputs.folds, project.inputs.benchmark
    images = next(each.frame for each in sealed_cohorts(folds.frame) if each.name == "busis")["image_id"]
    plain = digest_of(folds, benchmark, images)
    assert digest_of(folds, benchmark, images[::-1]) == plain
    assert digest_of(folds, benchmark, images[1:]) != plain
    flipped = replace(benchmark, frame=benchmark.frame.assign(label=1 - benchmark.frame["label"]))
    assert digest_of(folds, flipped, images) != plain
    joined = replace(folds, frame=folds.frame.assign(group="one"))
    assert digest_of(joined, benchmark, images) != plain
