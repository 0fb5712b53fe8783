"""Items of the checklists on limits, on where everything is, and on what only people can say."""

from __future__ import annotations

from bus_mlops.packaging.card_item import NO_EVIDENCE, OWNERS, Item, Known, always, ids, nothing, software


def _limits(known: Known) -> str:
    judged = known.package.judged
    external = "" if judged and judged.external else " No image of another clinic was judged."
    return f"See Limits. Sources label as they do, and folds share their scanners.{external}"


def _poor_input(known: Known) -> str:
    rule = known.package.refusal.oddity if known.package.refusal else None
    other = (
        "any other picture an answer" if rule is None else "one unlike its training images is refused (What it refuses)"
    )
    return f"A file that is no image, or too large, too small or of almost one value, gets an error; {other}."


def _protocol(known: Known) -> str:
    found = known.evidence
    return found.intent and f"Terms stated when the first run began, sha256 `{found.intent}`: {found.terms}."


def _availability(known: Known) -> str:
    fingerprint = known.package.lineage.get("fingerprint", "unknown")
    owners = "`dvc repro phantom` draws them" if known.package.phantom else "with the owners of the sources"
    return f"Model: this package, fingerprint `{fingerprint}`. Code: {software(known)} Images: {owners}."


ITEMS: dict[str, tuple[Item, ...]] = {
    "Limits": (
        Item(ids("40", "26"), "limits", _limits),
        Item(ids("", "27a"), "poor input", _poor_input),
        Item(
            ids("", "27b"),
            "what users must do and know",
            always("Choose the image; read status and reasons before the probability, and the spread of members."),
        ),
        Item(ids("", "27c"), "next steps", always(f"What is called {NO_EVIDENCE} here, an external test first.")),
    ),
    "Availability": (
        Item(ids("42", "18c"), "protocol", _protocol, "a run that states its terms when it begins"),
        Item(ids("43", "18e 18f"), "data, code and model", _availability),
    ),
    "Funding and registration": (
        Item(ids("34", "18d"), "registration", nothing, "an entry in a public register before the first run"),
        Item(ids("44", "18a"), "funding", nothing, "a statement by whoever promotes"),
        Item(ids("", "18b"), "conflicts of interest", nothing, "a statement by whoever promotes"),
        Item(ids("", "17"), "ethics", nothing, f"an approval, or {OWNERS}"),
        Item(ids("", "19"), "patients and the public", nothing, "patients who took part in the design"),
    ),
}
