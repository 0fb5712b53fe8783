"""Items of the checklists on purpose and images: whose they are, how they were labelled and divided."""

from __future__ import annotations

from bus_mlops.packaging.card_item import OWNERS, Item, Known, always, ids, listed, nothing, of_grouping


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
    return f"To replace {report.baseline} if every rule passes, by {report.metric}: {listed(rules)}"


def _design(known: Known) -> str:
    if known.package.phantom:
        return "No patient was seen; a program drew the images."
    return "Retrospective: all images had been collected and labelled before the first training."


def _sources(known: Known) -> str:
    counts = (
        f"{each.name}: {each.kept} images of {each.cases} cases ({each.benign} benign, {each.malignant} malignant)"
        for each in known.evidence.sources
    )
    said = listed(counts)
    return said and f"{said} Digest of the images: `{known.package.lineage.get('data_digest', '')}`."


def _eligibility(known: Known) -> str:
    left = (
        f"{each.name}: {listed((f'{count} {reason}' for reason, count in each.excluded.items()), '') or 'none'} left "
        f"out on reading, {each.kept - each.in_folds} by the audit's exclusions"
        for each in known.evidence.sources
    )
    said = listed(left)
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
    masks = listed((f"{each.name}: {each.kept - each.with_mask} of {each.kept}" for each in known.evidence.sources), "")
    return masks and f"Nothing is imputed. Images without a mask: {masks}; without image or label none is used."


def _scanners(known: Known) -> str:
    return listed(of_grouping(known, "scanner"))


def _flow(known: Known) -> str:
    return listed(
        f"{each.name}: {each.listed} listed, {each.kept} assembled, {each.in_folds} in the folds"
        for each in known.evidence.sources
    )


def _characteristics(known: Known) -> str:
    parts = listed(f"{each.name} {each.malignant} of {each.images}" for each in known.evidence.parts)
    return parts and f"Of patients nothing is known. Malignant images: {parts}"


def _outcome(known: Known) -> str:
    if known.package.phantom:
        return "The program that drew an image decided whether its lesion is malignant."
    return "Benign or malignant, as each source labels its images; how it knew differs between sources."


def _test_labels(known: Known) -> str:
    if known.package.phantom:
        return "As those of all images: by the program."
    return "As those of all images: the sources' own, taken over; nobody labelled test images anew."


def _partitions(known: Known) -> str:
    found = known.evidence
    if not found.parts:
        return ""
    digest = known.package.lineage.get("folds_digest", "")
    parts = listed(f"{each.name} {each.images} images of {each.cases} cases" for each in found.parts)
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
        listed((f"{rule.id} {rule.power.rstrip('.')}" for rule in report.rules if rule.power), "") if report else ""
    )
    return powers and f"All images that there were, not planned. What so many can show: {powers}"


def _events(known: Known) -> str:
    judged = known.package.judged
    if judged is None:
        return ""
    others = [f"{name}: {each.images} images, {each.malignant} malignant" for name, each in judged.external.items()]
    return listed([f"Judged: {judged.images} images of {judged.cases} cases, {judged.malignant} malignant", *others])


ITEMS: dict[str, tuple[Item, ...]] = {
    "Purpose": (
        Item(ids("3 41", "3a 3b"), "the part it is to play, for whom", _intended),
        Item(ids("", "3c"), "known inequalities of health", nothing, "a review of the field, cited"),
        Item(ids("4 6", "4"), "aim and hypotheses", _objective),
        Item(ids("5"), "prospective or retrospective", _design, of_images=True),
    ),
    "Data": (
        Item(ids("7", "5a"), "sources", _sources, kind="sources", of_images=True),
        Item(ids("", "5b"), "dates of collection", nothing, OWNERS),
        Item(ids("", "6a"), "centres and setting", nothing, OWNERS),
        Item(ids("8", "6b"), "who is in and who is out", _eligibility, kind="sources", of_images=True),
        Item(ids("", "6c"), "treatments", nothing, OWNERS),
        Item(ids("9", "12b"), "preprocessing", _preprocessing),
        Item(ids("", "7"), "checks of quality", _audit, "`dvc repro audit`", kind="audit", of_images=True),
        Item(ids("10"), "choice of a subset", _subset, kind="sources", of_images=True),
        Item(ids("11"), "de-identification", nothing, OWNERS),
        Item(ids("12", "11"), "missing values", _absent_values, kind="sources", of_images=True),
        Item(ids("13"), "how images were acquired", _scanners, "a column `scanner` of a source", of_images=True),
        Item(
            ids("", "9a 9b 9c"),
            "predictors",
            always("The pixels of one image, all of them, read by a program; no other value."),
        ),
        Item(ids("35", "20a"), "flow of images", _flow, kind="sources", of_images=True),
        Item(ids("36", "20b"), "who they are, in each part", _characteristics, of_images=True),
    ),
    "Reference standard": (
        Item(ids("14", "8a"), "what the label means", _outcome, of_images=True),
        Item(ids("15"), "why this standard", nothing, OWNERS),
        Item(ids("16", "8b"), "who labelled", nothing, OWNERS),
        Item(ids("17"), "labels of test images", _test_labels, of_images=True),
        Item(ids("18"), "agreement of readers", nothing, "labels of the same images by several readers"),
        Item(ids("", "8c"), "blinding", nothing, OWNERS),
    ),
    "Partitions": (
        Item(ids("19", "12a"), "how images were divided", _partitions, of_images=True),
        Item(ids("20"), "what no two parts share", _disjoint, of_images=True),
        Item(ids("21", "10"), "sample size", _sample_size, of_images=True),
        Item(ids("", "21"), "images and malignant ones of each analysis", _events, of_images=True),
    ),
}
