"""Whether a network looks at the lesion: the map of what its answer rests on, against the lesion's mask.

The map is the one that consumers get (`consumer.explanation`): how far the answer falls when a place is covered. It
asks any network the same question, whereas a class activation map needs a last convolution, which networks of several
branches do not have, and is as coarse as that: 2 x 2 places at 64 px for MobileNet, where this map has 8 x 8.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bus_mlops.consumer.explanation import occlusion_map
from bus_mlops.images.model_input import as_rgb
from bus_mlops.probes.network import Floats, Pixels, ProbedNetwork


class Pointing(NamedTuple):
    """How a map lies to a mask.

    Attributes:
        hit: Whether its maximum is inside; not so of a map without a positive part, which has none.
        energy: The share of its positive part that is inside.
        chance: What a map that knows nothing scores in both: the mask's share of the image.
        centre: Whether the middle of the image is inside, where operators put lesions: what looks there needs no map.
    """

    hit: bool
    energy: float
    chance: float
    centre: bool


def explain(network: ProbedNetwork, image: Pixels, logit: float) -> Floats:
    """What speaks for the answer that a network gives, (S, S): positive where covering would draw it back.

    In log odds, since a probability near 0 or 1 hardly moves whatever is covered.

    Args:
        network: Asked about 64 covered copies.
        image: (S, S) or (S, S, 3), 0-255.
        logit: Of the image as it is; its sign is the answer.
    """
    side = image.shape[0]
    falls = occlusion_map(as_rgb(image), logit, network.logits, (side, side))
    return falls if logit >= 0 else -falls


def point(heat: Floats, mask: NDArray[np.uint8]) -> Pointing:
    """The pointing game of one image (Zhang et al., "Top-down neural attention by excitation backprop", 2018).

    Args:
        heat: (S, S), of `explain`.
        mask: (S, S), 1 inside the lesion.
    """
    inside = mask > 0
    positive = np.maximum(heat, 0, dtype=np.float64)
    total = float(positive.sum())
    side = heat.shape[0]
    hit = total > 0 and bool(inside.flat[int(heat.argmax())])
    energy = float(positive[inside].sum()) / total if total > 0 else 0.0
    return Pointing(hit, energy, float(inside.mean()), bool(inside[side // 2, side // 2]))
