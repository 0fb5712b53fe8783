"""Whether a JPEG is whole: its decoder fills what is missing with gray, and says nothing."""

from __future__ import annotations

import io

from PIL import Image

from bus_mlops.errors import ImageError

# What the decoder reads on with where a JPEG's own data end early: bits of which some differ from its own filling.
_CONTINUATIONS = (bytes(range(0x55, 0xFF)), bytes(range(0xFE, 0x54, -1)))


def require_whole(data: bytes, image: Image.Image, name: str) -> None:
    """Refuse a JPEG whose data end before its picture does: the decoder fills the rest with gray and says nothing.

    Data that follow change nothing in a whole picture, and go on in one that was cut off.

    Args:
        data: The file.
        image: What was decoded of it.
        name: For messages.

    Raises:
        ImageError: It ends early.
    """
    end, restart = _end_of_jpeg(data)
    pixels = image.tobytes()
    joint = b"\x00" if data[end - 1 : end] == b"\xff" else b""  # the two together are one byte of the picture's data
    for more in _CONTINUATIONS if end else ():
        longer = data[:end] + joint + more + restart + more + data[end:]
        if Image.open(io.BytesIO(longer), formats=("JPEG",)).tobytes() != pixels:
            break
    else:
        if end:
            return
    raise ImageError(f"{name} ends early: its last part is missing. Copy or download it again, or remove it.")


def _end_of_jpeg(data: bytes) -> tuple[int, bytes]:
    """Where the marker stands that ends the first picture, and the restart marker that would be due there.

    The place is 0 if the marker is not there, or if it comes before the scans that complete every component.
    """
    at, restarts, progressive = 2, 0, False
    lacking: dict[int, set[int]] = {}  # by component, the coefficients that no scan has given their last bit
    while 0 <= (at := data.find(b"\xff", at)) <= len(data) - 2:
        marker = data[at + 1]
        if marker == 0xD9:
            return 0 if any(lacking.values()) else at, bytes([0xFF, 0xD0 + restarts % 8])
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # these stand alone
            at += 2
            restarts += marker in range(0xD0, 0xD8)
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):  # the frame's header
            progressive = marker in (0xC2, 0xCA)
            lacking = {component: set(range(64)) for component in segment[6::3]}
        elif marker == 0xDA:  # the header of a scan
            first, last, bits = segment[-3:] if progressive else (0, 63, 0)
            restarts = 0
            for component in segment[1:-3:2] if bits & 15 == 0 else ():
                lacking[component] -= set(range(first, last + 1))
        at += 2 + length
    return 0, b""
