"""The networks of a package in ONNX's runtime: looked into before they are opened, held to what the package says."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bus_mlops.consumer.onnx_graph import require_plain_graph
from bus_mlops.consumer.package_files import OpenedPackage, open_package
from bus_mlops.consumer.package_format import Member, Package
from bus_mlops.errors import RegistryError
from bus_mlops.limits import core_count

EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"


class Networks:
    """The networks of one package; may be asked from several threads."""

    def __init__(self, folder: Path, package: Package, opened: OpenedPackage | None = None) -> None:
        """Open none yet.

        Args:
            folder: Where the package lies.
            package: What it says of its networks.
            opened: The package as it was checked; opened here once it is needed by default.
        """
        self._folder = folder
        self._package = package
        self._given = opened
        self._sessions: dict[int, Any] = {}
        self._opening = Lock()

    @cached_property
    def opened(self) -> OpenedPackage:
        """The package as it was checked; the bytes of a network are dropped when the runtime has it."""
        return self._given or open_package(self._folder)

    def run(
        self, member: int, squares: NDArray[np.float32], *, mask: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """What a network itself says, before its calibration.

        Args:
            member: Its place in the package, from 0.
            squares: (B, S, S, 3), 0-255, of the networks' own size.
            mask: Also of the lesion's mask.

        Returns:
            Probabilities (B,), NaN where it gave none from 0 to 1; and, if asked for, masks (B, S, S), 0-1.

        Raises:
            RegistryError: It cannot be opened, or is not what the package says.
        """
        session = self._session(member)
        wanted = ["malignancy", "mask"] if mask else ["malignancy"]
        answer, *masks = session.run(wanted, {session.get_inputs()[0].name: squares})
        probabilities = _probabilities(self._package.members[member], answer, len(squares))
        return probabilities, masks[0][..., 0] if masks else None

    def _session(self, member: int) -> Any:
        """The network at a place in the package, opened when it is asked for the first time."""
        with self._opening:
            if member not in self._sessions:
                self._sessions[member] = self._open(self._package.members[member])
        return self._sessions[member]

    def _open(self, member: Member) -> Any:
        import onnxruntime

        contents = self.opened.contents
        require_plain_graph(contents[member.onnx], self._folder / member.onnx)
        try:
            session = onnxruntime.InferenceSession(
                contents[member.onnx], self._options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes derive from Exception only
            raise RegistryError(
                f"the networks in {self._folder} cannot be opened by onnxruntime {onnxruntime.__version__}: {error}"
            ) from error
        _require_as_described(session, self._package, self._folder / member.onnx)
        # The runtime holds the network now. Its wrapper would keep the file's bytes as well, for other providers only.
        session.disable_fallback()
        session._model_bytes = None  # noqa: SLF001 - there is no public way, and it doubles the memory of a package
        del contents[member.onnx]
        return session

    @cached_property
    def _options(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Left alone, the runtime counts the machine's cores, not those this process may use.
        options.intra_op_num_threads = core_count()
        options.log_severity_level = 3
        # An arena for each member is never given back: five of MT-ESTAN's hold 0.8 GiB between two images.
        options.enable_cpu_mem_arena = False
        # Threads that wait turn round otherwise: twice the seconds of the processor for the same latency.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A graph is all in its file: one that names another is not followed.
        options.add_session_config_entry(EXTERNAL_DATA, str(self._folder / "none"))
        # The runtime's own format is recognised by its first bytes otherwise, and nothing here has looked into that.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        return options


def _probabilities(member: Member, answer: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """A network's probabilities (B,); NaN where it gave none from 0 to 1."""
    if answer.shape != (count, 1):
        raise RegistryError(f"{member.onnx} answers {count} images with {answer.shape}: the package is none of ours.")
    raw = answer[:, 0].astype(np.float64)
    return np.where((raw >= 0) & (raw <= 1), raw, np.nan)


def _require_as_described(session: Any, package: Package, path: Path) -> None:
    """Raise unless a network takes and gives what the package says."""
    size = package.input_size
    (*more, image), outputs = session.get_inputs(), {output.name for output in session.get_outputs()}
    takes = (image.type, list(image.shape[1:]))
    if more or takes != ("tensor(float)", [size, size, 3]) or not outputs >= set(package.outputs):
        raise RegistryError(
            f"{path} takes {takes} and gives {sorted(outputs)}, but the package says {size} x {size} pixels and "
            f"{list(package.outputs)}: it was changed before it was summed up. Write the package anew."
        )
