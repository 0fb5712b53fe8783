"""Image files as other programs write them, also such as PIL itself does not."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes that PIL writes."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def bmp32(gray: np.ndarray, alpha: int, header: int, compression: int) -> bytes:
    """A gray picture as a BMP of 32 bits a pixel with one alpha throughout.

    Args:
        gray: uint8 (H, W).
        alpha: 0-255.
        header: Its length in bytes, 40 (Windows 3) to 124 (version 5).
        compression: 0 for none, 3 for none with the bit masks of the channels.
    """
    height, width = gray.shape
    pixels = np.dstack([gray] * 3 + [np.full_like(gray, alpha)])[::-1].tobytes()
    fields = struct.pack("<IiiHHIIiiII", header, width, height, 1, 32, compression, len(pixels), 2835, 2835, 0, 0)
    if compression == 3:
        fields += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    fields = fields.ljust(header, b"\0")
    start = 14 + len(fields)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + fields + pixels


def png16(channels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel: gray and alpha, RGB or RGBA.

    Args:
        channels: (H, W, 2 to 4), 0-65535.
    """
    height, width, count = channels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(b)) + a + b + struct.pack(">I", zlib.crc32(a + b)) for a, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(values: np.ndarray, bits: int = 0, photometric: int = -1, extra: int = -1) -> bytes:
    """An uncompressed TIFF.

    Args:
        values: (H, W) of one or two bytes, or uint8 (H, W, 4).
        bits: 12 to pack two values into three bytes; else those of the type.
        photometric: 0 if white is 0; else black is.
        extra: What the fourth channel is: 1 an alpha that the colours were multiplied by.
    """
    data = values.astype("<u2").tobytes() if values.dtype.itemsize > 1 else values.tobytes()
    if bits == 12:
        high, low = values.reshape(-1, 2).T
        data = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], axis=-1).astype(np.uint8).tobytes()
    color, height, width = values.ndim == 3, *values.shape[:2]
    kind = photometric if photometric >= 0 else 1 + color
    tags = {256: width, 257: height, 258: bits or 8 * values.dtype.itemsize, 259: 1, 262: kind, 273: 0}
    tags |= {277: 4 if color else 1, 278: height, 279: len(data)} | ({338: extra} if extra >= 0 else {})
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = start + 8 * color
    if color:  # four times 8 bits do not fit into the entry
        data, tags[258] = struct.pack("<4H", 8, 8, 8, 8) + data, start
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 4 if tag == 258 and color else 1, value)
        for tag, value in tags.items()
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data
