"""`bus-mlops accept`: a model on a hospital's own labelled cases. Needs the base install alone."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bus_mlops.cli.consumer import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bus_mlops.consumer.acceptance import Acceptance
    from bus_mlops.consumer.acceptance_verdict import Compared

ANSWERS_FILE, ACCEPTANCE_FILE, TRIAGE_FILE = "answers.csv", "acceptance.json", "triage.json"
_HEADINGS = {"roc_auc": "ROC AUC", "sensitivity": "sensitivity", "specificity": "specificity"}


def accept(
    model: Annotated[
        str, typer.Argument(help="models:/NAME@champion, models:/NAME/VERSION, a package folder or s3://...")
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Your labelled cases: a csv with the columns file,label[,patient][,scanner], or the folders benign/ "
            "and malignant/.",
        ),
    ],
    k: Annotated[
        list[int] | None,
        typer.Option("--k", min=4, help="Local cases to fit to; give it again for more. Default: 10, 20, 50, 100."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The fall of a metric that must be ruled out (fraction).")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws of cases.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write acceptance.json, answers.csv and triage.json here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")] = False,
    tracking_uri: Store = None,
) -> None:
    """Try a model on your own labelled cases: does it hold up, and what threshold fits there? Research use only.

    The cases must be none that it was trained on. Exits with 1 only where it cannot tell, as with a bad folder.
    """
    from bus_mlops.consumer.acceptance import COUNTS
    from bus_mlops.consumer.acceptance import accept as judge
    from bus_mlops.consumer.client import load_model
    from bus_mlops.consumer.local_cases import read_cases
    from bus_mlops.consumer.local_triage import write_triage
    from bus_mlops.environment import IMPATIENT, settings

    cases = read_cases(folder)
    with settings(IMPATIENT):
        loaded = load_model(model, tracking_uri)
    found = judge(loaded, cases, k or COUNTS, margin, seed)
    if out is not None:
        _write(found, out)
        if found.local_triage is not None:
            write_triage(out / TRIAGE_FILE, loaded.name, loaded.digest, found.local_triage)
    if as_json:
        sys.stdout.write(json.dumps(found.to_dict(), indent=2) + "\n")
        return
    print("\n".join(lines_of(found)))
    for line in (str(loaded.standing), loaded.package.notice):
        print(line)
    if loaded.package.phantom:
        print("This model was trained on synthetic images (phantoms): its answers mean nothing for patients.")


def lines_of(found: Acceptance) -> Iterator[str]:
    """What was found, for people."""
    which = f"version {found.version}" if found.version else found.digest[:12]
    yield (
        f"{found.model} {which} on {found.images} images of {found.cases} cases ({found.malignant_cases} malignant); "
        f"95 % intervals count cases."
    )
    yield from (f"note: {note}" for note in found.notes)
    if found.failed:
        name, why = found.failed[0]
        yield f"note: {len(found.failed)} images got no answer, the first is {name}: {why}"
    if found.triage:
        yield "\nRefused and triaged, shares of these images:"
        yield from (f"  {name} {share}" for name, share in found.triage.items() if not math.isnan(share.value))
    yield f"\nAs it ships (malignant from {found.threshold:.3f} on):"
    yield from (_compared(each) for each in found.shipped)
    more = [each for each in found.measured if each.unit != "image" and not math.isnan(each.here.value)]
    yield from (f"  {each.unit}, {each.images}: {_HEADINGS[each.metric]} {each.here}" for each in more)
    yield "\nFitted to k local cases, on all others (median over draws, and where 95 of 100 lie):"
    for each in found.recalibrated:
        if each.why_not:
            yield f"  k = {each.cases}: not drawn; {each.why_not}"
            continue
        bands = each.bands
        yield f"  k = {each.cases}: malignant from {bands['threshold']} on"
        yield f"    sensitivity {bands['sensitivity']}, specificity {bands['specificity']}"
        yield f"    Platt: slope {bands['slope']}, intercept {bands['intercept']}; temperature {bands['temperature']}"
        yield (
            f"    Brier score {bands['brier']}; after Platt {bands['brier_platt']}, after temperature "
            f"{bands['brier_temperature']}"
        )
        if "npv" in bands:
            yield (
                f"    triage: benign among low {bands['npv']}, nominal {bands['nominal_npv']}; malignant called low "
                f"{bands['missed']}; low {bands['low']}"
            )
    fitted = found.fitted
    yield "\nFitted to all of them (and how sure that is):"
    yield f"  malignant from {fitted['threshold']} on"
    yield f"  Platt: slope {fitted['slope']}, intercept {fitted['intercept']}; temperature {fitted['temperature']}"
    yield f"\nVerdict: {found.verdict.upper()}"
    yield from (f"  - {reason}" for reason in found.reasons)


def _compared(each: Compared) -> str:
    claimed = "nothing claimed" if math.isnan(each.claimed.value) else f"claimed {each.claimed}"
    return f"  {_HEADINGS[each.metric]:<12} {each.here}  {claimed}"


def _write(found: Acceptance, folder: Path) -> None:
    from bus_mlops.consumer.local_cases import LABELS
    from bus_mlops.files import replacing, write_json

    write_json(folder / ACCEPTANCE_FILE, found.to_dict())
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["file", "label", "patient", "scanner", "probability"])
    for image, probability in found.answers:
        answer = "" if probability is None else probability
        lines.writerow([image.name, LABELS[image.label], image.patient, image.scanner, answer])
    with replacing(folder / ANSWERS_FILE) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
