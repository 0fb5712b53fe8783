"""The zoo's networks on Keras applications: seven classifiers, and five of them as generic multitask networks."""

from __future__ import annotations

from bus_mlops.models.entry import NetworkEntry, OptionRule
from bus_mlops.models.widths import ALPHA, units
from bus_mlops.spec import Task

_HEAD = units(512, 64)
_DECODER = {"upsampling": OptionRule("transposed", choices=("transposed", "repeat"))}


def _narrowed(backbone: str) -> dict[str, OptionRule]:
    """MobileNet alone has ImageNet weights of several widths."""
    return {"alpha": ALPHA} if backbone == "mobilenet" else {}


def _classifier(
    name: str, label: str, parameters: int, gmac: float, *, input_size: int = 224, minimum: int = 32
) -> NetworkEntry:
    return NetworkEntry(
        name=name,
        label=label,
        task=Task.CLASSIFICATION,
        input_size=input_size,
        builder=f"bus_mlops.models.classifiers:{name}",
        backbone=name,
        source=f"paper, section 4: {label} without top, global average pool, 512, 64, 1",
        minimum=minimum,
        options=_HEAD | _narrowed(name),
        width_option=next(iter(_narrowed(name)), ""),
        parameters=parameters,
        gmac=gmac,
        scaling="raw255",
    )


def _multitask(backbone: str, label: str, parameters: int, gmac: float, skips: str = "ours") -> NetworkEntry:
    return NetworkEntry(
        name=f"{backbone}_multitask",
        label=label,
        task=Task.MULTITASK,
        input_size=224,
        builder=f"bus_mlops.models.generic_multitask:{backbone}_multitask",
        backbone=backbone,
        source=f"the paper's Table 8: the classifier with the released code's decoder; skips are {skips}",
        multiple=16,
        options=_DECODER | _HEAD | _narrowed(backbone),
        width_option=next(iter(_narrowed(backbone)), ""),
        parameters=parameters,
        gmac=gmac,
        scaling="unit",
    )


CLASSIFIERS = (
    _classifier("mobilenet", "MobileNet", 3_786_561, 0.568),
    _classifier("efficientnetb0", "EfficientNetB0", 4_738_340, 0.385),
    _classifier("densenet121", "DenseNet121", 7_595_201, 2.834),
    _classifier("resnet50", "ResNet50", 24_669_697, 3.857),
    _classifier("vgg16", "VGG16", 15_010_241, 15.347),
    _classifier("xception", "Xception", 21_943_465, 8.356, input_size=299, minimum=71),
    _classifier("inceptionv3", "InceptionV3", 22_884_769, 5.712, input_size=299, minimum=75),
)
GENERIC_MULTITASK = (
    _multitask("mobilenet", "MobileNet", 4_873_554, 2.338),
    _multitask("efficientnetb0", "EfficientNetB0", 5_907_253, 2.301),
    _multitask("densenet121", "DenseNet121", 9_312_978, 5.117, skips="the code's, too"),
    _multitask("resnet50", "ResNet50", 26_387_474, 6.14),
    _multitask("vgg16", "VGG16", 16_484_306, 17.81),
)
