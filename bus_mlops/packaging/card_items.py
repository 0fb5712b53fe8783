"""The items of CLAIM 2024 and TRIPOD+AI that a model can answer: what each asks, and what answers it.

CLAIM 2024: Tejani et al., Radiology: Artificial Intelligence 2024; 6(4): e240300. TRIPOD+AI: Collins et al., BMJ 2024;
385: e078378. Numbers are theirs, words are ours; title and abstract of a manuscript (1 and 2 of both) are left out.
"""

from __future__ import annotations

from bus_mlops.consumer.package_format import Package
from bus_mlops.packaging import card_evaluation, card_images, card_model, card_use
from bus_mlops.packaging.card_evidence import CardEvidence
from bus_mlops.packaging.card_item import NO_EVIDENCE, Item, Known

ITEMS: dict[str, tuple[Item, ...]] = card_images.ITEMS | card_model.ITEMS | card_evaluation.ITEMS | card_use.ITEMS


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
