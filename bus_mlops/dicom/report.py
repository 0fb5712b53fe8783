"""The model's answer as a Comprehensive SR (TID 1500): a group of measurements for every picture that was looked at.

Words that nobody has coded (what was decided, why nothing is answered, what the numbers do not say) are its comments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bus_mlops.dicom.answer import ImageAnswer, Look
from bus_mlops.dicom.identity import (
    MANUFACTURER,
    RESEARCH,
    header,
    short,
    study_of,
    uid,
    version_of,
)

if TYPE_CHECKING:
    from highdicom.seg import Segmentation
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        ComprehensiveSR,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
    )
    from pydicom import Dataset

    from bus_mlops.consumer.client import BusModel

SERIES_NUMBER = 9001
# Codes of our own, for what is no finding of a physician: the standard's would say more than a model can.
SCHEME = "99BUSMLOPS"


def report(model: BusModel, found: ImageAnswer, drawn: Segmentation | None) -> ComprehensiveSR:
    """The SR of an answer.

    Args:
        model: Which answered.
        found: Its answer.
        drawn: The segmentation of the same answer, if there is one.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import CodedConcept, ComprehensiveSR, MeasurementReport
    from pydicom.sr.codedict import codes

    study = study_of(found.image.dataset)
    content = MeasurementReport(
        observation_context=_observed_by(model),
        procedure_reported=codes.SCT.UltrasonographyOfBreast,
        imaging_measurements=[_group(model, found, look, drawn) for look in found.looks],
        title=CodedConcept("126000", "DCM", f"Imaging Measurement Report - {RESEARCH}"),
    )
    content[0].ContentSequence.append(_comments(list(sentences(model, found))))
    return ComprehensiveSR(
        evidence=[study] if drawn is None else [study, drawn],
        content=content[0],
        series_number=SERIES_NUMBER,
        series_description=f"{RESEARCH}: answers of a model",
        is_complete=True,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                designator=SCHEME, name="Codes of bus-mlops", responsible_organization=MANUFACTURER
            )
        ],
        **header("SR", model, study, found.image.uid),
    )


def sentences(model: BusModel, found: ImageAnswer) -> Iterator[str]:
    """What a reader is told in words, most important first."""
    row = found.prediction
    package = model.package
    yield f"{RESEARCH}: {package.notice.partition(': ')[2] or package.notice}"
    if package.phantom:
        yield "The model was trained on synthetic images (phantoms): its answers mean nothing for patients."
    if row.status == "refused":
        yield f"REFUSED: the model gives no answer to this image. {' '.join(row.reasons)}".strip()
    else:
        verdict = f"Probability of malignancy {row.probability:.3f}, threshold {row.threshold:.3f}"
        label = f": labelled {row.label}" if row.label else ""
        apart = f" Its networks lie {row.spread:.3f} apart." if row.members and len(row.members) > 1 else ""
        yield f"{row.status.upper()}. {verdict}{label}.{apart} {' '.join(row.reasons)}".strip()
    if found.combined:
        yield found.combined[0].upper() + found.combined[1:]
    if row.probability is not None:
        yield _of_size(found.chosen, model)
    if not found.image.regions[0].declared:
        yield "The scanner declared no region: the model saw all of the image, texts that are burned in included."
    if package.refusal is None:
        yield "This model cannot tell images that it does not know: it answers to any picture."
    yield f"Model {model.name}, version {version_of(model)}, sha256 {model.digest}. {model.standing}"
    if package.judged is not None:
        yield package.judged.in_words


def _of_size(look: Look, model: BusModel) -> str:
    row, size = look.prediction, look.size
    if not model.package.has_mask:
        return "No size: this model draws no lesions."
    if row.mask is None or not row.mask.any():
        return "No size: the model marked no lesion in this picture."
    if size is None:
        return "No size: the scanner gave no calibration of this picture in centimetres, so that no millimetre is told."
    cut = " It reaches the border of the picture: the lesion may be larger." if size.cut else ""
    parts = f" The largest of {size.parts} marked parts was measured." if size.parts > 1 else ""
    return f"Size of the marked lesion: {size.long_axis:.1f} x {size.short_axis:.1f} mm.{parts}{cut}"


def _observed_by(model: BusModel) -> ObservationContext:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=uid("device", "", model.digest),
        name=short(model.name),
        manufacturer_name=MANUFACTURER,
        model_name=short(version_of(model)),
        serial_number=model.digest,
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _group(
    model: BusModel, found: ImageAnswer, look: Look, drawn: Segmentation | None
) -> PlanarROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations:
    """A picture's measurements: about its frame of the segmentation, or about its frame of the image."""
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        ReferencedSegmentationFrame,
        SourceImageForMeasurementGroup,
        SourceImageForSegmentation,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    image, number = found.image, [look.frame] if found.image.frames > 1 else None
    source = (str(image.dataset.SOPClassUID), image.uid)
    place = f"frame {look.frame}, rows from {look.region.top}, columns from {look.region.left}"
    shared: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid("lesion", f"{image.uid} {place}", model.digest), place),
        "algorithm_id": _algorithm(model),
        "finding_sites": [FindingSite(codes.SCT.Breast)],
        "measurements": _measurements(look),
        "qualitative_evaluations": _evaluations(look),
    }
    marked = drawn is not None and look.prediction.mask is not None and look.prediction.mask.any()
    if drawn is None or not marked:
        return MeasurementsAndQualitativeEvaluations(
            **shared, source_images=[SourceImageForMeasurementGroup(*source, number)]
        )
    frame = [*found.masks].index(look.frame) + 1
    segment = ReferencedSegmentationFrame(
        str(drawn.SOPClassUID), str(drawn.SOPInstanceUID), frame, 1, SourceImageForSegmentation(*source, number)
    )
    # The standard has one of the two only; there is one segment.
    segment[0].ReferencedSOPSequence[0].pop("ReferencedSegmentNumber", None)
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        **shared, referenced_segment=segment, finding_type=codes.SCT.Lesion
    )


def _algorithm(model: BusModel) -> AlgorithmIdentification:
    from highdicom.sr import AlgorithmIdentification

    parameters = [f"threshold {model.package.threshold:g}", f"sha256 {model.digest}"]
    return AlgorithmIdentification(model.name, version_of(model), parameters, manufacturer=MANUFACTURER)


def _measurements(look: Look) -> list[Measurement]:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    found = []
    if look.prediction.probability is not None:
        # No more digits than mean something.
        percent = round(100 * look.prediction.probability, 1)
        found.append(Measurement(codes.DCM.ProbabilityOfCancer, percent, codes.UCUM.Percent))
    if look.size is not None:
        found.append(Measurement(codes.SCT.LongAxis, round(look.size.long_axis, 1), codes.UCUM.Millimeter))
        found.append(Measurement(codes.SCT.ShortAxis, round(look.size.short_axis, 1), codes.UCUM.Millimeter))
    return found


def _evaluations(look: Look) -> list[QualitativeEvaluation]:
    from highdicom.sr import QualitativeEvaluation

    row = look.prediction
    said = {"status": row.status, "label": row.label, "triage": row.triage}
    meanings = {"status": "Status of the answer", "label": "Label at the threshold", "triage": "Triage"}
    return [
        QualitativeEvaluation(_own_code(name, meanings[name]), _own_code(f"{name}-{value}", value))
        for name, value in said.items()
        if value is not None
    ]


def _own_code(value: str, meaning: str) -> CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(value[:16], SCHEME, meaning)


def _comments(texts: list[str]) -> Dataset:
    """TID 1500's container of what is no measurement, with a comment a sentence."""
    from highdicom.sr import CodedConcept, ContainerContentItem, ContentSequence, TextContentItem
    from pydicom.sr.codedict import codes

    container = ContainerContentItem(
        CodedConcept("C0034375", "UMLS", "Qualitative Evaluations"), relationship_type="CONTAINS"
    )
    items = [TextContentItem(codes.DCM.Comment, text, "CONTAINS") for text in texts if text]
    container.ContentSequence = ContentSequence(items)
    return container
