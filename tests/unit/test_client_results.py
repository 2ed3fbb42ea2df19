"""Results and executions as plain values."""

import json

import pytest
from google.protobuf import struct_pb2

from codecontext import (
    ContextState,
    Execution,
    FileKind,
    GapReason,
    NetworkPolicy,
    Outcome,
    Result,
    _wire,
)
from codecontext.executions import join_results
from codecontext.v1 import code_context_pb2, execution_pb2, file_service_pb2, resources_pb2
from codecontext.v1.execution_pb2 import MimePart


@pytest.mark.parametrize(
    ("kind", "wrapper"),
    [
        (Outcome, execution_pb2.ExecutionOutcome),
        (GapReason, execution_pb2.GapReason),
        (ContextState, code_context_pb2.CodeContextState),
        (NetworkPolicy, resources_pb2.NetworkPolicy),
        (FileKind, file_service_pb2.FileKind),
    ],
)
def test_enums_are_those_of_the_protocol(kind, wrapper) -> None:
    """Each enum has exactly the protocol's values, without their prefix."""
    for number in wrapper.values():
        value = _wire.from_enum(kind, wrapper, number)
        assert wrapper.Name(number).endswith(value.name)
        assert _wire.to_enum(wrapper, value) == number
    assert len(kind) == len(wrapper.values())
    assert _wire.from_enum(kind, wrapper, 999) is kind.UNSPECIFIED


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("plain", "plain"),
        ("😀", "😀"),
        ("a\ud800b", "a\ufffdb"),
        ("\udc80", "\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ud800\ud800", "\ufffd\ufffd"),
    ],
)
def test_lone_surrogates_are_replaced(given: str, sent: str) -> None:
    """Text that is no Unicode is sent with U+FFFD in place of what can't be sent."""
    assert _wire.text(given) == sent


def test_formats() -> None:
    """A result has a property for each common type, and None where it has nothing."""
    metadata = struct_pb2.Struct()
    metadata.update({"image/png": {"width": 3}})
    chart = "application/vnd.codecontext.chart+json"
    result = Result.from_proto(
        execution_pb2.Result(
            parts=[
                MimePart(mime_type="text/plain", text="x"),
                MimePart(mime_type="image/png", data=b"\x89PNG"),
                MimePart(mime_type="application/json", text='{"a": [1]}'),
                MimePart(mime_type=chart, text='{"type": "bar"}'),
                MimePart(mime_type="application/x-own", text="own"),
            ],
            metadata=metadata,
            is_main_result=True,
        )
    )
    assert result.formats() == ["text", "png", "json", "chart", "application/x-own"]
    assert (result.text, result.png) == ("x", b"\x89PNG")
    assert (result.json, result.chart) == ({"a": [1]}, {"type": "bar"})
    assert result.html is result.markdown is result.latex is result.svg is None
    assert result.jpeg is result.javascript is None
    assert result.metadata == {"image/png": {"width": 3}}
    assert result.is_main_result


def test_shows_itself_in_a_notebook() -> None:
    """A notebook gets the bundle as Jupyter wants it: base64 images, parsed JSON, as asked."""
    result = Result(data={"text/plain": "x", "image/png": b"\x00", "application/json": "[1]"})
    bundle, metadata = result._repr_mimebundle_()
    assert bundle == {"text/plain": "x", "image/png": "AA==", "application/json": [1]}
    assert metadata == {}
    assert list(result._repr_mimebundle_(exclude=["image/png"])[0]) == [
        "text/plain",
        "application/json",
    ]
    assert list(result._repr_mimebundle_(include=["text/plain"])[0]) == ["text/plain"]


def test_what_is_called_json_and_is_not() -> None:
    """Broken JSON raises where it is asked for, and is still shown."""
    result = Result(data={"application/json": "{"})
    with pytest.raises(json.JSONDecodeError):
        _ = result.json
    assert result._repr_mimebundle_()[0] == {"application/json": "{"}


@pytest.mark.parametrize("content", ["[1]", "3", "{"])
def test_what_is_called_a_chart_and_is_none(content: str) -> None:
    """A chart is a JSON object: anything else raises where it is asked for."""
    result = Result(data={"application/vnd.codecontext.chart+json": content})
    with pytest.raises(ValueError, match=r"chart|Expecting"):
        _ = result.chart


def test_continued_results_are_joined() -> None:
    """A result that came in several messages is one, its content joined type by type."""
    first = execution_pb2.Result(
        parts=[MimePart(mime_type="image/png", data=b"ab")], continued=True, is_main_result=True
    )
    last = execution_pb2.Result(
        parts=[
            MimePart(mime_type="image/png", data=b"cd"),
            MimePart(mime_type="text/plain", text="t"),
        ]
    )
    (result,) = join_results([first, last])
    assert dict(result.data) == {"image/png": b"abcd", "text/plain": "t"}
    assert result.is_main_result


def test_execution_repr() -> None:
    """An execution says in one line what came of it."""
    execution = Execution.from_proto(
        execution_pb2.Execution(
            execution_id="e1",
            outcome=execution_pb2.EXECUTION_OUTCOME_RAISED,
            stdout=b"\xff1",
            error=execution_pb2.ExecutionError(name="ValueError", value="bad", line_number=2),
        )
    )
    assert "e1 RAISED" in repr(execution)
    assert "ValueError: bad" in repr(execution)
    assert execution.stdout == "\ufffd1"
    assert execution.text is None
    assert not execution.succeeded
