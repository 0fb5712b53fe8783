"""The libraries of the extra `dicom`: asked for once they are needed, and named if they are not there."""

from __future__ import annotations

import importlib.util

from bus_mlops.errors import DicomError

_LIBRARIES = ("pydicom", "highdicom", "dicomweb_client", "pynetdicom", "pylibjpeg")


def require_libraries() -> None:
    """Do nothing where the extra is installed.

    Raises:
        DicomError: It is not; says how to install it.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise DicomError(
            f"reading and writing DICOM needs {', '.join(missing)}: pip install 'bus-mlops[dicom]'. Or export the "
            "frame as PNG from the viewer."
        )
