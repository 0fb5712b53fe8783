"""The statement of intent: on what terms models are to be judged, as it is written on each run when it starts.

A term that was changed after the first run of a candidate had begun may have been changed because of what was seen.
The statement is no part of a fingerprint: nothing is trained anew because of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bus_mlops.config.schema import Config

# A run's tags: the statement, and its sha256, which is a parameter too, since MLflow lets nobody change those.
INTENT_TAG, INTENT_DIGEST = "protocol", "protocol.sha256"
# Whose network it is, who competes and who signs are no terms: other models are another look (`gate.look`). What
# params.yaml pins is the digest of all this.
NOT_TERMS = {"candidate_network", "candidates", "challengers", "protocol", "signing_key", "signing_certificate"}
# A server may take no more characters than these in a tag; a longer value stands as its sha256.
LONGEST, LONG = 5000, 300


@dataclass(frozen=True)
class Intent:
    """Terms by their dotted names in `params.yaml`, as JSON values."""

    terms: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Canonical JSON: what the digest is of."""
        return json.dumps(dict(self.terms), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """The sha256 of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def tags(self) -> dict[str, str]:
        """What a run is tagged with when it starts."""
        return {INTENT_TAG: self.text, INTENT_DIGEST: self.digest}

    def changes_to(self, later: Intent) -> tuple[str, ...]:
        """What later terms say otherwise, a clause for each key, with both values."""
        return tuple(
            f"{key} was {_shown(self.terms, key)} and is {_shown(later.terms, key)}"
            # What was not stated came with a later bus-mlops or a rule of one's own, and asks for more.
            for key in sorted(self.terms)
            if key not in later.terms or self.terms[key] != later.terms[key]
        )


def intent_of(config: Config) -> Intent:
    """Today's terms: metric, threshold, margins and limits of all rules, alpha, exclusions, cohorts, what is locked."""
    sections = {
        "promotion": config.promotion.model_dump(mode="json", exclude=NOT_TERMS),
        "audit": {"exclude": config.audit.exclude},
        "cohorts": config.model_dump(mode="json", include={"cohorts"})["cohorts"],
        # Of the folds only what keeps cases out of them; which folds there are, their own digest says.
        "folds": {"locked": config.folds.locked},
    }
    terms = {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
    for longest in (LONG, 40):
        terms = {key: _short(value, longest) for key, value in terms.items()}
        if len(Intent(terms).text) <= LONGEST:
            break
    return Intent(terms)


def read_intent(tags: Mapping[str, str], params: Mapping[str, str]) -> Intent | None:
    """The statement that a run was begun with; None of a run that has none, as of an earlier version.

    Raises:
        ValueError: It was changed or taken away since.
    """
    written = params.get(INTENT_DIGEST)
    if written is None:
        return None
    text = tags.get(INTENT_TAG, "")
    if hashlib.sha256(text.encode()).hexdigest() != written:
        raise ValueError(f"its tag {INTENT_TAG} is not the one whose sha256 ({written[:12]}) the run was begun with")
    return Intent(json.loads(text))


def _short(value: Any, longest: int) -> Any:
    text = json.dumps(value, sort_keys=True)
    return value if len(text) <= longest else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _shown(terms: Mapping[str, Any], key: str) -> str:
    return json.dumps(terms[key]) if key in terms else "not stated"
