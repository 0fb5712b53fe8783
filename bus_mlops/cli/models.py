"""`bus-mlops models`: the zoo as a list, from stored facts, so that nothing has to be built."""

from __future__ import annotations

_LINE = "{:<25}{:<15}{:>11}{:>7}{:>8}  {}"


def models() -> None:
    """List the networks: task, parameters, cost of an image, input size, scaling; then name in tables and source."""
    from bus_mlops.extensions import load_extensions
    from bus_mlops.models.zoo import NETWORKS
    from bus_mlops.paths import EXTENSIONS

    load_extensions(EXTENSIONS)
    print(_LINE.format("name", "task", "parameters", "GMAC", "input", "scaling"))
    for each in NETWORKS.values():
        parameters = f"{each.parameters:,}" if each.parameters else "-"
        cost = f"{each.gmac:.2f}" if each.gmac else "-"
        size = f"{each.input_size} px"
        print(_LINE.format(each.name, each.task, parameters, cost, size, each.scaling))
        print(f"    {each.title({})}: {each.source}")
    print("\nParameters and GMAC (10^9 multiply-accumulates an image): at that input size, with default options.")
