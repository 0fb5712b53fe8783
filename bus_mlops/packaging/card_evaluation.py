"""Items of the checklists on what was measured of what ships, where, and how surely."""

from __future__ import annotations

from bus_mlops.packaging.card_item import OPENED_BY, Item, Known, ids, listed, nothing, of_grouping


def _internal(known: Known) -> str:
    return known.package.judged.sentence if known.package.judged else ""


def _external(known: Known) -> str:
    external = known.package.judged.external if known.package.judged else {}
    return listed(
        f"{name}: {each.images} images ({each.malignant} malignant), digest `{each.digest}`: "
        + ", ".join(f"{metric} {number}" for metric, number in each.numbers.items())
        for name, each in external.items()
    )


def _differences(known: Known) -> str:
    judged = known.package.judged
    if judged is None or judged.external:
        return ""
    return (
        "None in kind: test parts are of the same sources as train parts. Their shares of malignant images stand under "
        "CLAIM 36."
    )


def _metrics(known: Known) -> str:
    judged, report = known.package.judged, known.evidence.report
    if judged is None:
        return ""
    primary = f"primary: {report.metric}" if report else ""
    return listed([", ".join(judged.numbers), primary, "curves: `results/report.html`"])


def _uncertainty(known: Known) -> str:
    judged, found = known.package.judged, known.evidence
    if judged is None:
        return ""
    methods = sorted({number.method for number in judged.numbers.values() if number.method})
    superiority = [rule.sentence for rule in found.report.rules if rule.title == "superiority"] if found.report else []
    return " ".join([listed(f"95 % intervals: {method}" for method in methods), *superiority, found.look]).strip()


def _rules(known: Known) -> str:
    report = known.evidence.report
    return " ".join(f"{rule.id} {rule.outcome}: {rule.sentence}" for rule in report.rules) if report else ""


def _numbers(known: Known) -> str:
    judged = known.package.judged
    if judged is None:
        return ""
    own = listed((f"{name} {number}" for name, number in judged.numbers.items()), "")
    folds = listed((f"{name} {number}" for name, number in judged.at_fold_thresholds.items()), "")
    at_folds = folds and f"; at the thresholds of the folds: {folds}"
    return own and f"At {judged.threshold:.4f}: {own}{at_folds}."


def _failures(known: Known) -> str:
    return listed(
        f"{each.count} of {each.of} {each.kind}"
        + (f", the worst {', '.join(f'{image} ({p:.3f})' for image, p in each.worst)}" if each.worst else "")
        for each in known.evidence.failures
    )


def _verdict(known: Known) -> str:
    gate = known.package.gate
    return f"The gate: {gate}. It compares on these test images, and says nothing of others." if gate else ""


def _robustness(known: Known) -> str:
    probed = known.evidence.probed
    said = listed(f"{each.corruption} ({each.parameter}) {each.metric} by {each.drop}" for each in probed.robustness)
    return said and f"How far changed test images lower it, one network a fold, at the greatest strength: {said}"


def _explanations(known: Known) -> str:
    probed = known.evidence.probed
    said = listed(f"{name} {number}" for name, number in probed.explanations.items())
    return said and f"Where maps of {probed.images} test images point, as fractions: {said}"


def _heterogeneity(known: Known) -> str:
    report = known.evidence.report
    rule = [rule.sentence for rule in report.rules if rule.title == "every source"] if report else []
    groupings = ("source", "lesion size", "case")
    said = listed(part for grouping in groupings for part in of_grouping(known, grouping))
    return " ".join([said, *rule]).strip()


ITEMS: dict[str, tuple[Item, ...]] = {
    "Evaluation": (
        Item(ids("28", "12e"), "metrics", _metrics, of_images=True),
        Item(ids("29"), "uncertainty and tests", _uncertainty, of_images=True),
        Item(ids("32"), "internal test", _internal, of_images=True),
        Item(
            ids("33"),
            "external test",
            _external,
            OPENED_BY,
            of_images=True,
        ),
        Item(
            ids("", "16 20c"),
            "how test images differ from training's",
            _differences,
            "a comparison of the cohorts' characteristics",
            of_images=True,
        ),
        Item(ids("37"), "comparison with the baseline, rule by rule", _rules, of_images=True),
        Item(ids("38", "23a"), "diagnostic performance", _numbers, of_images=True),
        Item(ids("39"), "failures", _failures, of_images=True),
        Item(ids("", "25"), "what the results mean", _verdict, of_images=True),
    ),
    "Robustness, explanations, fairness": (
        Item(ids("30"), "robustness", _robustness, kind="probed", of_images=True),
        Item(ids("31"), "explanations", _explanations, kind="probed", of_images=True),
        Item(ids("", "12d 23b"), "differences between groups of images", _heterogeneity, of_images=True),
        Item(ids("", "14"), "fairness between patients", nothing, "age, origin and other traits of patients"),
    ),
}
