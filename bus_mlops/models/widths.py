"""How wide a network is: MobileNet's share of its filters, filters at a width, and the units of its class head."""

from __future__ import annotations

from collections.abc import Callable

from bus_mlops.models.applications import MOBILENET_WIDTHS
from bus_mlops.models.entry import Option, OptionRule, Options

# Of MobileNet's filters, as Keras calls it; only these widths have ImageNet weights.
ALPHA = OptionRule(1.0, choices=tuple(MOBILENET_WIDTHS), later=True)
_MOST_UNITS = 4096


def filters(at_full_width: int, width: float) -> int:
    """The number of filters at a width: rounded to a multiple of 4, and 4 at least.

    >>> filters(32, 0.25), filters(512, 0.3), filters(32, 0.0625)
    (8, 152, 4)
    """
    return max(4, 4 * int(at_full_width * width / 4 + 0.5))


def units(*defaults: int, beside: Callable[[Options], tuple[int, ...]] | None = None) -> dict[str, OptionRule]:
    """The options `units_1`, `units_2`, ... of a network: the dense layers of its class head before the last.

    All but the first may be 0, which leaves the layer out.

    Args:
        *defaults: The network's own numbers.
        beside: These numbers beside its other options, where they depend on them.
    """

    def follows(layer: int) -> Callable[[Options], Option] | None:
        return None if beside is None else lambda options: beside(options)[layer]

    return {
        f"units_{layer + 1}": OptionRule(
            number, bounds=(int(layer == 0), _MOST_UNITS), later=True, follows=follows(layer)
        )
        for layer, number in enumerate(defaults)
    }
