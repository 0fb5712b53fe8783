"""One item of the checklists, what its answer is made from, and how parts become a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from bus_mlops.consumer.package_format import Package
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


def ids(claim: str = "", tripod: str = "") -> tuple[str, ...]:
    """Numbers of items, each with its checklist, from numbers with blanks between them."""
    return tuple(f"{name} {each}" for name, ids in ((CLAIM, claim), (TRIPOD, tripod)) for each in ids.split())


def nothing(_: Known) -> None:
    """The answer to what no program can know."""
    return


def always(text: str) -> Callable[[Known], str]:
    """The same answer of every model."""
    return lambda _: text


def listed(parts: Iterable[str], end: str = ".") -> str:
    """Parts of a sentence; "" if there are none."""
    said = "; ".join(part for part in parts if part)
    return f"{said}{end}" if said else ""


def of_grouping(known: Known, grouping: str) -> list[str]:
    """What was measured in each subgroup of a grouping."""
    return [_subgroup(each) for each in known.evidence.subgroups if each.grouping == grouping]


def _subgroup(each: SubgroupNumbers) -> str:
    numbers = [f"{name} {number}" for name, number in each.numbers.items()]
    small = [f"{name} {NO_EVIDENCE} ({why})" for name, why in each.too_small.items()]
    return f"{each.grouping} {each.name} ({each.images}, {each.malignant} malignant): {', '.join(numbers + small)}"


def software(known: Known) -> str:
    """Which code wrote the package."""
    return (
        f"bus-mlops {known.package.bus_mlops_version}, commit `{known.package.lineage.get('commit', 'unknown')}`; "
        "exact versions: requirements.txt of the MLflow model."
    )
