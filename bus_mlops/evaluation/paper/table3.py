"""Table 3 beside ours: what the paper says that its networks weigh, and what ours do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_mlops.evaluation.paper.published import paper_sizes
from bus_mlops.evaluation.tidy import Evaluated

if TYPE_CHECKING:
    import pandas as pd

TABLE3_COLUMNS = (
    *("network", "architecture", "parameters_millions", "megabytes", "with_optimizer_megabytes"),
    *("paper_model", "paper_parameters_millions", "paper_megabytes"),
)
# Of a parameter: its number, and what ADAM keeps beside it.
NUMBER, ADAM = 4, 3
MEBIBYTE = 2**20
NOTE = (
    "The paper's parameters are those of the original networks with a thousand classes, cut off and not rounded; its "
    "megabytes are those of the changed networks' files with the state of their optimizer (twice the weights for SGD "
    "with momentum, three times for ADAM). VGG16 as trained has 15 million parameters, not 138.3, which would not go "
    "into 172 MB. MT-ESTAN is not in Table 3."
)


def table3(evaluated: Evaluated) -> pd.DataFrame:
    """A line for each network whose cost was measured: ours, and the paper's where Table 3 has it.

    `megabytes` are those of the weights alone, 4 bytes each; `with_optimizer_megabytes` with what ADAM keeps, as some
    of the paper's files do. Both in units of 2^20 bytes.
    """
    import pandas as pd

    path = evaluated.probes / "cost.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(TABLE3_COLUMNS))
    costs = pd.read_csv(path).drop_duplicates("architecture").dropna(subset=["parameters"])
    published = paper_sizes()
    lines = []
    for each in costs.sort_values("parameters").to_dict("records"):
        paper = published.get(each["network"])
        weights = NUMBER * each["parameters"] / MEBIBYTE
        lines.append(
            {
                "network": each["network"],
                "architecture": each["architecture"],
                "parameters_millions": each["parameters"] / 1e6,
                "megabytes": weights,
                "with_optimizer_megabytes": ADAM * weights,
                "paper_model": paper.model if paper else "",
                "paper_parameters_millions": paper.parameters_millions if paper else None,
                "paper_megabytes": paper.megabytes if paper else None,
            }
        )
    return pd.DataFrame(lines, columns=list(TABLE3_COLUMNS))
