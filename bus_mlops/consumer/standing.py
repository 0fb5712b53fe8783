"""What the gate and those who decide have said of a model, as one value, in the same words wherever the model answers.

The store's record of decisions says it; a copy takes along what the record said when it was copied; of a folder without
a record only its own package speaks, which was written when the gate had judged it, before anybody decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

State = Literal["promoted", "forced", "replaced", "rolled back", "refused", "undecided", "unknown"]
Verdict = Literal["passed", "refused", ""]
# Decisions as their records name them, in the experiment of that name.
EXPERIMENT = "promotions"
PROMOTED, FORCED, REFUSED, CONFLICT, ROLLBACK = "promoted", "forced", "refused", "conflict", "rolled back"
MAKES_CHAMPION = (PROMOTED, FORCED, ROLLBACK)
DECISION_DIGEST = "decision.sha256"
# Tags of a version: the gate's verdict, and which rules refused it.
GATE_TAG, FAILED_TAG = "gate", "gate.failed"
# Tags of a registered model while somebody moves its aliases.
CLAIM_TAG = "promotion.claim."
SIGNED = {
    "": "",
    "trusted": " Signed by {0}, whom this machine trusts.",
    "unchecked": " SIGNED, BUT NOT CHECKED: no keys are trusted here.",
    "unsigned": " UNSIGNED: who made it is not known.",
}


class Standing(BaseModel):
    """What became of a model, by which decision, and what the gate itself had said.

    Attributes:
        state: `promoted` and `forced` (promoted though the gate refused it) are in force; `replaced` by a later
            champion and `rolled back` are former champions; `undecided` was judged, and nothing is on record.
        gate: The gate's own verdict; "" where it is not known.
        when: Time of the decision (ISO 8601, UTC); "" where none is known.
        decision: The record of the decision: id of a run in the store's experiment `promotions`.
        why: The rules that refuse, the reason of whoever decided, or what is missing.
        as_of: When the record was read for this copy (ISO 8601, UTC); "" where it was read just now.
        unexplained: What no decision on record explains, such as the alias that it was asked for by; "" for nothing.
        signed: `trusted` was checked against the keys that are trusted here; `unchecked` has a signature, and no keys
            are; "" where nobody has looked.
        signer: Of a trusted signature: the fingerprint of its key, and what names it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State = "unknown"
    gate: Verdict = ""
    when: str = ""
    decision: str = ""
    why: str = ""
    as_of: str = ""
    unexplained: str = ""
    signed: Literal["", "trusted", "unchecked", "unsigned"] = ""
    signer: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether the gate refused it, whatever was decided then."""
        return self.gate == "refused"

    def __str__(self) -> str:
        """A sentence; the first word is loud where the gate refused it.

        >>> str(Standing())
        "No gate's decision known."
        >>> str(Standing(state="refused", gate="refused", why="refused by floors", when="2026-01-02T03:04:05+00:00"))
        'REFUSED by the gate (refused by floors) on 2026-01-02 03:04 UTC.'
        >>> str(Standing(state="promoted", gate="passed", decision="0123456789abcdef"))
        'Promoted by the gate (decision 0123456789ab).'
        """
        loud = "REFUSED by the gate" if self.is_refused else ""
        heads = {
            "promoted": "Promoted by the gate",
            "forced": "REFUSED by the gate and promoted all the same",
            "replaced": f"{loud + '; was' if loud else 'Was'} champion until it was replaced",
            "rolled back": f"{loud + '; was' if loud else 'Was'} champion until it was rolled back",
            "refused": loud,
            "undecided": f"{loud or 'Passed the gate'}; no decision is known",
            "unknown": "No gate's decision known",
        }
        why = f" ({self.why})" if self.why else ""
        when = f" on {_short(self.when)}" if self.when else ""
        record = f" (decision {self.decision[:12]})" if self.decision else ""
        known = f" As of {_short(self.as_of)}, when it was copied." if self.as_of else ""
        strange = f" UNEXPLAINED: {self.unexplained}." if self.unexplained else ""
        signed = SIGNED[self.signed].format(self.signer)
        return f"{heads[self.state]}{why}{when}{record}.{known}{strange}{signed}"

    def to_dict(self) -> dict[str, str]:
        """For JSON: all fields, and the sentence."""
        return {**self.model_dump(), "sentence": str(self)}

    def copied(self) -> Standing:
        """For a copy made now; one of a copy keeps the time at which the record was read."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        own = self.model_copy(update={"signed": "", "signer": ""})
        return own if own.as_of or own.state == "unknown" else own.model_copy(update={"as_of": now})


UNKNOWN = Standing()


def of_package(verdict: str | None) -> Standing:
    """What a package says of itself, in the words of the gate's report; what was decided then it cannot know."""
    if not verdict:
        return Standing()
    gate: Verdict = "refused" if verdict.startswith("refused") else "passed"
    return Standing(state="undecided", gate=gate, why=verdict if gate == "refused" else "")


def reconciled(recorded: Standing | None, verdict: str | None) -> Standing:
    """What was recorded of a model, held against its package, whose verdict nobody can change without its digest.

    A record of a promotion by the gate, of a package that the gate refused, is not believed.
    """
    own = of_package(verdict)
    if recorded is None:
        return own
    kept = recorded.model_dump(include={"unexplained", "signed", "signer"})
    if recorded.state == "unknown":
        return own.model_copy(update=kept)
    if own.is_refused and not recorded.is_refused:
        why = f"its package says: {verdict}; a record that says {recorded.state} contradicts it"
        return Standing(state="refused", gate="refused", why=why, as_of=recorded.as_of, **kept)
    return recorded


def of_version(version: str, tags: Mapping[str, str], decisions: Iterable[Mapping[str, str]]) -> Standing:
    """What the record says of a version.

    Args:
        version: Its number.
        tags: Its tags, whose verdict is the gate's last word: the package's was written before external cohorts.
        decisions: The tags of all closed records of its model, the first one first, and `record`, the run's id.
    """
    verdict = of_package(tags.get(GATE_TAG)).gate
    failed = tags.get(FAILED_TAG, "") if verdict == "refused" else ""
    why = f"failed: {failed}" if failed else ""
    found = [each for each in decisions if each.get("decision") in (*MAKES_CHAMPION, REFUSED)]
    made = [each for each in found if each.get("version") == version and each["decision"] != ROLLBACK]
    reached = [i for i, each in enumerate(found) if each.get("champion_after") == version]
    after = found[reached[-1] + 1 :] if reached else []
    ended = next((each for each in after if each["decision"] in MAKES_CHAMPION), None)
    if ended is not None:
        back = ended["decision"] == ROLLBACK
        by = f"to version {ended['version']}: {ended.get('why', '')}" if back else f"by version {ended['version']}"
        return _standing("rolled back" if back else "replaced", verdict, ended, by)
    if not made:
        return Standing(state="undecided" if verdict else "unknown", gate=verdict, why=why)
    last = made[-1]
    if last["decision"] == FORCED:
        return _standing("forced", "refused", last, last.get("why", ""))
    if last["decision"] == PROMOTED:
        return _standing("promoted", "passed", last, "")
    return _standing("refused", "refused", last, why or last.get("why", ""))


def unexplained_alias(alias: str, version: str, decisions: Iterable[Mapping[str, str]]) -> str:
    """Why no decision explains that an alias points to a version; "" where one does.

    Args:
        alias: Its name.
        version: To which it points.
        decisions: As in `of_version`.
    """
    moved = [each for each in decisions if each.get("decision") in (*MAKES_CHAMPION, REFUSED)]
    if not moved:
        return f"the alias {alias} points to version {version}, and no decision on record set it"
    last = moved[-1]
    known = _aliases(last.get("aliases", ""))
    if known is None:  # decided by an earlier version: of the aliases it names the champion only
        known = {"champion": last.get("champion_after") or None}
        if alias != "champion":
            return ""
    if known.get(alias) == version:
        return ""
    left = f"version {known[alias]}" if known.get(alias) else "none"
    by = f"the latest decision ({last.get('record', '')[:12]}) left it at {left}"
    return f"the alias {alias} points to version {version}, and {by}"


def _aliases(text: str) -> dict[str, str | None] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def unread(version_tags: Mapping[str, str], problem: str) -> Standing:
    """Of a version whose record of decisions cannot be read: its tags' verdict, and why no more is known."""
    known = of_version("", version_tags, ())
    return known.model_copy(update={"why": "; ".join(filter(None, (known.why, problem)))})


def _standing(state: State, gate: Verdict, decision: Mapping[str, str], why: str) -> Standing:
    return Standing(state=state, gate=gate, when=decision.get("when", ""), decision=decision.get("record", ""), why=why)


def _short(when: str) -> str:
    """A time in minutes, as people read it; what is no time stays as it is."""
    try:
        return datetime.fromisoformat(when).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return when
