"""The zoo's networks on Keras applications: classifiers, generic multitask networks, and linear probes."""

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
    name: str,
    label: str,
    parameters: int,
    gmac: float,
    *,
    input_size: int = 224,
    minimum: int = 32,
    since_the_paper: bool = False,
) -> NetworkEntry:
    what = f"{label} without top, global average pool, 512, 64, 1"
    return NetworkEntry(
        name=name,
        label=label,
        task=Task.CLASSIFICATION,
        input_size=input_size,
        builder=f"bus_mlops.models.classifiers:{name}",
        backbone=name,
        source=f"not in the paper: {what}, its head" if since_the_paper else f"paper, section 4: {what}",
        minimum=minimum,
        options=_HEAD | _narrowed(name),
        width_option=next(iter(_narrowed(name)), ""),
        parameters=parameters,
        gmac=gmac,
        scaling="raw255",
        since_the_paper=since_the_paper,
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


def _probe(
    encoder: str, label: str, parameters: int, gmac: float, *, input_size: int = 224, minimum: int = 32
) -> NetworkEntry:
    return NetworkEntry(
        name=f"linear_probe_{encoder}",
        label=f"Linear probe of {label}",
        task=Task.CLASSIFICATION,
        input_size=input_size,
        builder=f"bus_mlops.models.linear_probe:linear_probe_{encoder}",
        backbone=encoder,
        source=f"frozen {label} without top, global average pool, logistic regression; not in the paper",
        minimum=minimum,
        options=_narrowed(encoder),
        width_option=next(iter(_narrowed(encoder)), ""),
        parameters=parameters,
        gmac=gmac,
        scaling="imagenet",
        probe=True,
        since_the_paper=True,
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
LATER_CLASSIFIERS = (
    _classifier("convnexttiny", "ConvNeXtTiny", 28_246_753, 4.455, since_the_paper=True),
    _classifier("efficientnetv2b0", "EfficientNetV2B0", 6_608_081, 0.717, since_the_paper=True),
    _classifier("efficientnetv2s", "EfficientNetV2S", 21_020_129, 2.849, since_the_paper=True),
)
GENERIC_MULTITASK = (
    _multitask("mobilenet", "MobileNet", 4_873_554, 2.338),
    _multitask("efficientnetb0", "EfficientNetB0", 5_907_253, 2.301),
    _multitask("densenet121", "DenseNet121", 9_312_978, 5.117, skips="the code's, too"),
    _multitask("resnet50", "ResNet50", 26_387_474, 6.14),
    _multitask("vgg16", "VGG16", 16_484_306, 17.81),
)
PROBES = (
    _probe("mobilenet", "MobileNet", 3_229_889, 0.568),
    _probe("efficientnetb0", "EfficientNetB0", 4_050_852, 0.385),
    _probe("densenet121", "DenseNet121", 7_038_529, 2.833),
    _probe("resnet50", "ResNet50", 23_589_761, 3.856),
    _probe("vgg16", "VGG16", 14_715_201, 15.347),
    _probe("xception", "Xception", 20_863_529, 8.355, input_size=299, minimum=71),
    _probe("inceptionv3", "InceptionV3", 21_804_833, 5.711, input_size=299, minimum=75),
    _probe("convnexttiny", "ConvNeXtTiny", 27_820_897, 4.455),
    _probe("efficientnetv2b0", "EfficientNetV2B0", 5_920_593, 0.717),
    _probe("efficientnetv2s", "EfficientNetV2S", 20_332_641, 2.849),
)
