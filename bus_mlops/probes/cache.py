"""What was computed of a probe before it was cut off, so that it is not computed twice: a file a part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.files import replacing

if TYPE_CHECKING:
    import pandas as pd

# Raise it when the same question to the same network gets another answer.
VERSION = 1


class ProbeCache:
    """Frames in a folder that may be deleted at any time, each by what it was computed from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def frame(self, key: Mapping[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The frame of a key; computed, and kept, if it is not there."""
        import pandas as pd

        text = json.dumps({"version": VERSION, **key}, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.parquet"
        if not path.is_file():
            with replacing(path) as temporary:
                compute().to_parquet(temporary, index=False)
        return pd.read_parquet(path)
