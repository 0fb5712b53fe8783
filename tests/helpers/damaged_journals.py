"""What a kill, a disk or an editor may do to the last line of a journal of Optuna's."""

from __future__ import annotations

from collections.abc import Callable

GARBLE: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "half a last line": lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],
    "a line written behind half a line": lambda lines: [*lines[:-1], lines[-1][:9] + lines[-1]],
    "no last newline": lambda lines: [*lines[:-1], lines[-1].rstrip()],
    "binary at the end": lambda lines: [*lines[:-1], b"\x00\xff\n"],
    "a number at the end": lambda lines: [*lines[:-1], b"7\n"],
    "an unknown entry": lambda lines: [*lines[:-1], b'{"op_code": 99}\n'],
    "an entry without its fields": lambda lines: [*lines[:-1], b'{"op_code": 6}\n'],
}
