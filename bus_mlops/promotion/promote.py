"""Promotion: the gate's verdict, a registered version with its evidence, a record of the decision, then the aliases.

A refusal is a normal result: the version is registered, gets the alias `candidate`, and the record says which rules
failed. Whatever is killed on the way is finished, or closed, by the next command.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.consumer.package_format import DIGEST_TAG
from bus_mlops.consumer.standing import FAILED_TAG, GATE_TAG
from bus_mlops.errors import PromotionConflictError
from bus_mlops.files import read_json, write_json
from bus_mlops.gate.report import GateReport, RuleResult
from bus_mlops.packaging.package import log_package
from bus_mlops.packaging.signing import KEY, Signer, configured_signer, sign_package
from bus_mlops.promotion import records
from bus_mlops.promotion.aliases import check_right, locked, read_aliases, settle
from bus_mlops.promotion.answers import write_answers
from bus_mlops.promotion.candidate_package import package_candidate
from bus_mlops.promotion.contenders import BASELINE_RUNS_TAG, RUNS_TAG
from bus_mlops.promotion.descriptions import describe_version, record_note, record_numbers
from bus_mlops.promotion.evidence import (
    FOLDER,
    REPORT_FILE,
    evidence_digest,
    evidence_of,
    write_evidence,
    write_report,
)
from bus_mlops.promotion.evidence_lock import deciding, looking
from bus_mlops.promotion.external_answers import judge_on_cohorts
from bus_mlops.promotion.external_cohorts import write_cohorts
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.judgement import Judgement, judge_candidates
from bus_mlops.promotion.looks import Looks, tags_and_params, write_tested
from bus_mlops.promotion.registration import EVIDENCE_TAG, is_written_down, record_registration, require_as_registered
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.tracking.kinds import NOTE
from bus_mlops.tracking.ledger import Ledger

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LOG = logging.getLogger(__name__)
REPORT_TAG = "gate.sha256"


@dataclass(frozen=True)
class Outcome:
    """What a promotion came to: the version, what was decided about it, and the gate's whole report."""

    model: str
    version: str
    decision: str
    is_champion: bool
    report: GateReport
    evidence: str
    fresh: bool

    @property
    def sentence(self) -> str:
        """What became of the version, for people."""
        state = "is champion" if self.is_champion else "is not champion"
        again = "" if self.fresh else " (decided before on the same evidence; nothing was changed)"
        return f"{self.model} version {self.version}: {self.decision}; it {state}{again}"

    def lines(self) -> list[str]:
        """The verdict, rule by rule, and what became of the version."""
        return [*self.report.to_lines(), self.sentence]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in promotion.json."""
        return {
            "model": self.model,
            "version": int(self.version),
            "alias": "champion" if self.is_champion else None,
            "decision": self.decision,
            "passed": self.report.passed,
            "candidate": self.report.candidate,
            "baseline": self.report.baseline,
            "evidence": self.evidence,
        }


def promote(
    inputs: PromotionInputs,
    candidate_runs: Sequence[str] = (),
    baseline_run: str | None = None,
    force_reason: str | None = None,
    amend: str | None = None,
    *,
    challenger: str | None = None,
    full: bool = False,
) -> Outcome:
    """Judge the candidates against the baseline, register the best of them with its evidence, and move the aliases.

    Arguments as in `judge_candidates` and `decide`. What a command that was killed left is finished first. One command
    at a time looks at the test images for a name, so that no two spend the same alpha.
    """
    client = inputs.ledger.client
    check_right(client, inputs.model_name)
    with looking(client, inputs.config.tracking, inputs.model_name):
        settle(client, inputs.model_name)
        records.close_abandoned(client)
        judgement = judge_candidates(inputs, candidate_runs, baseline_run, amend, challenger)
        return decide(inputs, judgement, force_reason, full=full)


def look(
    inputs: PromotionInputs,
    candidate_runs: Sequence[str] = (),
    baseline_run: str | None = None,
    amend: str | None = None,
    *,
    full: bool = False,
) -> GateReport:
    """What `promote` would find, on record as a look at the test images; registers nothing and moves no alias.

    Arguments as in `promote`.
    """
    with (
        looking(inputs.ledger.client, inputs.config.tracking, inputs.model_name),
        tempfile.TemporaryDirectory(prefix="bus-gate-") as folder,
    ):
        judgement = judge_candidates(inputs, candidate_runs, baseline_run, amend)
        report = package_candidate(inputs, judgement, Path(folder), full=full).report
        record_look(inputs, judgement, report)
    return report


def decide(
    inputs: PromotionInputs, judgement: Judgement, force_reason: str | None = None, *, full: bool = False
) -> Outcome:
    """Register the candidate of a judgement and decide on it; the same evidence is decided once.

    Args:
        inputs: The project after its training stages.
        judgement: Of these inputs.
        force_reason: With it a refused candidate becomes champion all the same, and the record says so.
        full: Predict all images anew that were judged, not a sample of them.

    Raises:
        LedgerError: Recorded predictions are not those of their networks.
        PromotionConflictError: The champion has changed since the judgement.
        RegistryError: No package can be made.
    """
    evidence = evidence_digest(evidence_of(judgement), judgement.report, inputs.config.package.members)
    with deciding(inputs.ledger.client, inputs.config.tracking, evidence):
        return _decide_alone(inputs, judgement, evidence, force_reason, full)


def _decide_alone(
    inputs: PromotionInputs, judgement: Judgement, digest: str, force_reason: str | None, full: bool
) -> Outcome:
    name, ledger = inputs.model_name, inputs.ledger
    client = ledger.client
    version = _registered_before(ledger, name, digest)
    fresh = version is None
    if version is None:
        version = _register(inputs, judgement, digest, full)
    judgement = replace(judgement, report=read_report(ledger, str(version.run_id)))
    former = records.latest(client, name, str(version.version))
    if former is None or former.decision == records.CONFLICT or (force_reason and former.decision == records.REFUSED):
        if former is None and not is_written_down(client, version):
            version = describe_version(client, version, judgement.report)
            record_numbers(client, version, judgement.report, judgement.candidate.lineage.data_digest)
        record_registration(client, version)
        found = records.decisions(client, name)
        require_as_registered(client, version, records.later_tags(found, str(version.version)))
        record = _record_for(inputs, version, judgement)
        former = _decide(client, version, record, judgement, force_reason, configured_signer(inputs.config.promotion))
        fresh = True
    is_champion = read_aliases(client, name).champion == str(version.version)
    return Outcome(name, str(version.version), former.decision, is_champion, judgement.report, digest, fresh)


def write_outcome(folder: Path, outcome: Outcome, example: Path | None) -> None:
    """Write the gate's report (json and markdown), what became of it, and the file of an image to try the model on."""
    write_report(folder, outcome.report)
    tried = None if example is None else example.as_posix()
    write_json(folder / "promotion.json", {**outcome.to_dict(), "example": tried})


def write_challenge(folder: Path, name: str, outcome: Outcome, example: Path | None) -> None:
    """Write what became of a challenger: `challengers/NAME.json`, as promotion.json, and its gate.json and gate.md."""
    own = folder / "challengers"
    write_report(own / name, outcome.report)
    tried = None if example is None else example.as_posix()
    write_json(own / f"{name}.json", {**outcome.to_dict(), "example": tried})


def write_look(folder: Path, report: GateReport, experiment: str) -> None:
    """Write the report of a candidate that DVC's experiment tried, and that it is not registered."""
    write_report(folder, report)
    how = f"`dvc exp apply {experiment}`, then `dvc repro --force --single-item promote`"
    note = f"{report.verdict}; judged in the experiment {experiment} and not registered: that does {how}"
    record = {"model": report.model_name, "alias": None, "decision": "judged", "passed": report.passed}
    write_json(folder / "promotion.json", {**record, "experiment": experiment, "note": f"{note}."})


def read_report(ledger: Ledger, run_id: str) -> GateReport:
    """The gate's report that a record keeps."""
    with tempfile.TemporaryDirectory(prefix="bus-report-") as folder:
        values = read_json(ledger.artifact(run_id, f"{FOLDER}/{REPORT_FILE}", Path(folder)))
    rules = tuple(RuleResult(**rule) for rule in values["rules"])
    names = ("candidate", "baseline", "model_name", "metric", "threshold")
    return GateReport(**{key: values[key] for key in names}, rules=rules, notes=tuple(values["notes"]))


def _register(inputs: PromotionInputs, judgement: Judgement, digest: str, full: bool) -> ModelVersion:
    """A record with the evidence and the package, and a version that points to it; no alias yet."""
    client, tracking = inputs.ledger.client, inputs.config.tracking
    signer = configured_signer(inputs.config.promotion)  # before anything takes time
    title = f"promotion of {judgement.candidate.title}"
    tags = _decision_tags(judgement, digest)
    record = records.open_record(client, tracking, records.PROMOTION_KIND, title, tags)
    try:
        with tempfile.TemporaryDirectory(prefix="bus-package-") as temporary:
            folder = Path(temporary)
            packaged = package_candidate(inputs, judgement, folder, full=full)
            judgement, report = judge_on_cohorts(inputs, judgement, packaged, record)
            write_evidence(folder / FOLDER, evidence_of(judgement), report, inputs.folds)
            write_answers(folder / FOLDER, packaged.answers)
            write_cohorts(folder / FOLDER, judgement.terms.external)
            write_tested(folder, _tested(judgement))
            ledger = inputs.ledger
            _announce_look(ledger, record, judgement, report)
            stored = ledger.files.store(record, folder / FOLDER, FOLDER)
            ledger.writer.write(record, params=stored, tags={NOTE: record_note(report)})
            tags = {
                **_decision_tags(judgement, digest),
                **_verdict(report),
                REPORT_TAG: hashlib.sha256((folder / FOLDER / REPORT_FILE).read_bytes()).hexdigest(),
            }
            _sign(packaged.folder, signer)
            version = log_package(
                packaged.folder,
                registered_name=inputs.model_name,
                run_id=record,
                tags=tags,
                tracking_uri=tracking.uri,
            )
    except BaseException:
        client.set_terminated(record, "FAILED")
        raise
    # Logging a model has ended the run, which stays open until there is a decision.
    client.update_run(record, "RUNNING")
    return client.get_model_version(version.name, str(version.version))


def _sign(package: Path, signer: Signer | None) -> None:
    if signer is not None:
        sign_package(package, signer)
        return
    LOG.warning(
        "the package is registered UNSIGNED: who made it cannot be checked. promotion.signing_key, or %s, names a key.",
        KEY,
    )


def _record_for(inputs: PromotionInputs, version: ModelVersion, judgement: Judgement) -> str:
    """The record that registered the version if it is still without a decision, else a new one with the report."""
    ledger, client = inputs.ledger, inputs.ledger.client
    first = str(version.run_id)
    if not records.is_closed(client.get_run(first)):
        return first
    title = f"promotion of {judgement.candidate.title}, again"
    tags = {**_decision_tags(judgement, version.tags[EVIDENCE_TAG]), "first_record": first}
    record = records.open_record(client, inputs.config.tracking, records.PROMOTION_KIND, title, tags)
    _announce_look(ledger, record, judgement, judgement.report)
    with tempfile.TemporaryDirectory(prefix="bus-report-") as folder:
        write_report(Path(folder), judgement.report)
        stored = ledger.files.store(record, Path(folder), FOLDER)
        ledger.writer.write(record, params=stored, tags={NOTE: record_note(judgement.report)})
    return record


def _decide(
    client: MlflowClient,
    version: ModelVersion,
    record: str,
    judgement: Judgement,
    force_reason: str | None,
    signer: Signer | None,
) -> records.Decision:
    """Close the record and move the aliases, if the champion is still the one of the judgement."""
    report, number = judgement.report, str(version.version)
    becomes_champion = report.passed or force_reason is not None
    kind = records.PROMOTED if report.passed else records.FORCED if force_reason else records.REFUSED
    decision = {
        "model": version.name,
        "version": number,
        "decision": kind,
        "champion_before": judgement.champion or "",
        "champion_after": number if becomes_champion else judgement.champion or "",
        "who": records.who(),
        "when": records.now(),
        "why": _why(report, force_reason),
        "candidate": report.candidate,
        "baseline": report.baseline,
        "commit": client.get_run(record).data.tags.get("mlflow.source.git.commit", ""),
        "package": version.tags.get(DIGEST_TAG, ""),
        "evidence": version.tags.get(EVIDENCE_TAG, ""),
        **_look_and_terms(client, record, judgement),
    }
    try:
        with locked(client, version.name) as lock:
            present = lock.expect(judgement.champion)
            wanted = present.promoted(number) if becomes_champion else present.refused(number)
            lock.move(wanted, record, decision, signer)
    except PromotionConflictError as error:
        unchanged = {"decision": records.CONFLICT, "champion_after": judgement.champion or "", "why": str(error)}
        records.close_record(client, record, {**decision, **unchanged})
        raise
    return records.as_decision(client.get_run(record))


def record_look(inputs: PromotionInputs, judgement: Judgement, report: GateReport) -> records.Decision | None:
    """Put on record that somebody has looked, and decided nothing; None where this look is on record already.

    Args:
        inputs: The project after its training stages.
        judgement: Of these inputs, made while nobody else looked (`evidence_lock.looking`).
        report: The whole one, that will be shown.
    """
    client, ledger, look = inputs.ledger.client, inputs.ledger, judgement.terms.look
    if look is None or Looks(client, inputs.model_name).find(look.key) is not None:
        return None
    digest = evidence_digest(evidence_of(judgement), report, inputs.config.package.members)
    title = f"look at {judgement.candidate.title}"
    tags = _decision_tags(judgement, digest)
    record = records.open_record(client, inputs.config.tracking, records.LOOK_KIND, title, tags)
    _announce_look(ledger, record, judgement, report)
    with tempfile.TemporaryDirectory(prefix="bus-report-") as folder:
        write_report(Path(folder) / FOLDER, report)
        write_tested(Path(folder), _tested(judgement))
        stored = ledger.files.store(record, Path(folder) / FOLDER, FOLDER)
        ledger.writer.write(record, params=stored, tags={NOTE: record_note(report)})
    former = records.decisions(client, inputs.model_name)
    decision = {
        "model": inputs.model_name,
        "version": "",
        "decision": records.LOOKED,
        "champion_before": judgement.champion or "",
        "champion_after": judgement.champion or "",
        "who": records.who(),
        "when": records.now(),
        "why": f"{_why(report, None)}; nothing was decided",
        "candidate": report.candidate,
        "baseline": report.baseline,
        "commit": client.get_run(record).data.tags.get("mlflow.source.git.commit", ""),
        "evidence": digest,
        "former": former[0].record if former else "",
        **_look_and_terms(client, record, judgement),
    }
    records.close_record(client, record, decision)
    return records.as_decision(client.get_run(record))


def _announce_look(ledger: Ledger, record: str, judgement: Judgement, report: GateReport) -> None:
    """Say on a record which look it is, before anything of it can be seen: whatever comes next, it is spent."""
    if judgement.terms.look is None:
        return
    found = next((rule.values["p_adjusted"] for rule in report.rules if "p_adjusted" in rule.values), None)
    p = float(found) if isinstance(found, (int, float)) else None
    tags, params = tags_and_params(judgement.terms.look.model_copy(update={"p": p}))
    ledger.writer.write(record, tags=tags, params=params)


def _look_and_terms(client: MlflowClient, record: str, judgement: Judgement) -> dict[str, str]:
    """What a decision says of its look, as the record announced it, and of terms that were changed."""
    intended = judgement.terms.intended
    return {
        "look": client.get_run(record).data.tags.get(records.LOOK_TAG, ""),
        "amended": intended.amended,
        "changes": json.dumps(intended.changes) if intended.changes else "",
    }


def _tested(judgement: Judgement) -> set[str]:
    models = (judgement.candidate, *judgement.rivals)
    return {str(image) for model in models for image in model.part("test")["image_id"].unique()}


def _why(report: GateReport, force_reason: str | None) -> str:
    return records.why_forced(report.verdict, force_reason) if force_reason and report.failed else report.verdict


def _verdict(report: GateReport) -> dict[str, str]:
    return {
        GATE_TAG: "passed" if report.passed else "refused",
        FAILED_TAG: ", ".join(rule.id for rule in report.failed) or "none",
    }


def _decision_tags(judgement: Judgement, digest: str) -> dict[str, str]:
    """Tags of the record and of the version: who was compared with whom, on what."""
    candidate, baseline = judgement.candidate, judgement.baseline
    return {
        "model": judgement.terms.model_name,
        "candidate": candidate.title,
        "candidate.fingerprint": ", ".join(candidate.distinct_fingerprints),
        "candidate.chosen": candidate.lineage.chosen,
        **({"candidate.parameters": candidate.lineage.parameters} if candidate.lineage.parameters else {}),
        "baseline": baseline.title,
        RUNS_TAG: _run_list(candidate),
        BASELINE_RUNS_TAG: _run_list(baseline),
        "data_digest": candidate.lineage.data_digest,
        "folds_digest": candidate.lineage.folds_digest,
        "training.commits": ", ".join(candidate.lineage.commits),
        EVIDENCE_TAG: digest,
    }


def _run_list(model: TrainedModel) -> str:
    return json.dumps(list(model.runs.values()))


def _registered_before(ledger: Ledger, name: str, digest: str) -> ModelVersion | None:
    found: list[Any] = list(
        ledger.client.search_model_versions(f"name = '{name}' and tags.{EVIDENCE_TAG} = '{digest}'")
    )
    return found[0] if found else None
