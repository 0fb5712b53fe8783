"""The model card of a package: what it is for, what it learnt from, what it must not be used for."""

from __future__ import annotations

from bus_mlops.consumer.package_format import (
    EXAMPLE_IMAGE,
    EXAMPLE_PREDICTION,
    SUMS_FILE,
    ExternalNumbers,
    JudgedNumber,
    JudgedNumbers,
    Package,
)
from bus_mlops.consumer.refusal import Refusal
from bus_mlops.packaging.card_evidence import CardEvidence
from bus_mlops.packaging.card_item import NO_EVIDENCE, OPENED_BY
from bus_mlops.packaging.card_items import checklist

_NAMES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "calibration_error": "Expected calibration error",
}


def model_card(package: Package, evidence: CardEvidence | None = None) -> str:
    """Markdown for people: a short part, then every item of CLAIM 2024 and TRIPOD+AI that a model can answer.

    Args:
        package: That programs read.
        evidence: What else a promotion knows; nothing by default.
    """
    sections = {
        f"# {package.name}": [f"> **{package.notice}**", *_warning(package)],
        "## What it does": [_purpose(package)],
        "## Evidence": [
            f"Verdict of the promotion gate: **{package.gate or 'it has not run'}**. Its report, number by number, is "
            "an artifact of the run that registered this version; `bus-mlops verify VERSION` recomputes it.",
            *_evidence(package.judged, package.phantom),
        ],
        "## What it refuses": [_refusal(package.refusal), *_refused_outside(package)],
        "## Limits": [_limits(package)],
        "## What it learnt from": [f"Sources: {package.trained_on}.", _data(package)],
        "## Members": [_members(package)],
        "## Where it comes from": [_lineage(package)],
        "## Checklists": [_about_checklists(package), checklist(package, evidence or CardEvidence())],
    }
    return "\n\n".join(part for title, parts in sections.items() for part in (title, *parts)) + "\n"


def _warning(package: Package) -> list[str]:
    if not package.phantom:
        return []
    return ["> Trained on synthetic images (phantoms): its answers mean nothing for patients."]


def _purpose(package: Package) -> str:
    answers = ["the probability that the lesion is malignant (0-1)"]
    if package.has_mask:
        answers.append("a mask of the lesion")
    return (
        f"From one breast ultrasound image to {' and '.join(answers)}. Images are taken as the scanner wrote them; "
        f"they are padded to a square and resized to {package.input_size} x {package.input_size} pixels "
        f"({package.color}) inside. From a probability of {package.threshold:.4f} on the label is malignant."
    )


def _data(package: Package) -> str:
    if package.phantom:
        return "All of its images were drawn by a program."
    return (
        "Public research images, chosen by their owners and not a sample of any clinic's patients: the share of "
        "malignant cases among them says nothing about yours, and so the probability is not your patient's risk."
    )


def _members(package: Package) -> str:
    lines = [
        "| network | slope | intercept | greatest difference between Keras and ONNX |",
        "|---|---|---|---|",
        *(
            f"| {m.onnx} | {m.calibration.slope:.4f} | {m.calibration.intercept:.4f} | {m.max_difference:.1e} |"
            for m in package.members
        ),
    ]
    return "\n".join(lines) + (
        "\n\nThe answer is the mean over the members, each after its calibration: sigmoid(slope * logit(p) + "
        "intercept), fitted on validation parts. Their spread (greatest minus least) shows where they disagree."
    )


def _evidence(judged: JudgedNumbers | None, phantom: bool) -> list[str]:
    if judged is None:
        return ["Nothing was measured of what this package answers."]
    rows = [
        (
            _NAMES.get(name, name),
            f"{judged.threshold:.4f}" if name in ("sensitivity", "specificity") else "none",
            number,
        )
        for name, number in judged.numbers.items()
    ]
    rows += [(_NAMES.get(name, name), "of each fold", number) for name, number in judged.at_fold_thresholds.items()]
    table = ["| number | threshold | estimate | 95 % interval |", "|---|---|---|---|"]
    table += [f"| {name} | {at} | {number.estimate:.3f} | {_interval(number)} |" for name, at, number in rows]
    methods = sorted({number.method for _, _, number in rows if number.method})
    return [
        f"Of synthetic images: {judged.sentence}" if phantom else judged.sentence,
        "\n".join(table),
        *(f"Intervals: {method}." for method in methods),
        *(_external(name, each) for name, each in judged.external.items()),
    ]


def _external(name: str, judged: ExternalNumbers) -> str:
    numbers = "; ".join(
        f"{_NAMES.get(metric, metric)} {number.estimate:.3f} ({_interval(number)})"
        for metric, number in judged.numbers.items()
    )
    methods = sorted({number.method for number in judged.numbers.values()})
    return (
        f"Judged whole, once, on {_cohort(name)}, which no fold touches: {judged.images} images "
        f"({judged.malignant} malignant): {numbers}. 95 % intervals: {', '.join(methods)}."
    )


def _cohort(name: str) -> str:
    return "the locked part of the cases" if name == "locked" else f"the external source {name}"


def _interval(number: JudgedNumber) -> str:
    if number.low is None or number.high is None:
        return NO_EVIDENCE
    return f"{number.low:.3f} to {number.high:.3f}"


def _about_checklists(package: Package) -> str:
    images = " All images are synthetic (phantoms): no number here says anything of patients." * package.phantom
    return (
        "Items of CLAIM 2024 (AI in medical imaging) and TRIPOD+AI (prediction models) that a model can answer, in our "
        f"words, written by a program from what was recorded; {NO_EVIDENCE}: and what would make it. "
        f"`bus-mlops verify VERSION` recomputes the gate's numbers.{images}"
    )


def _lineage(package: Package) -> str:
    rows = [f"- {key}: `{value}`" for key, value in package.lineage.items()]
    return "\n".join([f"- written by bus-mlops {package.bus_mlops_version}", *rows])


def _refuses(package: Package) -> str:
    if package.refusal is None or package.refusal.oddity is None:
        return "It answers to any picture, also to one that shows no lesion or no breast."
    return (
        "It refuses pictures that look unlike its images, and answers to a breast without a lesion, to ultrasound of "
        "other organs that looks like its own, and to what a rule on gray levels and texture cannot tell."
    )


def _refusal(refusal: Refusal | None) -> str:
    """What it refuses and what it leaves open, with measured shares."""
    if refusal is None:
        return "It cannot refuse: it was made before packages could."
    parts = []
    if refusal.oddity is None:
        parts.append("It had too few images to learn what is unlike them: it refuses no picture for its oddness.")
    else:
        rows = "\n".join(f"| {name} | {share} |" for name, share in refusal.oddity.refused.items())
        parts.append(
            f"Pictures of an oddness above {refusal.oddity.threshold:.2f} are **refused**: at most "
            f"{100 * refusal.oddity.rate:g} % of looks at training images that the rule had not seen, each as it is "
            f"and as another scanner may show it. Measured, with 95 % intervals over whole cases:\n\n"
            f"| of | refused |\n|---|---|\n{rows}"
        )
    if refusal.most_color is not None:
        parts.append(f"Pictures of which more than {100 * refusal.most_color:g} % is coloured are **refused**, too.")
    if (rule := refusal.triage) is None:
        parts.append("No case was held out to calibrate triage on.")
        return "\n\n".join(parts)
    cuts = [f"below {rule.low:.4f} malignant is ruled out (**low**)"] if rule.low is not None else []
    cuts += [f"above {rule.high:.4f} benign is ruled out (**high**)"] if rule.high is not None else []
    npv = (
        ""
        if rule.nominal_npv is None
        else f" Of images of other such cases that are called low, {100 * rule.nominal_npv:.1f} % should be benign."
    )
    lines = "\n".join(f"| {name} | {share} |" for name, share in rule.measured.items())
    missed, alarms = 100 * rule.miss_rate, 100 * rule.false_alarm_rate
    parts.append(
        f"Triage: {' and '.join(cuts) or 'too few cases for that'}; all else is **uncertain**. Of malignant "
        f"cases like the {rule.malignant_cases} of the validation parts at most {missed:g} % are called low, of benign "
        f"ones like the {rule.benign_cases} at most {alarms:g} % high; at other places nothing is promised.{npv}"
    )
    if lines:
        parts.append(f"On test images:\n\n| share | of answers that were judged |\n|---|---|\n{lines}")
    return "\n\n".join(parts)


def _refused_outside(package: Package) -> list[str]:
    """What the rules make of each cohort that no fold touches; that nothing is known of any where none was opened."""
    if package.refusal is None or (package.refusal.oddity is None and package.refusal.triage is None):
        return []
    cohorts = package.judged.external if package.judged else {}
    if not cohorts:
        return [f"On images that no fold touches: {NO_EVIDENCE}, since the gate has opened none: {OPENED_BY}."]
    return [_refused_on(f"On {_cohort(name)}, which no fold touches", each) for name, each in cohorts.items()]


def _refused_on(where: str, judged: ExternalNumbers) -> str:
    if not judged.shares:
        return f"{where}: {NO_EVIDENCE}, since it was judged before shares were taken."
    rows = "\n".join(f"| {what} | {share} |" for what, share in judged.shares.items())
    return (
        f"{where}, read once; by look and probability, colour is not among the reasons:\n\n"
        f"| share | of {judged.images} images |\n|---|---|\n{rows}"
    )


def _limits(package: Package) -> str:
    judged = " and ".join(map(_cohort, package.judged.external)) if package.judged else ""
    others = f"those of its sources{judged and f', beyond {judged},'}"
    return (
        "- One still image a lesion; no video, no Doppler, no elastography, no other modality.\n"
        f"- {_refuses(package)}\n"
        f"- Scanners, settings and populations other than {others} were not tested.\n"
        f"- {EXAMPLE_PREDICTION} holds its answer to {EXAMPLE_IMAGE}, and {SUMS_FILE} the sha256 of every file: "
        "a copy that fails either is not this model."
    )
