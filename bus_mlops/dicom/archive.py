"""A DICOM archive over the web (DICOMweb): what is in it, an image of it, and answers into it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bus_mlops.dicom.identity import uid
from bus_mlops.dicom.quiet import silenced
from bus_mlops.dicom.reading import IMAGE_CLASSES, MAX_BYTES, MODALITY, UltrasoundImage, image_of
from bus_mlops.errors import DicomArchiveError, DicomError

if TYPE_CHECKING:
    import requests
    from dicomweb_client import DICOMwebClient
    from pydicom import Dataset

USERNAME, PASSWORD, TOKEN = (f"BUS_MLOPS_DICOMWEB_{name}" for name in ("USERNAME", "PASSWORD", "TOKEN"))
# Seconds until a connection stands, and between two parts of an answer.
PATIENCE = (5.0, 60.0)
_STUDY, _SERIES, _INSTANCE, _CLASS = "0020000D", "0020000E", "00080018", "00080016"
_IN_STUDY, _ROWS, _COLUMNS, _FRAMES, _SAMPLES = "00201208", "00280010", "00280011", "00280008", "00280002"


class RejectedError(DicomArchiveError):
    """The archive is there, and did not take an answer."""


@dataclass(frozen=True)
class Study:
    """A study in the archive, and how many objects the archive says it has; None where it does not say."""

    uid: str
    objects: int | None


@dataclass(frozen=True)
class Place:
    """Where an image is in the archive, and how many bytes its pixels take at most, as far as the archive says."""

    study: str
    series: str
    instance: str
    size: int


class Archive:
    """A DICOMweb server.

    Credentials stand in the environment, never in the address, which other users of the machine see: a token, or a
    user's name and password.
    """

    def __init__(self, url: str) -> None:
        """Where it is.

        Args:
            url: Of its DICOMweb root, as `http://archive:8042/dicom-web`.

        Raises:
            DicomArchiveError: That is no such address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DicomArchiveError(f"{url!r} is no address of a DICOMweb server: http(s)://HOST:PORT/dicom-web is.")
        if parts.username or parts.password:
            raise DicomArchiveError(
                f"the address of {parts.hostname} holds a login, which everybody on this machine can see: set "
                f"{USERNAME} and {PASSWORD}, or {TOKEN}, instead."
            )
        self.url = url.rstrip("/")
        self._client = _client(self.url)

    def studies(self, dates: str) -> list[Study]:
        """The studies with ultrasound in them.

        Args:
            dates: Of the study, as `20260101-20260102`; "" for all.
        """
        filters = {"ModalitiesInStudy": MODALITY} | ({"StudyDate": dates} if dates else {})
        search = partial(
            self._client.search_for_studies, search_filters=filters, fields=["NumberOfStudyRelatedInstances"]
        )
        return [Study(name, _number(each, _IN_STUDY)) for name, each in self._found(search, _STUDY).items()]

    def images(self, study: str) -> list[Place]:
        """The ultrasound images of a study."""
        search = partial(self._client.search_for_series, study, search_filters={"Modality": MODALITY})
        places: list[Place] = []
        for series in self._found(search, _SERIES):
            found = self._found(partial(self._client.search_for_instances, study, series), _INSTANCE)
            places += [
                Place(study, series, name, _size(item))
                for name, item in found.items()
                if str(_value(item, _CLASS) or IMAGE_CLASSES[0]) in IMAGE_CLASSES
            ]
        return places

    def reports(self, study: str, digest: str) -> set[str]:
        """The UIDs of the reports that a package has given in a study."""
        series = uid("SR series", study, digest)
        return set(self._found(partial(self._client.search_for_instances, study, series), _INSTANCE))

    def retrieve(self, place: Place) -> UltrasoundImage:
        """An image.

        Raises:
            DicomError: It is larger than is read, or no ultrasound image.
        """
        if place.size > MAX_BYTES:
            raise DicomError(f"an image claims {place.size:,} bytes of pixels: more than {MAX_BYTES:,} are not read.")
        with self._asked(alone=True):
            dataset = self._client.retrieve_instance(
                place.study, place.series, place.instance, media_types=(("application/dicom", "*"),)
            )
        return image_of(dataset, "an image of the archive")

    def store(self, instances: Sequence[Dataset]) -> None:
        """Put objects into the archive; those that are there already stay or are replaced, as it is set up.

        Raises:
            RejectedError: It did not take one.
        """
        with self._asked():
            answer = self._client.store_instances(instances)
        failed = list(answer.get("FailedSOPSequence") or [])
        if failed:
            reasons = sorted({f"{int(item.get('FailureReason') or 0):#06x}" for item in failed})
            raise RejectedError(
                f"{self.url} did not take {len(failed)} of {len(instances)} objects ({', '.join(reasons)})."
            )

    def _found(self, search: Callable[..., list[dict[str, Any]]], key: str) -> dict[str, dict[str, Any]]:
        """All that a search finds, by its identifier: an archive may give it in parts, or all of it again."""
        found: dict[str, dict[str, Any]] = {}
        while True:
            with self._asked():
                part = search(offset=len(found) or None)
                new = {str(_value(item, key)): item for item in part if _value(item, key)}
            if not new.keys() - found.keys():
                return found
            found |= new

    @contextmanager
    def _asked(self, *, alone: bool = False) -> Iterator[None]:
        """Turn what goes wrong on the way into an error of ours; nothing that was sent or received is quoted.

        What goes wrong with an object alone is a DicomError: others may be in order.
        """
        import requests

        try:
            with warnings.catch_warnings(), silenced(*map(logging.getLogger, ("pydicom", "dicomweb_client.web"))):
                warnings.simplefilter("ignore")
                yield
        except requests.HTTPError as error:
            status = None if error.response is None else error.response.status_code
            if alone and status not in _OF_ALL:
                raise DicomError(f"{self.url} does not give an image that it lists (status {status}).") from None
            kind = RejectedError if status in (400, 409, 413, 415) else DicomArchiveError
            raise kind(f"{self.url} answers with status {status}. {_REMEDIES.get(status, _REMEDY)}") from None
        except requests.Timeout:
            raise DicomArchiveError(f"{self.url} does not answer in time. {_REMEDY}") from None
        except (requests.ConnectionError, requests.exceptions.InvalidURL) as error:
            raise DicomArchiveError(f"{self.url} cannot be reached ({type(error).__name__}). {_REMEDY}") from None
        except Exception as error:  # what is no DICOMweb surfaces as almost any exception of the libraries
            if alone:
                raise DicomError(f"{self.url} gives an image that is damaged ({type(error).__name__}).") from None
            what = "answers with what is no DICOMweb"
            raise DicomArchiveError(f"{self.url} {what} ({type(error).__name__}). {_REMEDY}") from None


# Of the archive rather than of one object.
_OF_ALL = (None, 401, 403, 429, 502, 503, 504)
_REMEDY = "Is it there, and is its address right?"
_LOGIN = f"Set {USERNAME} and {PASSWORD}, or {TOKEN}, to those of an account that may read images and store answers."
_REMEDIES: dict[int | None, str] = {401: _LOGIN, 403: _LOGIN, 404: "Does the address end as its DICOMweb root does?"}


def _client(url: str) -> DICOMwebClient:
    import requests
    from dicomweb_client import DICOMwebClient

    class Session(requests.Session):
        """Waits as long as we say, not as the client does."""

        def request(self, *arguments: Any, **options: Any) -> requests.Response:
            return super().request(*arguments, **options | {"timeout": PATIENCE})

    session = Session()
    if token := os.environ.get(TOKEN):
        session.headers["Authorization"] = f"Bearer {token}"
    elif user := os.environ.get(USERNAME):
        session.auth = (user, os.environ.get(PASSWORD, ""))
    client = DICOMwebClient(url, session=session)
    client.set_http_retry_params(retry=False)  # whoever watches tries again, and says so
    return client


def _value(item: dict[str, Any], tag: str) -> Any:
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]


def _number(item: dict[str, Any], tag: str) -> int | None:
    try:
        return int(_value(item, tag))
    except (TypeError, ValueError):
        return None


def _size(item: dict[str, Any]) -> int:
    counts = [_number(item, tag) or 1 for tag in (_ROWS, _COLUMNS, _FRAMES, _SAMPLES)]
    return counts[0] * counts[1] * counts[2] * counts[3]
