"""The model's masks as a DICOM segmentation (SEG): a frame for each frame of the image in which it marked something."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.dicom.answer import ImageAnswer
from bus_mlops.dicom.identity import (
    MANUFACTURER,
    RESEARCH,
    header,
    short,
    study_of,
    uid,
    version_of,
)
from bus_mlops.dicom.reading import IMAGE_CLASSES

if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

    from bus_mlops.consumer.client import BusModel

SERIES_NUMBER = 9002
# What ties pixels to a place in the body: the segmentation lies on its image's own pixels instead.
_SPATIAL = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


def segmentation(model: BusModel, found: ImageAnswer) -> Segmentation | None:
    """The SEG of an answer; None where nothing was marked.

    Args:
        model: Which answered.
        found: Its answer.
    """
    from highdicom.seg import Segmentation

    masks = found.masks
    if not masks:
        return None
    study = study_of(found.image.dataset)
    for keyword in _SPATIAL:
        study.pop(keyword, None)
    # highdicom takes of a clip only what the newer classes hold: it is given one frame, and told the class afterwards.
    study.pop("NumberOfFrames", None)
    study.SOPClassUID = IMAGE_CLASSES[0]
    made = Segmentation(
        [study],
        next(iter(masks.values()))[np.newaxis],
        "BINARY",
        [_segment(model, found)],
        series_number=SERIES_NUMBER,
        content_description=f"{RESEARCH}: lesion drawn by a model",
        content_label="LESION",
        series_description=f"{RESEARCH}: lesion drawn by a model",
        **header("SEG", model, study, found.image.uid),
    )
    made.PatientOrientation = ""
    _set_frames(made, found)
    for item in _items(made):
        if item.get("ReferencedSOPInstanceUID") == found.image.uid:
            item.ReferencedSOPClassUID = found.image.dataset.SOPClassUID
    return made


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """All items of its sequences, and theirs."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _items(item)


def _segment(model: BusModel, found: ImageAnswer) -> SegmentDescription:
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    return SegmentDescription(
        1,
        "Lesion, drawn by a model",
        codes.SCT.MorphologicallyAbnormalStructure,
        codes.SCT.Lesion,
        "AUTOMATIC",
        _algorithm(model),
        tracking_uid=uid("lesion", found.image.uid, model.digest),
        tracking_id="lesion",
        anatomic_regions=[codes.SCT.Breast],
    )


def _algorithm(model: BusModel) -> AlgorithmIdentificationSequence:
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    return AlgorithmIdentificationSequence(
        short(model.name),
        codes.cid7162.ArtificialIntelligence,
        short(version_of(model)),
        source=MANUFACTURER,
        parameters={"sha256": model.digest},
    )


def _set_frames(made: Segmentation, found: ImageAnswer) -> None:
    """Put in every frame, which highdicom does only for images with places in the body, as ultrasound has none."""
    from pydicom.pixels.utils import pack_bits

    masks, is_clip = found.masks, found.image.frames > 1
    if is_clip:
        made.DimensionIndexSequence.append(_position_dimension(made))
    groups = []
    for place, number in enumerate(masks, start=1):
        group = deepcopy(made.PerFrameFunctionalGroupsSequence[0])
        group.DerivationImageSequence[0].SourceImageSequence[0].pop("ReferencedFrameNumber", None)
        if is_clip:
            group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
            content = group.FrameContentSequence[0]
            content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", place, [1, place]
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = groups
    made.NumberOfFrames = len(groups)
    made.PixelData = pack_bits(np.concatenate([mask.ravel() for mask in masks.values()]))


def _position_dimension(made: Segmentation) -> Dataset:
    """Frames differ by their place among those in which something was marked."""
    from pydicom import Dataset
    from pydicom.tag import Tag

    item = Dataset()
    item.DimensionIndexPointer = Tag("InStackPositionNumber")
    item.FunctionalGroupPointer = Tag("FrameContentSequence")
    item.DimensionOrganizationUID = made.DimensionIndexSequence[0].DimensionOrganizationUID
    item.DimensionDescriptionLabel = "In-Stack Position Number"
    return item
