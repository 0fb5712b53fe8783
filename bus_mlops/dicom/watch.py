"""The loop of a hospital: ultrasound images that come into an archive are answered with a report and a segmentation.

Nothing is kept between two starts: what was answered is what the archive holds an answer for, whose identifiers follow
from the image and the package. Answers are no ultrasound, so that none is answered itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.dicom.answer import FRAMES, answer
from bus_mlops.dicom.archive import Archive, Place, RejectedError, Study
from bus_mlops.dicom.identity import uid
from bus_mlops.dicom.reply import reply
from bus_mlops.errors import DicomArchiveError, ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

    from bus_mlops.consumer.client import BusModel

LOG = logging.getLogger(__name__)
LONGEST_WAIT = 300.0


class _Stopped(Exception):  # noqa: N818 - raised and caught here
    """The end was asked for while an image was being answered."""


@dataclass
class Watch:
    """A watched archive.

    Attributes:
        model: Which answers.
        archive: Where images come from.
        store: Where answers go, the segmentation before the report.
        interval: Seconds between two looks.
        frames: Of a clip, at most.
        days: How old a study's date may be; 0 for any.
        stop: Set, it ends the watch before the next network is run.
        answered: How many images were.
    """

    model: BusModel
    archive: Archive
    store: Callable[[Sequence[Dataset]], None]
    interval: float = 3.0
    frames: int = FRAMES
    days: int = 1
    stop: Event = field(default_factory=Event)
    answered: int = 0
    _settled: dict[str, int | None] = field(default_factory=dict)
    _done: dict[str, set[str]] = field(default_factory=dict)

    def run(self) -> None:
        """Look again and again, until `stop` is set; an archive that is away is asked again, ever more seldom."""
        failures = 0
        while not self.stop.is_set():
            wait = self.interval
            try:
                self.look()
                if failures:
                    LOG.info("%s answers again.", self.archive.url)
                failures = 0
            except DicomArchiveError as error:
                failures += 1
                wait = min(self.interval * 2 ** min(failures, 10), LONGEST_WAIT)
                LOG.warning("%s Trying again in %.0f s.", error, wait)
            self.stop.wait(wait)

    def prepare(self) -> None:
        """Open the networks and load the libraries, which the first image would wait for."""
        import highdicom.seg
        import highdicom.sr  # noqa: F401

        size = self.model.package.input_size
        for member in range(len(self.model.package.members)):
            self.model.raw(member, np.zeros((1, size, size, 3), dtype=np.uint8))

    def look(self) -> None:
        """Answer what has no answer yet.

        Raises:
            DicomArchiveError: The archive is away or refuses.
        """
        studies = self.archive.studies(self._dates())
        kept = {study.uid for study in studies}
        self._settled = {each: count for each, count in self._settled.items() if each in kept}
        self._done = {each: done for each, done in self._done.items() if each in kept}
        for study in studies:
            if self.stop.is_set():
                return
            if study.objects is None or self._settled.get(study.uid, -1) != study.objects:
                self._answer_study(study)

    def _dates(self) -> str:
        """Of yesterday's studies and of those of a place where it is tomorrow."""
        now = datetime.now(UTC)
        first, last = now - timedelta(days=self.days), now + timedelta(days=1)
        return f"{first:%Y%m%d}-{last:%Y%m%d}" if self.days else ""

    def _answer_study(self, study: Study) -> None:
        done = self._done.setdefault(study.uid, set())
        places = [place for place in self.archive.images(study.uid) if place.instance not in done]
        known = self.archive.reports(study.uid, self.model.digest) if places else set()
        for place in places:
            if self.stop.is_set():
                return
            if uid("SR", place.instance, self.model.digest) not in known:
                try:
                    self._answer_image(place)
                except _Stopped:
                    return
                except (ImageError, RejectedError) as error:
                    # Not tried again before the next start: it would fail in the same way at every look.
                    LOG.warning("Not answered: %s", error)
            done.add(place.instance)
        self._settled[study.uid] = study.objects

    def _answer_image(self, place: Place) -> None:
        began = time.monotonic()
        found = answer(self.model, self.archive.retrieve(place), self.frames, self._before_run)
        made = reply(self.model, found)
        self.store(made.instances)
        self.answered += 1
        # The answer's own identifier: those of images stand in records of patients.
        LOG.info(
            "%s: %s (%d pictures, %.1f s)",
            found.prediction.status.capitalize(),
            made.report.SOPInstanceUID,
            len(found.looks),
            time.monotonic() - began,
        )

    def _before_run(self) -> None:
        if self.stop.is_set():
            raise _Stopped
