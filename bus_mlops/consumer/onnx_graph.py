"""What a network's file may hold: a graph of ONNX's own operators with its weights inside, and nothing else.

Read from the bytes as protobuf writes them, before onnxruntime sees them: a consumer's install has no `onnx`, and a
reader that copies would hold a network twice. Field numbers are those of ONNX's `onnx.proto`, which never change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bus_mlops.errors import UnsafeGraphError

# Operators of ONNX itself. onnxruntime knows more, among them some that run a program of their own.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# More than any network that is exported: a graph in a graph is an If or a Loop.
MAX_DEPTH = 16
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14
_NODE_TYPE, _NODE_DOMAIN = 4, 7
_TRAINING, _FUNCTIONS = 20, 25
# For each kind of message, which fields hold a message of which kind.
_INNER = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def require_plain_graph(content: bytes, where: Path | str) -> None:
    """Raise unless a file is an ONNX model whose operators are ONNX's own and whose weights lie in it.

    Raises:
        UnsafeGraphError: It names a file outside it, an operator or a function that somebody has added, or is no ONNX
            model at all; says where.
    """
    try:
        found = list(_problems("model", memoryview(content), 0))
        has_graph = any(number == 7 for number, _ in _fields(memoryview(content)))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        found, has_graph = [f"is no ONNX model: {error}"], True
    if not has_graph:
        found = ["is no ONNX model: it has no graph"]
    if found:
        raise UnsafeGraphError(
            f"{where} {found[0]}. A package holds networks of ONNX's own operators, with their weights inside: this "
            "one was not written by bus-mlops. Do not use it; ask those who gave it to you."
        )


def _problems(kind: str, message: memoryview, depth: int) -> Iterator[str]:
    if depth > 4 * MAX_DEPTH:
        raise ValueError(f"graphs within graphs, deeper than {MAX_DEPTH}")
    inner, texts = _INNER.get(kind, {}), {}
    for number, value in _fields(message):
        if isinstance(value, int):
            if (kind, number) == ("tensor", _TENSOR_LOCATION) and value:
                yield "takes weights from another file"
        elif (kind, number) == ("tensor", _TENSOR_EXTERNAL_DATA):
            yield f"takes weights from another file ({bytes(value[:200])!r})"
        elif kind == "model" and number in (_TRAINING, _FUNCTIONS):
            yield "brings functions of its own"
        elif number in inner:
            yield from _problems(inner[number], value, depth + 1)
        elif kind == "node" and number in (_NODE_TYPE, _NODE_DOMAIN):
            texts[number] = bytes(value).decode()
    if kind == "node" and (domain := texts.get(_NODE_DOMAIN, "")) not in DOMAINS:
        yield f"asks for the operator {texts.get(_NODE_TYPE, '')[:100]!r} of {domain[:100]!r}"


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number and value: a number, or the bytes of a text, a message or packed numbers."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        length = _FIXED.get(wire)
        if length is None:
            if wire != _BYTES:
                raise ValueError(f"a field of kind {wire} at {position}")
            length, position = _varint(message, position)
        if length > end - position:
            raise ValueError(f"a field that ends after the file, at {position}")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise ValueError(f"a number without an end, at {position}")
