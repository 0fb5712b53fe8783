"""The colour that a network's runs have in MLflow's charts and tables, the same in every store."""

from __future__ import annotations

import hashlib

# Read by the interface: a colour as #rrggbb.
COLOUR = "mlflow.runColor"
# Told apart in pairs, also by most who see few colours: after Tol's "muted" and "bright" schemes.
_OF_NETWORK = {
    "mt_estan": "#CC3311",
    "estan": "#EE7733",
    "mobilenet": "#0077BB",
    "mobilenet_multitask": "#004488",
    "resnet50": "#117733",
    "resnet50_multitask": "#225522",
    "vgg16": "#DDAA33",
    "vgg16_multitask": "#997700",
    "densenet121": "#CC6677",
    "densenet121_multitask": "#882255",
    "efficientnetb0": "#33BBEE",
    "efficientnetb0_multitask": "#44AA99",
    "inceptionv3": "#999933",
    "xception": "#AA4499",
    "emt_net": "#332288",
    "sha_mtl": "#EE3377",
    "vakanski": "#88AA55",
}


def colour_of(network: str) -> str:
    """The colour of a network; one of a user's own gets one that follows from its name.

    >>> colour_of("mt_estan"), colour_of("my_network") == colour_of("my_network")
    ('#CC3311', True)
    """
    known = _OF_NETWORK.get(network)
    return known or f"#{hashlib.sha256(network.encode()).hexdigest()[:6]}"
