"""The items of CLAIM 2024 and TRIPOD+AI that a model can answer: what each asks, and what answers it.

CLAIM 2024: Tejani et al., Radiology: Artificial Intelligence 2024; 6(4): e240300. TRIPOD+AI: Collins et al., BMJ 2024;
385: e078378. Numbers are theirs, words are ours; title and abstract of a manuscript (1 and 2 of both) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from bus_mlops.consumer.package_format import Calibration, Package
from bus_mlops.packaging.card_evidence import CardEvidence, SubgroupNumbers

CLAIM, TRIPOD = "CLAIM", "TRIPOD+AI"
NO_EVIDENCE = "no evidence"
# Beside a package that was judged: what a promotion writes down.
PROMOTE = "`bus-mlops promote`"
OWNERS = "a statement by the owners of each source"
OPENED_BY = "`cohorts.external` or `folds.locked` in params.yaml, and a candidate that no other rule refuses"


class Known(NamedTuple):
    """All that an item may be answered from."""

    package: Package
    evidence: CardEvidence


@dataclass(frozen=True)
class Item:
    """One thing that the checklists ask for.

    Attributes:
        ids: Numbers, each with its checklist.
        asks: In our words.
        answer: What is said or where the evidence is; None or "" where there is none.
        missing: What would make it.
        kind: Of the evidence, under which `CardEvidence.absent` may say why there is none.
        of_images: Whether the answer is about images, and so says of phantoms that they are.
    """

    ids: tuple[str, ...]
    asks: str
    answer: Callable[[Known], str | None]
    missing: str = PROMOTE
    kind: str = ""
    of_images: bool = False


def _ids(claim: str = "", tripod: str = "") -> tuple[str, ...]:
    return tuple(f"{name} {each}" for name, ids in ((CLAIM, claim), (TRIPOD, tripod)) for each in ids.split())


def _nothing(_: Known) -> None:
    return None


def _always(text: str) -> Callable[[Known], str]:
    return lambda _: text


def _listed(parts: Iterable[str], end: str = ".") -> str:
    """Parts of a sentence; "" if there are none."""
    said = "; ".join(part for part in parts if part)
    return f"{said}{end}" if said else ""


# ---- purpose


def _intended(known: Known) -> str:
    return (
        f"{known.package.notice} It is for people who study such models: one image of a lesion in, a probability of "
        "malignancy out, as one opinion among others."
    )


def _objective(known: Known) -> str | None:
    report = known.evidence.report
    if report is None:
        return None
    rules = (f"{rule.id} {rule.title}: {rule.limit}" for rule in report.rules)
    return f"To replace {report.baseline} if every rule passes, by {report.metric}: {_listed(rules)}"


def _design(known: Known) -> str:
    if known.package.phantom:
        return "No patient was seen; a program drew the images."
    return "Retrospective: all images had been collected and labelled before the first training."


# ---- data


def _sources(known: Known) -> str:
    counts = (
        f"{each.name}: {each.kept} images of {each.cases} cases ({each.benign} benign, {each.malignant} malignant)"
        for each in known.evidence.sources
    )
    said = _listed(counts)
    return said and f"{said} Digest of the images: `{known.package.lineage.get('data_digest', '')}`."


def _eligibility(known: Known) -> str:
    left = (
        f"{each.name}: {_listed((f'{count} {reason}' for reason, count in each.excluded.items()), '') or 'none'} left "
        f"out on reading, {each.kept - each.in_folds} by the audit's exclusions"
        for each in known.evidence.sources
    )
    said = _listed(left)
    return said and f"Every image of the sources with a label benign or malignant. {said}"


def _preprocessing(known: Known) -> str:
    package, spec = known.package, known.evidence.spec
    scaled = f"; pixels are scaled ({spec.training.scaling}) inside the network" if spec else ""
    return (
        f"Images are read as {package.color}, padded to a square and resized to {package.input_size} x "
        f"{package.input_size} pixels, in training and by consumers alike{scaled}."
    )


def _audit(known: Known) -> str | None:
    found = known.evidence.audit
    if found is None:
        return None
    return (
        f"Of {found.images} assembled images the audit found {found.exact_duplicate_pairs} pairs of equal ones and "
        f"{found.near_duplicate_pairs} of nearly equal ones; {found.conflicting_clusters} clusters of these and "
        f"{found.conflicting_cases} cases have both labels. `data/audit/audit.json` names them."
    )


def _subset(known: Known) -> str:
    names = [each.name for each in known.evidence.sources]
    return f"Of all that was assembled the sources {', '.join(names)} (`cohorts` in params.yaml)." if names else ""


def _absent_values(known: Known) -> str:
    masks = _listed(
        (f"{each.name}: {each.kept - each.with_mask} of {each.kept}" for each in known.evidence.sources), ""
    )
    return masks and f"Nothing is imputed. Images without a mask: {masks}; without image or label none is used."


def _scanners(known: Known) -> str:
    return _listed(_of_grouping(known, "scanner"))


def _flow(known: Known) -> str:
    return _listed(
        f"{each.name}: {each.listed} listed, {each.kept} assembled, {each.in_folds} in the folds"
        for each in known.evidence.sources
    )


def _characteristics(known: Known) -> str:
    parts = _listed(f"{each.name} {each.malignant} of {each.images}" for each in known.evidence.parts)
    return parts and f"Of patients nothing is known. Malignant images: {parts}"


# ---- reference standard


def _outcome(known: Known) -> str:
    if known.package.phantom:
        return "The program that drew an image decided whether its lesion is malignant."
    return "Benign or malignant, as each source labels its images; how it knew differs between sources."


def _test_labels(known: Known) -> str:
    if known.package.phantom:
        return "As those of all images: by the program."
    return "As those of all images: the sources' own, taken over; nobody labelled test images anew."


# ---- partitions


def _partitions(known: Known) -> str:
    found = known.evidence
    if not found.parts:
        return ""
    digest = known.package.lineage.get("folds_digest", "")
    parts = _listed(f"{each.name} {each.images} images of {each.cases} cases" for each in found.parts)
    return f"Folds of the kind {found.folds_kind}, digest `{digest}` (`gate/folds.csv` of the record). {parts}"


def _disjoint(known: Known) -> str:
    found = known.evidence
    if not found.groups:
        return ""
    return (
        f"Leakage groups: cases and what is nearly equal to one of their images. {found.groups} groups, the largest of "
        f"{found.largest_group} images; check of the folds: {found.leaks}."
    )


def _sample_size(known: Known) -> str | None:
    report = known.evidence.report
    powers = (
        _listed((f"{rule.id} {rule.power.rstrip('.')}" for rule in report.rules if rule.power), "") if report else ""
    )
    return powers and f"All images that there were, not planned. What so many can show: {powers}"


def _internal(known: Known) -> str:
    return known.package.judged.sentence if known.package.judged else ""


def _external(known: Known) -> str:
    external = known.package.judged.external if known.package.judged else {}
    return _listed(
        f"{name}: {each.images} images ({each.malignant} malignant), digest `{each.digest}`: "
        + ", ".join(f"{metric} {number}" for metric, number in each.numbers.items())
        for name, each in external.items()
    )


def _events(known: Known) -> str:
    judged = known.package.judged
    if judged is None:
        return ""
    others = [f"{name}: {each.images} images, {each.malignant} malignant" for name, each in judged.external.items()]
    return _listed([f"Judged: {judged.images} images of {judged.cases} cases, {judged.malignant} malignant", *others])


def _differences(known: Known) -> str:
    judged = known.package.judged
    if judged is None or judged.external:
        return ""
    return (
        "None in kind: test parts are of the same sources as train parts. Their shares of malignant images stand under "
        "CLAIM 36."
    )


# ---- model and training


def _architecture(known: Known) -> str:
    package, spec = known.package, known.evidence.spec
    options = ", ".join(f"{name} {value}" for name, value in spec.options.items()) if spec else ""
    name = f"`{spec.network}`{f' ({options})' if options else ''}, {spec.task}: " if spec else ""
    cost = known.evidence.probed.cost
    units = {"parameters": "parameters", "multiply_accumulates": "multiply-accumulates"}
    units |= {"latency_ms": "ms an image on the machine that probed it", "peak_memory_mb": "MB of memory at most"}
    size = _listed((f"{cost[name]:,.4g} {unit}" for name, unit in units.items() if name in cost), "")
    size = size and f" One network: {size}."
    return (
        f"{name}one image of {package.input_size} x {package.input_size} x 3 in, {' and '.join(package.outputs)} "
        f"out.{size} Every layer and weight: {', '.join(member.keras for member in package.members)}."
    )


def _software(known: Known) -> str:
    return (
        f"bus-mlops {known.package.bus_mlops_version}, commit `{known.package.lineage.get('commit', 'unknown')}`; "
        "exact versions: requirements.txt of the MLflow model."
    )


def _initialization(known: Known) -> str:
    spec = known.evidence.spec
    if spec is None:
        return ""
    seeds = ", ".join(map(str, known.evidence.seeds))
    head = spec.training.head_initializer or "the network's own"
    return f"Weights: {spec.training.weights}; hidden layers of the head: {head}; seeds {seeds}."


def _training(known: Known) -> str:
    spec = known.evidence.spec
    if spec is None:
        return ""
    values = spec.training.model_dump(mode="json")
    said = (f"{name} {_plain(value)}" for name, value in values.items() if value is not None)
    return f"The first run's (of others see 12c): {_listed(said)}"


def _tuning(known: Known) -> str:
    chosen = {
        "fixed": "Parameters stood in params.yaml",
        "nested": "Parameters were chosen by a search, for each fold on images outside its test part",
        "flat": "Parameters were chosen by a search on images that are tested on",
    }
    said = chosen.get(known.evidence.chosen, "")
    which = known.package.lineage.get("chosen", "")
    return _listed([said, f"which: {which}" if said and which else ""])


def _selection(known: Known) -> str:
    spec = known.evidence.spec
    if spec is None:
        return ""
    kept = {"best": "the lowest validation loss", "last": "the last epoch"}[spec.training.kept_epoch]
    return f"Of each training the weights of {kept}; of several trainings those under Members, by `package.members`."


def _ensemble(known: Known) -> str:
    count = len(known.package.members)
    return "None: one network." if count == 1 else f"The mean of {count} members, each after its own calibration."


def _imbalance(known: Known) -> str:
    spec = known.evidence.spec
    if spec is None:
        return ""
    loss = _plain(spec.training.loss.model_dump(mode="json"))
    return f"By the loss alone: {loss}. Probabilities are calibrated afterwards on parts that were not resampled."


def _output(known: Known) -> str:
    report = known.evidence.report
    chosen = {"youden": ", Youden's over the members' validation parts", "half": ", whatever the images"}
    how = chosen.get(report.threshold, "") if report else ""
    return f"A probability of malignancy (0-1), and a label: malignant from {known.package.threshold:.4f} on{how}."


def _prediction(known: Known) -> str:
    asked = known.package.judged.answered if known.package.judged else 0
    return (
        "`load_model(URI).predict(images)`: each member's probability p becomes sigmoid(slope * logit(p) + intercept) "
        f"with its numbers under Members, then their mean. The gate asked the same code about {asked} test images."
    )


def _updating(known: Known) -> str:
    fitted = sum(member.calibration != Calibration() for member in known.package.members)
    return (
        f"Platt's calibration of {fitted} of {len(known.package.members)} members, on validation parts; nothing was "
        "fitted to another setting."
    )


# ---- evaluation


def _metrics(known: Known) -> str:
    judged, report = known.package.judged, known.evidence.report
    if judged is None:
        return ""
    primary = f"primary: {report.metric}" if report else ""
    return _listed([", ".join(judged.numbers), primary, "curves: `results/report.html`"])


def _uncertainty(known: Known) -> str:
    judged, found = known.package.judged, known.evidence
    if judged is None:
        return ""
    methods = sorted({number.method for number in judged.numbers.values() if number.method})
    superiority = [rule.sentence for rule in found.report.rules if rule.title == "superiority"] if found.report else []
    return " ".join([_listed(f"95 % intervals: {method}" for method in methods), *superiority, found.look]).strip()


def _rules(known: Known) -> str:
    report = known.evidence.report
    return " ".join(f"{rule.id} {rule.outcome}: {rule.sentence}" for rule in report.rules) if report else ""


def _numbers(known: Known) -> str:
    judged = known.package.judged
    if judged is None:
        return ""
    own = _listed((f"{name} {number}" for name, number in judged.numbers.items()), "")
    folds = _listed((f"{name} {number}" for name, number in judged.at_fold_thresholds.items()), "")
    at_folds = folds and f"; at the thresholds of the folds: {folds}"
    return own and f"At {judged.threshold:.4f}: {own}{at_folds}."


def _failures(known: Known) -> str:
    return _listed(
        f"{each.count} of {each.of} {each.kind}"
        + (f", the worst {', '.join(f'{image} ({p:.3f})' for image, p in each.worst)}" if each.worst else "")
        for each in known.evidence.failures
    )


def _verdict(known: Known) -> str:
    gate = known.package.gate
    return f"The gate: {gate}. It compares on these test images, and says nothing of others." if gate else ""


# ---- robustness, explanations, fairness


def _robustness(known: Known) -> str:
    probed = known.evidence.probed
    said = _listed(f"{each.corruption} ({each.parameter}) {each.metric} by {each.drop}" for each in probed.robustness)
    return said and f"How far changed test images lower it, one network a fold, at the greatest strength: {said}"


def _explanations(known: Known) -> str:
    probed = known.evidence.probed
    said = _listed(f"{name} {number}" for name, number in probed.explanations.items())
    return said and f"Where maps of {probed.images} test images point, as fractions: {said}"


def _heterogeneity(known: Known) -> str:
    report = known.evidence.report
    rule = [rule.sentence for rule in report.rules if rule.title == "every source"] if report else []
    groupings = ("source", "lesion size", "case")
    said = _listed(part for grouping in groupings for part in _of_grouping(known, grouping))
    return " ".join([said, *rule]).strip()


def _of_grouping(known: Known, grouping: str) -> list[str]:
    return [_subgroup(each) for each in known.evidence.subgroups if each.grouping == grouping]


def _subgroup(each: SubgroupNumbers) -> str:
    numbers = [f"{name} {number}" for name, number in each.numbers.items()]
    small = [f"{name} {NO_EVIDENCE} ({why})" for name, why in each.too_small.items()]
    return f"{each.grouping} {each.name} ({each.images}, {each.malignant} malignant): {', '.join(numbers + small)}"


# ---- limits, availability


def _limits(known: Known) -> str:
    judged = known.package.judged
    external = "" if judged and judged.external else " No image of another clinic was judged."
    return f"See Limits. Sources label as they do, and folds share their scanners.{external}"


def _poor_input(known: Known) -> str:
    rule = known.package.refusal.oddity if known.package.refusal else None
    other = "any other picture an answer" if rule is None else "one unlike its training images is refused (see there)"
    return f"A file that is no image, or too large, too small or of almost one value, gets an error; {other}."


def _protocol(known: Known) -> str:
    found = known.evidence
    return found.intent and f"Terms stated when the first run began, sha256 `{found.intent}`: {found.terms}."


def _availability(known: Known) -> str:
    fingerprint = known.package.lineage.get("fingerprint", "unknown")
    owners = "`dvc repro phantom` draws them" if known.package.phantom else "with the owners of the sources"
    return f"Model: this package, fingerprint `{fingerprint}`. Code: {_software(known)} Images: {owners}."


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_plain(each)}' for name, each in value.items() if each is not None)})"
    return str(value)


ITEMS: dict[str, tuple[Item, ...]] = {
    "Purpose": (
        Item(_ids("3 41", "3a 3b"), "the part it is to play, for whom", _intended),
        Item(_ids("", "3c"), "known inequalities of health", _nothing, "a review of the field, cited"),
        Item(_ids("4 6", "4"), "aim and hypotheses", _objective),
        Item(_ids("5"), "prospective or retrospective", _design, of_images=True),
    ),
    "Data": (
        Item(_ids("7", "5a"), "sources", _sources, kind="sources", of_images=True),
        Item(_ids("", "5b"), "dates of collection", _nothing, OWNERS),
        Item(_ids("", "6a"), "centres and setting", _nothing, OWNERS),
        Item(_ids("8", "6b"), "who is in and who is out", _eligibility, kind="sources", of_images=True),
        Item(_ids("", "6c"), "treatments", _nothing, OWNERS),
        Item(_ids("9", "12b"), "preprocessing", _preprocessing),
        Item(_ids("", "7"), "checks of quality", _audit, "`dvc repro audit`", kind="audit", of_images=True),
        Item(_ids("10"), "choice of a subset", _subset, kind="sources", of_images=True),
        Item(_ids("11"), "de-identification", _nothing, OWNERS),
        Item(_ids("12", "11"), "missing values", _absent_values, kind="sources", of_images=True),
        Item(_ids("13"), "how images were acquired", _scanners, "a column `scanner` of a source", of_images=True),
        Item(
            _ids("", "9a 9b 9c"),
            "predictors",
            _always("The pixels of one image, all of them, read by a program; no other value."),
        ),
        Item(_ids("35", "20a"), "flow of images", _flow, kind="sources", of_images=True),
        Item(_ids("36", "20b"), "who they are, in each part", _characteristics, of_images=True),
    ),
    "Reference standard": (
        Item(_ids("14", "8a"), "what the label means", _outcome, of_images=True),
        Item(_ids("15"), "why this standard", _nothing, OWNERS),
        Item(_ids("16", "8b"), "who labelled", _nothing, OWNERS),
        Item(_ids("17"), "labels of test images", _test_labels, of_images=True),
        Item(_ids("18"), "agreement of readers", _nothing, "labels of the same images by several readers"),
        Item(_ids("", "8c"), "blinding", _nothing, OWNERS),
    ),
    "Partitions": (
        Item(_ids("19", "12a"), "how images were divided", _partitions, of_images=True),
        Item(_ids("20"), "what no two parts share", _disjoint, of_images=True),
        Item(_ids("21", "10"), "sample size", _sample_size, of_images=True),
        Item(_ids("", "21"), "images and malignant ones of each analysis", _events, of_images=True),
    ),
    "Model": (
        Item(_ids("22", "22"), "architecture and full specification", _architecture),
        Item(_ids("23"), "software", _software),
        Item(_ids("24"), "initial weights", _initialization),
        Item(_ids("27"), "ensemble", _ensemble),
        Item(_ids("", "15"), "output and threshold", _output),
        Item(_ids("", "12g"), "how a prediction is computed", _prediction),
    ),
    "Training": (
        Item(_ids("25"), "training", _training),
        Item(_ids("", "12c"), "choice of model and of its parameters", _tuning),
        Item(_ids("26"), "which training stays", _selection),
        Item(_ids("", "13"), "imbalance of classes", _imbalance),
        Item(_ids("", "12f 24"), "recalibration and updating", _updating),
    ),
    "Evaluation": (
        Item(_ids("28", "12e"), "metrics", _metrics, of_images=True),
        Item(_ids("29"), "uncertainty and tests", _uncertainty, of_images=True),
        Item(_ids("32"), "internal test", _internal, of_images=True),
        Item(
            _ids("33"),
            "external test",
            _external,
            OPENED_BY,
            of_images=True,
        ),
        Item(
            _ids("", "16 20c"),
            "how test images differ from training's",
            _differences,
            "a comparison of the cohorts' characteristics",
            of_images=True,
        ),
        Item(_ids("37"), "comparison with the baseline, rule by rule", _rules, of_images=True),
        Item(_ids("38", "23a"), "diagnostic performance", _numbers, of_images=True),
        Item(_ids("39"), "failures", _failures, of_images=True),
        Item(_ids("", "25"), "what the results mean", _verdict, of_images=True),
    ),
    "Robustness, explanations, fairness": (
        Item(_ids("30"), "robustness", _robustness, kind="probed", of_images=True),
        Item(_ids("31"), "explanations", _explanations, kind="probed", of_images=True),
        Item(_ids("", "12d 23b"), "differences between groups of images", _heterogeneity, of_images=True),
        Item(_ids("", "14"), "fairness between patients", _nothing, "age, origin and other traits of patients"),
    ),
    "Limits": (
        Item(_ids("40", "26"), "limits", _limits),
        Item(_ids("", "27a"), "poor input", _poor_input),
        Item(
            _ids("", "27b"),
            "what users must do and know",
            _always("Choose the image; read status and reasons before the probability, and the spread of members."),
        ),
        Item(_ids("", "27c"), "next steps", _always(f"What is called {NO_EVIDENCE} here, an external test first.")),
    ),
    "Availability": (
        Item(_ids("42", "18c"), "protocol", _protocol, "a run that states its terms when it begins"),
        Item(_ids("43", "18e 18f"), "data, code and model", _availability),
    ),
    "Funding and registration": (
        Item(_ids("34", "18d"), "registration", _nothing, "an entry in a public register before the first run"),
        Item(_ids("44", "18a"), "funding", _nothing, "a statement by whoever promotes"),
        Item(_ids("", "18b"), "conflicts of interest", _nothing, "a statement by whoever promotes"),
        Item(_ids("", "17"), "ethics", _nothing, f"an approval, or {OWNERS}"),
        Item(_ids("", "19"), "patients and the public", _nothing, "patients who took part in the design"),
    ),
}


def checklist(package: Package, evidence: CardEvidence) -> str:
    """One table of all items: what is said of each, or that there is no evidence and what would make it."""
    known = Known(package, evidence)
    lines = ["| item | asks for | evidence |", "|---|---|---|"]
    for group, items in ITEMS.items():
        lines.append(f"| **{group}** | | |")
        lines += [f"| {', '.join(each.ids)} | {each.asks} | {_cell(_said(each, known))} |" for each in items]
    return "\n".join(lines)


def _said(item: Item, known: Known) -> str:
    text = item.answer(known)
    if text:
        return f"Synthetic images: {text}" if item.of_images and known.package.phantom else text
    why = known.evidence.absent.get(item.kind, "")
    return f"{NO_EVIDENCE}: {why or item.missing}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
