"""Who answers, and under which identifiers: the same image and the same package always give the same ones.

An answer that is given again thereby replaces itself, and whoever has forgotten what was answered can ask the archive.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

from bus_mlops import __version__

if TYPE_CHECKING:
    from highdicom import ContributingEquipment
    from pydicom import Dataset

    from bus_mlops.consumer.client import BusModel

MANUFACTURER = "bus-mlops"
RESEARCH = "RESEARCH USE ONLY"
Kind = Literal["SR", "SEG", "SR series", "SEG series", "device", "lesion"]
# What a value may hold at most (VR LO).
LONGEST = 64
# Attributes that every answer must have, if only empty, and what is valid in them.
_OF_STUDY: dict[str, Callable[[str], bool]] = {
    "PatientID": lambda value: len(value) <= LONGEST,
    "PatientName": lambda _: True,
    "PatientBirthDate": lambda value: re.fullmatch(r"\d{8}", value) is not None,
    "PatientSex": lambda value: value in ("M", "F", "O"),
    "AccessionNumber": lambda value: len(value) <= 16,
    "StudyID": lambda value: len(value) <= 16,
    "StudyDate": lambda value: re.fullmatch(r"\d{8}", value) is not None,
    "StudyTime": lambda value: re.fullmatch(r"\d{2,6}(\.\d{1,6})?", value) is not None,
    "ReferringPhysicianName": lambda _: True,
}
_OF_EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "InstitutionName", "DeviceSerialNumber", "SoftwareVersions")


def uid(kind: Kind, source: str, digest: str) -> str:
    """An identifier (UID) for an answer.

    Args:
        kind: What it is of.
        source: The UID of the image, or of the study for a series.
        digest: Of the package that answers.

    >>> uid("SR", "1.2.3", "ab") == uid("SR", "1.2.3", "ab") != uid("SEG", "1.2.3", "ab")
    True
    """
    content = hashlib.sha256("\n".join((MANUFACTURER, kind, source, digest)).encode()).digest()
    return f"2.25.{int.from_bytes(content[:16], 'big')}"


def short(text: str) -> str:
    """A text that fits into a short value; what does not is cut, and says so."""
    plain = "".join(c if c.isprintable() and c != "\\" else "?" for c in text)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."


def version_of(model: BusModel) -> str:
    """What stands for the version of a model: its number, or the digest of one that was never registered."""
    return model.version or f"sha256:{model.digest[:12]}"


def contributing_equipment(model: BusModel) -> ContributingEquipment:
    """The model among the equipment that contributed to an answer: name, version and the package's whole digest."""
    from highdicom import ContributingEquipment
    from pydicom.sr.codedict import codes

    return ContributingEquipment(
        MANUFACTURER,
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=short(model.name),
        software_versions=[short(version_of(model)), f"bus-mlops {__version__}"],
        device_serial_number=model.digest,
        contribution_description=f"{RESEARCH}. {model.standing}"[:1024],
    )


def header(kind: Literal["SR", "SEG"], model: BusModel, study: Dataset, source: str) -> dict[str, Any]:
    """What highdicom asks of any answer: its identifiers, and the model as its equipment.

    Args:
        kind: Of the answer.
        model: Which answers.
        study: The attributes of the image, as `study_of` takes them over.
        source: The UID of the image.
    """
    return {
        "series_instance_uid": uid(
            "SR series" if kind == "SR" else "SEG series", str(study.StudyInstanceUID), model.digest
        ),
        "sop_instance_uid": uid(kind, source, model.digest),
        "instance_number": numbers_of(study),
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": short(model.name),
        "software_versions": f"bus-mlops {__version__}",
        "device_serial_number": model.digest,
        "contributing_equipment": [contributing_equipment(model)],
    }


def study_of(image: Dataset) -> Dataset:
    """An image's attributes without its pixels, such as an answer can take them over: in UTF-8, and valid.

    What is missing stays empty; a value that the standard does not allow is left out rather than copied on.
    """
    from pydicom import Dataset

    study = Dataset()
    for element in image:
        if not element.tag.is_private and element.tag.group < 0x7FE0 and element.keyword:
            study[element.tag] = deepcopy(element)
    for keyword, is_valid in _OF_STUDY.items():
        value = str(study.get(keyword) or "").strip()
        if not value or "\\" in value or not is_valid(value):
            setattr(study, keyword, "")
    for keyword in _OF_EQUIPMENT:
        if len(str(study.get(keyword) or "")) > LONGEST:
            del study[keyword]
    study.SpecificCharacterSet = "ISO_IR 192"
    return study


def numbers_of(image: Dataset) -> int:
    """The instance number of an image's answers: its own, where it has one."""
    value: Any = image.get("InstanceNumber")
    try:
        return int(value) if 1 <= int(value) < 2**31 else 1
    except (TypeError, ValueError):
        return 1


def as_file(dataset: Dataset) -> bytes:
    """The content of the file of an answer."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
