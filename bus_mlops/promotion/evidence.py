"""The evidence beside a decision: which runs, predictions and folds the gate saw, enough to judge again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.files import write_json
from bus_mlops.gate.intent import Intended
from bus_mlops.gate.report import GateReport
from bus_mlops.promotion.external_cohorts import JudgedCohort, judged_cohorts
from bus_mlops.promotion.judgement import Judgement
from bus_mlops.promotion.looks import TakenLook
from bus_mlops.promotion.trained_model import RecordedChoice, TrainedModel

# Where a record keeps its evidence, among the artifacts of its run.
FOLDER = "gate"
EVIDENCE_FILE, REPORT_FILE, TEXT_FILE, FOLDS_FILE = "evidence.json", "gate.json", "gate.md", "folds.csv"


# How models are judged. 1: single networks, each at a threshold of its own. 2: what ships, cross-fitted.
JUDGING = 2


class JudgedModel(BaseModel):
    """One model of a judgement: run id of a fold -> sha256 of the predictions that the run had then.

    `files` has the sha256 of every file of each run, as on its record then; empty in evidence of earlier versions,
    which does not say either how the parameters were chosen: `choice` is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    predictions: dict[str, str]
    files: dict[str, dict[str, str]] = {}
    choice: RecordedChoice | None = None


class Evidence(BaseModel):
    """`evidence.json`: what the gate was given; `promotion` as plain values, so that no schema need know its limits.

    Attributes:
        members: What was packaged: `package.members`.
        baseline_choice: Where the baseline is the best of several, network -> its metric on the validation parts.
        judging: By which way of judging the report was made; evidence of earlier versions does not say: 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    phantom: bool
    seed: int
    expected_folds: tuple[int, ...]
    folds_kind: str
    promotion: dict[str, Any]
    candidate: JudgedModel
    baseline: JudgedModel
    rivals: tuple[JudgedModel, ...] = ()
    champion: str | None = None
    members: str = "all"
    baseline_choice: dict[str, float] = {}
    judging: int = 1
    external: tuple[JudgedCohort, ...] = ()
    look: TakenLook | None = None
    intended: Intended = Intended()
    stated: dict[str, Any] | None = None


def evidence_of(judgement: Judgement) -> Evidence:
    """What a judgement was made on."""
    terms = judgement.terms
    return Evidence(
        model=terms.model_name,
        phantom=terms.is_phantom,
        seed=terms.seed,
        expected_folds=terms.expected_folds,
        folds_kind=terms.folds.kind,
        promotion=dict(terms.promotion),
        candidate=_judged_model(judgement.candidate),
        baseline=_judged_model(judgement.baseline),
        rivals=tuple(_judged_model(rival) for rival in judgement.rivals),
        champion=judgement.champion,
        members=terms.members,
        baseline_choice=dict(terms.baseline_choice),
        judging=JUDGING,
        external=judged_cohorts(terms.external),
        look=terms.look,
        intended=terms.intended,
        stated=dict(terms.stated) if terms.stated is not None else None,
    )


def evidence_digest(evidence: Evidence, report: GateReport, members: str) -> str:
    """64 hexadecimal digits that two decisions share if the same models were judged the same way.

    The champion of the moment is left out: it counts where it is the baseline. So is what the report says of how the
    baseline came to be it, which is another thing once there is a champion; of the report the verdicts count, since
    all numbers follow from the evidence.
    """
    values = {
        "evidence": evidence.model_dump(
            mode="json", exclude={"champion": True, "baseline_choice": True, "external": {"__all__": {"note"}}}
        ),
        "report": {rule.id: rule.passed for rule in report.rules},
        "members": members,
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_evidence(folder: Path, evidence: Evidence, report: GateReport, folds: Folds) -> None:
    """Write evidence, folds and the gate's report (JSON and markdown) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / EVIDENCE_FILE, evidence.model_dump(mode="json"))
    folds.frame.to_csv(folder / FOLDS_FILE, index=False)
    write_json(folder / Path(FOLDS_FILE).with_suffix(".json"), {"kind": folds.kind})
    write_report(folder, report)


def write_report(folder: Path, report: GateReport) -> None:
    """Write gate.json and gate.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT_FILE).write_text(report.to_json(), encoding="utf-8")
    (folder / TEXT_FILE).write_text(report.to_markdown(), encoding="utf-8")


def read_evidence(folder: Path) -> tuple[Evidence, Folds, dict[str, Any]]:
    """Evidence, folds and the gate's report (as plain values) of a record."""
    evidence = Evidence.model_validate_json((folder / EVIDENCE_FILE).read_bytes())
    report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    return evidence, Folds.open(folder / FOLDS_FILE), report


def _judged_model(model: TrainedModel) -> JudgedModel:
    runs = sorted(model.runs.values())
    return JudgedModel(
        title=model.title,
        predictions={run: model.digests[run] for run in runs},
        files={run: dict(model.files[run]) for run in runs},
        choice=model.choice,
    )
