"""What the gate may know of images that no fold touches: the answers of two frozen models, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ExternalCohort:
    """A locked part or an external source, which a whole package and the baseline's whole ensemble are judged on.

    Attributes:
        name: `locked`, or the source.
        digest: Of its images, labels and groups.
        images: How many of them are judged.
        related: How many of a source are left out, as near-duplicates of images that are not external.
        answers: One row an image, with `image_id`, `case_id`, `group`, `source`, `label` (1 is malignant),
            `probability` (0-1), `threshold`, `probability_baseline` and `threshold_baseline`, and beside what is judged
            `oddness` (NaN: cannot tell; records made before have none); None as long as nobody has looked.
        closed: Why nobody may look, which refuses the candidate; empty where he may.
        note: What else there is to say, as of an earlier look.
    """

    name: str
    digest: str
    images: int
    related: int = 0
    answers: pd.DataFrame | None = field(default=None, repr=False)
    closed: str = ""
    note: str = ""
