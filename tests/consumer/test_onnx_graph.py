"""A network's file holds ONNX's own operators and its weights, or it is refused before the runtime sees it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bus_mlops.consumer.onnx_graph import MAX_DEPTH, require_plain_graph
from bus_mlops.errors import UnsafeGraphError


def weights(location: str | None = None) -> TensorProto:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], np.ones(2, np.float32).tobytes(), raw=True)
    if location is not None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    return tensor


def graph(*nodes: onnx.NodeProto, tensor: TensorProto | None = None, name: str = "g") -> onnx.GraphProto:
    image, answer = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("x", "y"))
    body = nodes or (helper.make_node("Add", ["x", "w"], ["y"]),)
    return helper.make_graph(body, name, [image], [answer], [tensor or weights()])


def model(own: onnx.GraphProto, *domains: str) -> onnx.ModelProto:
    return helper.make_model(own, opset_imports=[helper.make_opsetid(d, 15) for d in ("", *domains)], ir_version=8)


def within(inner: onnx.GraphProto) -> onnx.GraphProto:
    condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    tell = helper.make_node("Constant", [], ["c"], value=condition)
    return graph(tell, helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=graph()))


def in_attribute(tensor: TensorProto) -> onnx.GraphProto:
    return graph(helper.make_node("Constant", [], ["y"], value=tensor))


def in_sparse(tensor: TensorProto) -> onnx.GraphProto:
    own = graph()
    sparse = onnx.SparseTensorProto(
        values=tensor, indices=helper.make_tensor("i", TensorProto.INT64, [1], [0]), dims=[2]
    )
    own.sparse_initializer.append(sparse)
    return own


def function() -> onnx.ModelProto:
    own = model(graph(helper.make_node("Mine", ["x"], ["y"], domain="")))
    own.functions.append(
        helper.make_function(
            "", "Mine", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 15)]
        )
    )
    return own


def foreign() -> onnx.NodeProto:
    return helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")


def deep(levels: int) -> onnx.ModelProto:
    own = graph()
    for _ in range(levels):
        own = within(own)
    return model(own)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (model(graph(tensor=weights("../../outside.bin"))), "from another file"),
        (model(graph(tensor=weights("/etc/hostname"))), "from another file"),
        (model(graph(tensor=weights("beside.bin"))), "from another file"),
        (model(within(graph(tensor=weights("/etc/hostname")))), "from another file"),
        (model(in_attribute(weights("/etc/hostname"))), "from another file"),
        (model(in_sparse(weights("/etc/hostname"))), "from another file"),
        (model(graph(foreign()), "com.microsoft"), "the operator 'EPContext' of 'com.microsoft'"),
        (model(within(within(graph(foreign()))), "com.microsoft"), "the operator 'EPContext'"),
        (function(), "functions of its own"),
        (deep(MAX_DEPTH * 2), "deeper than"),
        (onnx.ModelProto(ir_version=8), "no graph"),
    ],
)
def test_what_reaches_out_of_the_file_is_refused(network, said):
    with pytest.raises(UnsafeGraphError, match=f"x.onnx.*{said}"):
        require_plain_graph(network.SerializeToString(), "x.onnx")


def test_plain_graphs_pass_and_are_what_the_runtime_opens():
    for network in (model(graph()), model(within(graph(name="inner"))), deep(3)):
        content = network.SerializeToString()
        require_plain_graph(content, "x.onnx")
    onnxruntime.InferenceSession(model(graph()).SerializeToString(), providers=["CPUExecutionProvider"])


def test_the_runtimes_own_format_is_refused(tmp_path):
    """It is recognised by its first bytes, and could hold what nobody has looked at."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "network.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    content = model(graph()).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    with pytest.raises(UnsafeGraphError):
        require_plain_graph((tmp_path / "network.ort").read_bytes(), "x.onnx")


@given(st.data())
def test_a_damaged_file_is_an_error_and_never_a_crash(data):
    content = bytearray(model(within(graph(tensor=weights("/etc/hostname")))).SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    kept = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        onnx.load_from_string(kept)
        told = b"/etc/hostname" in kept
    except Exception:
        told = False
    try:
        require_plain_graph(kept, "x.onnx")
    except UnsafeGraphError:
        return
    assert not told or b"external" not in kept
