"""Answers sent as scanners send images (C-STORE), for archives that take nothing over the web."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bus_mlops.dicom.archive import RejectedError
from bus_mlops.dicom.quiet import silenced
from bus_mlops.errors import DicomArchiveError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association

OUR_TITLE = "BUS_MLOPS"
_TARGET = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@:\s]+):(?P<port>\d{1,5})")
# 0 is success; what begins with B is stored, with a warning.
_STORED = (0x0000, 0xB000, 0xB006, 0xB007)


@dataclass(frozen=True)
class Receiver:
    """Where objects are sent to."""

    title: str
    host: str
    port: int

    @classmethod
    def parsed(cls, text: str) -> Receiver:
        """From `TITLE@HOST:PORT`.

        Raises:
            DicomArchiveError: It is not.

        >>> Receiver.parsed("PACS@127.0.0.1:104")
        Receiver(title='PACS', host='127.0.0.1', port=104)
        """
        match = _TARGET.fullmatch(text)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise DicomArchiveError(f"{text!r} is no receiver: TITLE@HOST:PORT is, as in PACS@archive:104.")
        return cls(match["title"], match["host"], int(match["port"]))

    def store(self, instances: Sequence[Dataset]) -> None:
        """Send objects.

        Raises:
            DicomArchiveError: It is away, or speaks to nobody of our name.
            RejectedError: It did not take one.
        """
        from pynetdicom import AE

        entity = AE(ae_title=OUR_TITLE)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
        for each in {str(instance.SOPClassUID) for instance in instances}:
            entity.add_requested_context(each)
        with silenced(*map(logging.getLogger, ("pynetdicom", "pydicom"))):
            association = entity.associate(self.host, self.port, ae_title=self.title)
            if not association.is_established:
                raise DicomArchiveError(
                    f"{self.title}@{self.host}:{self.port} cannot be reached or does not know {OUR_TITLE}. Is it "
                    "there, and is this machine on its list?"
                )
            try:
                for instance in instances:
                    self._send(association, instance)
            finally:
                association.release()

    def _send(self, association: Association, instance: Dataset) -> None:
        try:
            status = association.send_c_store(instance).get("Status")
        except (ValueError, RuntimeError) as error:
            raise RejectedError(f"{self.title} takes no {instance.Modality} ({type(error).__name__}).") from None
        if status is None:
            raise DicomArchiveError(f"{self.title}@{self.host}:{self.port} does not answer any more.")
        if status not in _STORED:
            raise RejectedError(f"{self.title} did not take a {instance.Modality} (status {status:#06x}).")
