"""How much the service lets anybody ask of it, one request and all together."""

from __future__ import annotations

from dataclasses import dataclass

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What one request may hold and cost, and how much may be under way at once.

    Attributes:
        images: Of one request.
        megabytes: Of one request's body (2**20 bytes each); base64 makes an image a third larger.
        megapixels: Of one request's images together, as their files claim; 64 images of 800 x 600 have 31.
        requests: Under way at once: from the last byte of the body until the work on it has ended, answered or not.
        seconds: Within which a request is answered, from the last byte of its body.
        connections: Open at once; a further one takes the place of the oldest that has not sent a whole request.
    """

    images: int = 64
    megabytes: int = 64
    megapixels: int = 32
    requests: int = 32
    seconds: float = 60
    connections: int = 256

    @property
    def bytes(self) -> int:
        """Of one request's body."""
        return self.megabytes * 2**20

    @property
    def pixels(self) -> int:
        """Of one request's images."""
        return self.megapixels * MEGA

    @property
    def bytes_in_all(self) -> int:
        """Of all bodies that are held at once, beyond the first MB of each."""
        return 4 * self.bytes

    @property
    def pixels_in_all(self) -> int:
        """Of all images whose requests wait or are worked on."""
        return 4 * self.pixels
