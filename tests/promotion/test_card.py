"""The card of a judged candidate: subgroups, failures and probes are of that candidate, or are not said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from promotion_store import Store

from bus_mlops.consumer.package_files import read_package
from bus_mlops.consumer.package_format import SBOM_FILE
from bus_mlops.dataset.folds.assignment import TEST
from bus_mlops.evaluation.subgroups import FEWEST_GROUPS
from bus_mlops.files import read_json
from bus_mlops.packaging.card_evidence import CardEvidence
from bus_mlops.packaging.model_card import model_card
from bus_mlops.promotion.candidate_package import PackagedCandidate, package_candidate
from bus_mlops.promotion.card import card_evidence
from bus_mlops.promotion.judgement import Judgement
from bus_mlops.sources.registry import title_and_terms


@pytest.fixture(scope="module")
def judgement(store: Store) -> Judgement:
    return store.judge()


@pytest.fixture(scope="module")
def packaged(store: Store, judgement: Judgement, tmp_path_factory: pytest.TempPathFactory) -> PackagedCandidate:
    return package_candidate(store.inputs("all"), judgement, tmp_path_factory.mktemp("package"))


def again(store: Store, judgement: Judgement, packaged: PackagedCandidate) -> CardEvidence:
    report = packaged.card.report
    assert report is not None
    return card_evidence(store.inputs("all"), judgement, judgement.comparison, report, read_package(packaged.folder))


def write_probes(folder: Path, recorded: pd.DataFrame, title: str, shift: float) -> None:
    """What the stage `probe` leaves: eight images of each label and fold, as they are and blurred."""
    folder.mkdir(exist_ok=True)
    chosen = recorded.groupby(["fold", "label"]).head(8).assign(strategy="tuned", model=title, variant="", network="n")
    chosen = chosen.assign(probability=(chosen["probability"] + shift).clip(0, 1))
    whole = chosen.assign(corruption="none", strength=0.0, parameter="as it is")
    blurred = chosen.assign(corruption="blur", strength=1.0, parameter="4 px", probability=chosen["probability"] / 2)
    pd.concat([whole, blurred]).to_parquet(folder / "robustness.parquet")
    scores = {"hit": 1.0, "energy": 0.5, "chance": 0.1, "centre": 0.4, "hit_own_mask": float("nan")}
    chosen.assign(**scores, chance_own_mask=float("nan")).to_parquet(folder / "explanations.parquet")


def test_the_card_is_the_packages_own_and_follows_from_what_was_judged(store, judgement, packaged) -> None:
    package = read_package(packaged.folder)
    written = (packaged.folder / "MODEL_CARD.md").read_text()
    assert written == model_card(package, packaged.card)
    # Made anew from the same judgement, it is the same to the letter.
    assert model_card(package, again(store, judgement, packaged)) == written

    test = judgement.comparison.candidate.test
    (source,) = [each for each in packaged.card.subgroups if each.grouping == "source"]
    assert (source.images, source.malignant) == (len(test), int(test["label"].sum()))
    assert package.judged is not None
    # The one source is all images: its numbers are those of the package.
    assert {name: package.judged.numbers[name] for name in source.numbers} == source.numbers
    for failures, label in zip(packaged.card.failures, (1, 0), strict=True):
        wrong = test[(test["label"] == label) & ((test["probability"] >= package.threshold) != label)]
        assert failures.count == len(wrong)
        assert {image for image, _ in failures.worst} <= set(wrong["image_id"])
    parts = {each.name: each.images for each in packaged.card.parts}
    assert parts["fold 1 test"] + parts["fold 2 test"] == len(store.folds.frame)
    assert packaged.card.groups == store.folds.frame["group"].nunique() >= FEWEST_GROUPS
    # Its bill of materials has the terms of what it learnt from.
    materials = {each["bom-ref"]: each for each in read_json(packaged.folder / SBOM_FILE)["components"]}
    title, terms = title_and_terms(source.name)
    assert materials[f"data:{source.name}"]["licenses"] == [{"license": {"name": terms}}]
    assert materials[f"data:{source.name}"]["name"] == title
    # The benchmark at hand holds other images than the runs were trained on.
    assert packaged.card.sources == ()
    assert written.count(f"no evidence: {packaged.card.absent['sources']}") == 6


def test_probes_are_taken_only_where_they_are_of_the_candidates_own_networks(store, judgement, packaged) -> None:
    folder = store.predictions.parent / "probes"
    assert "results" not in packaged.card.absent["probed"]
    assert packaged.card.absent["probed"].startswith("`dvc repro probe`")
    recorded = judgement.candidate.part(TEST)
    recorded = recorded[recorded["seed"] == recorded["seed"].min()]

    write_probes(folder, recorded, "another", shift=0.01)
    other = again(store, judgement, packaged)
    assert other.probed == CardEvidence().probed
    assert "not of the candidate's networks, and was not used" in other.absent["probed"]

    write_probes(folder, recorded, "the candidate", shift=0.0)
    own = again(store, judgement, packaged)
    assert {(each.corruption, each.metric) for each in own.probed.robustness} == {
        ("blur", "roc_auc"),
        ("blur", "sensitivity"),
    }
    assert own.probed.explanations["pointing"].estimate == 1.0
    card = model_card(read_package(packaged.folder), own)
    for each in own.probed.robustness:
        assert f"blur (4 px) {each.metric} by {each.drop}" in card
    assert replace(own, probed=CardEvidence().probed, absent=packaged.card.absent) == packaged.card
