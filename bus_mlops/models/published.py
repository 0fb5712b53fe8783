"""The zoo's entries of networks made for breast ultrasound: Table 9 of the paper, and ESTAN alone."""

from __future__ import annotations

from dataclasses import replace

from bus_mlops.models.entry import NetworkEntry, OptionRule, Options
from bus_mlops.models.widths import ALPHA, filters, units
from bus_mlops.spec import Task

_WIDTH = OptionRule(1.0, bounds=(0.0625, 2.0))
_VAKANSKI_UNITS = {"table3": (64, 64), "published": (256, 64)}
_EMT_NET_UNITS = {"upsampling": (512, 64), "transposed": (128, 0)}


def _mt_estan_units(options: Options) -> tuple[int, int]:
    width = float(options["width"])
    return filters(512, width), filters(128, width)


PUBLISHED = (
    NetworkEntry(
        name="sha_mtl",
        label="SHA-MTL",
        published="Zhang et al. [35]",
        task=Task.MULTITASK,
        input_size=224,
        builder="bus_mlops.models.sha_mtl:sha_mtl",
        backbone="densenet121",
        source="reconstruction: abstract, backbone and Table 3's size are sourced; two readings of hard attention",
        multiple=32,
        options={"hard_attention": OptionRule("mask_gate", choices=("mask_gate", "supervision")), **units(64)},
        parameters=8_274_790,
        gmac=3.483,
        scaling="unit",
    ),
    NetworkEntry(
        name="vakanski",
        label="Vakanski",
        published="Vakanski et al. [34]",
        task=Task.MULTITASK,
        input_size=256,
        builder="bus_mlops.models.vakanski:vakanski",
        backbone="",
        source="topology published: the authors' code, layer by layer; table3: a fit to Table 3's size",
        multiple=16,
        options={
            "topology": OptionRule("table3", choices=("table3", "published")),
            **units(64, 64, beside=lambda options: _VAKANSKI_UNITS[str(options["topology"])]),
        },
        parameters=27_314_626,
        gmac=56.892,
        scaling="unit",
    ),
    NetworkEntry(
        name="emt_net",
        label="EMT-Net",
        published="Shi et al. [36]",
        task=Task.MULTITASK,
        input_size=224,
        builder="bus_mlops.models.emt_net:emt_net",
        backbone="mobilenet",
        source="reconstruction: abstract, backbone and Table 3's size are sourced",
        multiple=32,
        options={
            "decoder": OptionRule("upsampling", choices=("upsampling", "transposed")),
            **units(512, 64, beside=lambda options: _EMT_NET_UNITS[str(options["decoder"])]),
            "alpha": ALPHA,
        },
        width_option="alpha",
        parameters=5_108_650,
        gmac=1.382,
        scaling="unit",
    ),
    NetworkEntry(
        name="mt_estan",
        label="MT-ESTAN",
        task=Task.MULTITASK,
        input_size=224,
        builder="bus_mlops.models.mt_estan:mt_estan",
        backbone="encoder",
        source="the paper and its released code, layer by layer; encoders other than resnet50 are ours",
        multiple=32,
        minimum=64,
        options={
            "encoder": OptionRule("resnet50", choices=("resnet50", "mobilenet", "densenet121"), named=True),
            "alpha": replace(ALPHA, beside=("encoder", "mobilenet")),
            "width": _WIDTH,
            **units(512, 128, beside=_mt_estan_units),
        },
        width_option="alpha",
        parameters=55_980_162,
        gmac=29.061,
        scaling="unit",
    ),
    NetworkEntry(
        name="estan",
        label="ESTAN",
        task=Task.SEGMENTATION,
        input_size=256,
        builder="bus_mlops.models.estan:estan",
        backbone="",
        source="encoder: MT-ESTAN's released code; plain encoder and decoder inferred; masks only, not in the paper",
        multiple=16,
        options={"width": _WIDTH},
        parameters=26_992_385,
        gmac=34.452,
        scaling="unit",
    ),
)
