"""What the card says of the numbers that a package carries, and that packages without them are read as before."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from bus_mlops.config import Training
from bus_mlops.consumer.package_format import JudgedNumber, JudgedNumbers, Member, Package
from bus_mlops.consumer.refusal import Oddity, Refusal, Share, TriageRule
from bus_mlops.gate.report import GateReport, RuleResult
from bus_mlops.images.picture_statistics import STATISTICS_VERSION
from bus_mlops.packaging.card_evidence import (
    AuditCounts,
    CardEvidence,
    Corrupted,
    Failures,
    PartCounts,
    Probed,
    SourceCounts,
    SubgroupNumbers,
)
from bus_mlops.packaging.card_items import ITEMS
from bus_mlops.packaging.model_card import model_card
from bus_mlops.spec import RunSpec, Task

NUMBERS = {
    "sensitivity": JudgedNumber(estimate=0.904, low=0.857, high=0.94, method="whole groups drawn"),
    "roc_auc": JudgedNumber(estimate=0.951),
}


def package(judged: JudgedNumbers | None) -> Package:
    return Package(
        name="bus-mt-estan",
        bus_mlops_version="0.1.0",
        input_size=256,
        color="gray",
        threshold=0.4,
        outputs=("malignancy",),
        members=(Member(keras="members/fold_1.keras", onnx="members/fold_1.onnx", max_difference=0),),
        phantom=False,
        trained_on="busi",
        judged=judged,
    )


def numbers(**changes: Any) -> JudgedNumbers:
    values: dict[str, Any] = {
        "construction": "ensemble",
        "images": 647,
        "malignant": 210,
        "cases": 640,
        "folds": 5,
        "networks": 3,
        "ships": 15,
        "answered": 647,
        "threshold": 0.4,
        "numbers": NUMBERS,
        "at_fold_thresholds": {"sensitivity": JudgedNumber(estimate=0.89, low=0.84, high=0.93)},
        "alone": {"roc_auc": 0.937},
    }
    return JudgedNumbers.model_validate(values | changes)


def test_the_card_prints_each_number_with_its_threshold_and_interval_and_says_what_they_are_of() -> None:
    card = model_card(package(numbers()))
    assert "| Sensitivity | 0.4000 | 0.904 | 0.857 to 0.940 |" in card
    assert "| Sensitivity | of each fold | 0.890 | 0.840 to 0.930 |" in card
    assert "| ROC AUC | none | 0.951 | no evidence |" in card
    assert "Judged on 647 test images (210 malignant; 640 cases) of 5 folds: answers of this package." in card
    assert "What answers is the mean of all 15" in card
    assert "One network alone has an ROC AUC of 0.937, the means that were judged have 0.951." in card


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networks": 1, "ships": 5}, "Each is one network of the image's fold, which had not seen it. What answers"),
        ({"construction": "single", "ships": 1, "networks": 1}, "What answers is one of these, the best on validation"),
        ({"construction": "refit", "ships": 3}, "What answers is 3 refitted on all of these images, which were never"),
        ({"answered": 130}, "this package gave 130 and the others are as its networks recorded"),
        ({"ships": 3, "folds": 1}, "The same networks answer."),
    ],
)
def test_the_sentence_says_what_ships_instead(changes: dict[str, Any], said: str) -> None:
    assert said in numbers(**changes).sentence


def test_a_package_without_numbers_is_read_and_says_that_nothing_was_measured() -> None:
    earlier = package(None).model_dump(mode="json")
    del earlier["judged"]
    found = Package.model_validate(earlier)
    assert found.judged is None
    assert "Nothing was measured of what this package answers." in model_card(found)
    assert Package.model_validate(package(numbers()).model_dump(mode="json")).judged == numbers()
    assert numbers().in_words.endswith("the networks that answered: sensitivity 0.904 (0.857 to 0.940).")


# Without titles and abstracts of manuscripts (1 and 2 of both).
CLAIM = [f"CLAIM {number}" for number in range(3, 45)]
NUMBERED = (
    "3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 "
    "18a 18b 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
)
TRIPOD = [f"TRIPOD+AI {item}" for item in NUMBERED.split()]
# What no program can know of a model: only people can say it.
ONLY_PEOPLE = {
    *("CLAIM 11", "CLAIM 15", "CLAIM 16", "CLAIM 18", "CLAIM 34", "CLAIM 44"),
    *(f"TRIPOD+AI {item}" for item in ["3c", "5b", "6a", "6c", "8b", "8c", "14", "17", "18a", "18b", "18d", "19"]),
}
EXTERNAL = {
    "images": 55,
    "malignant": 21,
    "digest": "e" * 64,
    "numbers": {"roc_auc": JudgedNumber(estimate=0.877, low=0.801, high=0.931)},
}


def evidence() -> CardEvidence:
    """Something of everything, every number another."""
    number = JudgedNumber(estimate=0.713, low=0.611, high=0.809)
    rule = RuleResult("G2", "superiority", {}, "p < 0.05", False, "Not | better.", "Would have found +.03 in 18 %.")
    return CardEvidence(
        report=GateReport("us", "DenseNet", "bus-mt-estan", "roc_auc", "youden", (rule,)),
        spec=RunSpec(network="mt_estan", cohort=("busi",), task=Task("multitask"), training=Training(), seed=3),
        seeds=(3, 5),
        chosen="fixed",
        sources=(SourceCounts("busi", 650, 647, 640, 437, 210, 646, {"mask absent": 3}, 645),),
        audit=AuditCounts(647, 633, 4, 17, 1, 0),
        folds_kind="grouped",
        parts=(PartCounts("fold 1 test", 129, 127, 43),),
        groups=633,
        largest_group=7,
        leaks="passed",
        intent="f" * 64,
        terms="on the terms of its first run",
        look="Look 1.",
        subgroups=(
            SubgroupNumbers("source", "busi", 647, 210, {"roc_auc": number}, {}),
            SubgroupNumbers("scanner", "GE", 12, 2, {}, {"roc_auc": "too small: 2 leakage groups"}),
        ),
        failures=(Failures("malignant images were called benign", 20, 210, (("busi/malignant (3)", 0.0421),)),),
        probed=Probed(
            images=96,
            explanations={"pointing": JudgedNumber(estimate=0.641, low=0.55, high=0.73)},
            robustness=(Corrupted("blur", "4 px", "roc_auc", JudgedNumber(estimate=0.088, low=0.04, high=0.13)),),
            cost={"parameters": 1234.0},
        ),
    )


def rows(card: str) -> dict[str, str]:
    """Item -> what the card says of it, which stands there once."""
    lines = [line for line in card.partition("## Checklists")[2].splitlines() if line.startswith("| ")]
    found = [(name, line) for line in lines for name in re.findall(r"(?:CLAIM|TRIPOD\+AI) \w+", line.split(" | ")[0])]
    assert [name for name, count in Counter(name for name, _ in found).items() if count > 1] == []
    return {name: re.split(r"(?<!\\) \| ", line)[2].removesuffix(" |") for name, line in found}


def test_every_item_of_both_checklists_stands_once_whatever_is_known() -> None:
    assert sorted(name for items in ITEMS.values() for each in items for name in each.ids) == sorted(CLAIM + TRIPOD)
    for card in (model_card(package(None)), model_card(package(numbers()), evidence())):
        assert sorted(rows(card)) == sorted(CLAIM + TRIPOD)


def test_no_evidence_stands_where_there_is_none_with_what_would_make_it() -> None:
    nothing = rows(model_card(package(None)))
    promote = {name for name, said in nothing.items() if said == "no evidence: `bus-mlops promote`"}
    assert {"CLAIM 7", "CLAIM 19", "CLAIM 25", "CLAIM 38", "CLAIM 39", "TRIPOD+AI 23a", "TRIPOD+AI 12d"} <= promote
    judged = package(numbers(external={"busis": EXTERNAL})).model_copy(update={"gate": "refused by G2"})
    everything = rows(model_card(judged, evidence()))
    missing = {name for name, said in everything.items() if said.startswith("no evidence")}
    assert missing == ONLY_PEOPLE | {"TRIPOD+AI 16", "TRIPOD+AI 20c"}  # nobody has compared the cohorts
    assert all(said.partition("no evidence: ")[2] for name, said in everything.items() if name in missing)
    # Why there is nothing of a kind is said, where it is known.
    unprobed = CardEvidence(absent={"probed": "probes/ is of other networks"})
    assert rows(model_card(package(None), unprobed))["CLAIM 30"] == "no evidence: probes/ is of other networks"


def test_the_table_prints_the_typed_numbers() -> None:
    known, judged = evidence(), numbers(external={"busis": EXTERNAL})
    said = rows(model_card(package(judged), known))
    for name, number in judged.numbers.items():
        assert f"{name} {number}" in said["CLAIM 38"]
    assert f"busis: 55 images (21 malignant), digest `{'e' * 64}`: roc_auc 0.877 (0.801 to 0.931)" in said["CLAIM 33"]
    assert said["CLAIM 32"] == judged.sentence
    (source,) = known.sources
    assert (
        f"{source.kept} images of {source.cases} cases ({source.benign} benign, {source.malignant}" in said["CLAIM 7"]
    )
    assert "3 mask absent left out on reading, 2 by the audit's exclusions" in said["CLAIM 8"]
    assert "650 listed, 647 assembled, 645 in the folds" in said["CLAIM 35"]
    assert "4 pairs of equal ones and 17 of nearly equal ones" in said["TRIPOD+AI 7"]
    assert "fold 1 test 129 images of 127 cases" in said["CLAIM 19"]
    assert "fold 1 test 43 of 129" in said["CLAIM 36"]
    assert "633 groups, the largest of 7 images" in said["CLAIM 20"]
    assert "G2 Would have found +.03 in 18 %" in said["CLAIM 21"]
    assert "source busi (647, 210 malignant): roc_auc 0.713 (0.611 to 0.809)" in said["TRIPOD+AI 23b"]
    assert "roc_auc no evidence (too small: 2 leakage groups)" in said["CLAIM 13"]
    assert "20 of 210 malignant images were called benign, the worst busi/malignant (3) (0.042)" in said["CLAIM 39"]
    assert "blur (4 px) roc_auc by 0.088 (0.040 to 0.130)" in said["CLAIM 30"]
    assert "pointing 0.641 (0.550 to 0.730)" in said["CLAIM 31"]
    assert "One network: 1,234 parameters." in said["CLAIM 22"]
    assert f"sha256 `{'f' * 64}`: on the terms of its first run." in said["CLAIM 42"]
    assert "Not \\| better." in said["CLAIM 37"]


def test_of_phantoms_every_answer_about_images_says_that_they_are() -> None:
    drawn = package(numbers(external={"busis": EXTERNAL})).model_copy(update={"phantom": True})
    said = rows(model_card(drawn, evidence()))
    of_images = {name for items in ITEMS.values() for each in items if each.of_images for name in each.ids}
    answered = {name for name in of_images if not said[name].startswith("no evidence")}
    assert len(answered) > 30
    assert all(said[name].startswith("Synthetic images: ") for name in answered)
    assert "Synthetic" not in model_card(package(numbers()), evidence())
    assert f"Of synthetic images: {numbers().sentence[:40]}" in model_card(drawn)


def test_the_card_says_what_is_refused_and_with_which_numbers():
    oddity = Oddity(
        statistics_version=STATISTICS_VERSION,
        center=(0.0,),
        scale=(1.0,),
        linear=(1.0,),
        square=(0.0,),
        bias=0.0,
        threshold=0.25,
        rate=0.02,
        images=600,
        refused={"busi, when it was left out": Share(of=617, share=0.041, low=0.028, high=0.059)},
    )
    triage = TriageRule(
        miss_rate=0.05,
        false_alarm_rate=0.1,
        malignant_cases=195,
        benign_cases=12,
        low=0.1234,
        high=None,
        nominal_npv=0.935,
        measured={"malignant called low": Share(of=506, share=0.067)},
    )
    card = model_card(package(None).model_copy(update={"refusal": Refusal(oddity=oddity, triage=triage)}))
    assert "| busi, when it was left out | 4.1 % (2.8 to 5.9) of 617 |" in card
    assert "below 0.1234 malignant is ruled out (**low**); all else is **uncertain**" in card
    assert "of other such cases that are called low, 93.5 % should be benign" in card
    assert "| malignant called low | 6.7 % of 506 |" in card
    assert "answers to any picture" not in card
    assert "one unlike its training images is refused" in rows(card)["TRIPOD+AI 27a"]
    assert "On images that no fold touches: no evidence, since the gate has opened none" in card
    shares = {"refused": Share(of=55, share=0.0182), "low": Share(of=55, share=0.4, low=0.27, high=0.54)}
    judged = numbers(external={"busis": EXTERNAL | {"shares": shares}, "locked": EXTERNAL})
    card = model_card(package(judged).model_copy(update={"refusal": Refusal(oddity=oddity, triage=triage)}))
    assert "On the external source busis, which no fold touches, read once" in card
    assert "| refused | 1.8 % of 55 |\n| low | 40.0 % (27.0 to 54.0) of 55 |" in card
    assert "On the locked part of the cases, which no fold touches: no evidence" in card
    assert "beyond the external source busis and the locked part of the cases, were not tested" in card
    plain = model_card(package(None))
    assert "answers to any picture" in plain
    assert "any other picture an answer" in rows(plain)["TRIPOD+AI 27a"]
    assert "sources were not tested" in plain
