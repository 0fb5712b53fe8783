"""What the registry says for people: what a model's aliases mean, what the gate found about a version, its numbers.

The text of a version is written before the version is written down (`registration`), that of a model together with a
decision, whose record has its digest: who changes one of them later is noticed by `bus-mlops verify`.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING

from bus_mlops.gate.report import GateReport, RuleResult

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# What databases keep of a description, and of a tag; no more than that is compared later.
MOST_OF_TEXT, MOST_OF_NOTE = 5000, 7900
DIGITS = 4
_MODEL_ID = re.compile(r"\bm-[0-9a-f]{32}\b")
# MLflow shows as many of a data set's digest.
SHOWN_OF_DIGEST = 36

MODEL = """Networks that say whether a breast ultrasound image shows a malignant tumour, with preprocessing, threshold \
and outline inside. A research benchmark: no medical device.

| alias | what it means |
|---|---|
| `champion` | passed every rule of the gate, or was forced past it, which its tag `forced` says: what consumers get |
| `previous` | was champion before: what `bus-mlops rollback` brings back |
| `candidate` | was judged last and refused: to be looked at, not to be used |

Aliases are moved by `bus-mlops promote` and `bus-mlops rollback`, which write down who did it and why. "Promote \
model" and the alias editor of this page ask no gate and leave no record: `bus-mlops verify` says so where somebody \
has used them. What was decided is in the experiment `promotions`."""


def version_text(report: GateReport) -> str:
    """The gate's verdict on a version: one row a rule, cut where the registry would cut it."""
    verdict = "Passed the gate" if report.passed else f"Refused by {', '.join(each.id for each in report.failed)}"
    head = (
        f"{verdict}. Candidate: **{report.candidate}**, baseline: **{report.baseline}**, metric {report.metric}, "
        f"threshold {report.threshold}.\n\n| rule | outcome | limit | what was found |\n|---|---|---|---|"
    )
    text = "\n".join([head, *(_row(rule, rule.said) for rule in report.rules)])
    if len(text) > MOST_OF_TEXT:  # every rule counts more than what all of them say
        left = (MOST_OF_TEXT - len("\n".join([head, *(_row(rule, "") for rule in report.rules)]))) // len(report.rules)
        text = "\n".join([head, *(_row(rule, _cut(rule.sentence, left)) for rule in report.rules)])
    return text


def record_note(report: GateReport) -> str:
    """The whole report for the page of a decision."""
    return _cut(report.to_markdown(), MOST_OF_NOTE)


def describe_version(client: MlflowClient, version: ModelVersion, report: GateReport) -> ModelVersion:
    """Write the gate's table as the description of a version that has none yet; returns the version as it is then."""
    if version.description:
        return version
    client.update_model_version(version.name, str(version.version), description=version_text(report))
    return client.get_model_version(version.name, str(version.version))


def record_numbers(client: MlflowClient, version: ModelVersion, report: GateReport, data_digest: str) -> None:
    """Write the rules' numbers, in one call, as metrics of the version's model and of the record of its decision.

    Args:
        client: Of the store.
        version: Whose page shows them.
        report: Has them.
        data_digest: Of the images that were judged on.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    # The registry does not keep the model's id but in the address that the version was made of.
    model = _MODEL_ID.search(str(version.source))
    about = {"model_id": model.group(), "run_id": str(version.run_id)} if model else {}
    about |= {"dataset_name": "bus-benchmark", "dataset_digest": data_digest[:SHOWN_OF_DIGEST]}
    client.log_batch(
        str(version.run_id), metrics=[Metric(name, value, now, 0, **about) for name, value in numbers(report).items()]
    )


def numbers(report: GateReport) -> dict[str, float]:
    """The rules' numbers by `<rule>/<name>`, rounded; words, digests and what is infinite are left out."""
    return {
        f"{rule.id}/{name}": round(float(value), DIGITS)
        for rule in report.rules
        if rule.judged
        for name, value in rule.values.items()
        if not isinstance(value, str) and math.isfinite(value)
    }


def _row(rule: RuleResult, found: str) -> str:
    cells = f"{rule.id} {rule.title}", rule.outcome, rule.limit, found
    return "| " + " | ".join(each.replace("|", "/") for each in cells) + " |"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: max(0, most - 4)]} ..."
