"""Reading the csv files that the data stages write and people may edit: text as it stands, one kind of error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd


def read_stage_csv(path: Path, stage: str, types: Mapping[str, Any] | type = str) -> pd.DataFrame:
    """The frame of a csv that a stage wrote: no cell is taken for a missing value, and text stays text.

    Args:
        path: The csv.
        stage: Named in errors as what writes it.
        types: Of the columns, as for `pandas.read_csv`.

    Raises:
        DatasetError: It is missing or cannot be read.
    """
    import pandas as pd

    remedy = f"Run `dvc repro {stage}`."
    try:
        frame = pd.read_csv(path, dtype=types, keep_default_na=False)
    except FileNotFoundError:
        raise DatasetError(f"{path} not found. {remedy}") from None
    except (ValueError, OSError, OverflowError) as error:
        raise DatasetError(f"{path} cannot be read: {error}. {remedy}") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus fields for row names
        raise DatasetError(f"{path}: a row has more fields than there are columns. {remedy}")
    return frame
