"""Messages that carry content are taken apart and put together by their bytes, as protobuf would do it."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codecontext import _content
from codecontext.v1 import file_service_pb2 as pb

MESSAGES = [
    (pb.UploadFileRequest, _content.deserialize_upload),
    (pb.DownloadFileResponse, _content.deserialize_download),
]
each_message = pytest.mark.parametrize(("kind", "deserialize"), MESSAGES)

# Lengths around those whose own length changes, and any others.
contents = st.sampled_from([0, 1, 127, 128, 16383, 16384, 2097151, 2097152]).map(
    lambda size: bytes(range(256)) * (size // 256) + b"x" * (size % 256)
) | st.binary(max_size=1000)

uploads = st.builds(
    pb.UploadFileRequest,
    header=st.none()
    | st.builds(pb.UploadFileHeader, path=st.text(max_size=9), size_bytes=st.integers(0, 99)),
    data=st.none() | st.binary(max_size=300),
    total_bytes=st.none() | st.integers(0, 1 << 40),
)
downloads = st.builds(
    pb.DownloadFileResponse,
    file=st.none() | st.builds(pb.FileInfo, path=st.text(max_size=9)),
    data=st.none() | st.binary(max_size=300),
    sha256=st.none() | st.binary(max_size=32),
)


def seen(message: object) -> tuple[str | None, object]:
    """What a message says, in whichever form it is."""
    if isinstance(message, memoryview):
        return "data", bytes(message)
    assert isinstance(message, pb.UploadFileRequest | pb.DownloadFileResponse)
    which = message.WhichOneof("message")
    return which, getattr(message, which) if which else None


@each_message
@settings(deadline=None)  # megabytes, on a busy machine
@given(content=contents)
def test_content_is_packed_as_protobuf_serializes_it(
    kind: type[pb.UploadFileRequest | pb.DownloadFileResponse], deserialize: object, content: bytes
) -> None:
    """What is packed is byte for byte what protobuf makes, from any buffer, and is not packed again."""
    packed = _content.pack(content)
    assert packed == kind(data=content).SerializeToString()
    assert _content.pack(memoryview(bytearray(content))) == packed
    assert _content.serialize(packed) is packed
    assert _content.unpack(packed) == content


@settings(deadline=None)
@given(message=uploads | downloads)
def test_any_message_is_serialized_and_deserialized_as_by_protobuf(
    message: pb.UploadFileRequest | pb.DownloadFileResponse,
) -> None:
    """What is no content goes the way of protobuf, and content says the same in either form."""
    serialized = _content.serialize(message)
    assert serialized == message.SerializeToString()
    upload = isinstance(message, pb.UploadFileRequest)
    deserialize = _content.deserialize_upload if upload else _content.deserialize_download
    assert seen(deserialize(serialized)) == seen(message)


@each_message
@settings(deadline=None)
@given(
    wire=st.binary(max_size=40)
    | st.lists(contents.filter(lambda each: len(each) < 200).map(_content.pack), max_size=3).map(
        b"".join
    )
    | st.binary(max_size=20).map(b"\x12".__add__)
)
@example(wire=b"\x12\x80\x00")  # a length of nothing in two bytes
@example(wire=b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(wire=b"\x12" + b"\x80" * 11 + b"\x00")  # longer than any length
@example(wire=b"\x12" + b"\xff" * (8 << 20))  # as long as a message may be
@example(wire=b"\x12\x01a\x12\x01b")  # the last one counts
@example(wire=b"\x12\x01a\x78\x01")  # a field of a later version
def test_any_bytes_are_understood_as_by_protobuf(
    kind: type[pb.UploadFileRequest | pb.DownloadFileResponse],
    deserialize: object,
    wire: bytes,
) -> None:
    """Whatever arrives means what protobuf says it means, and is refused where protobuf refuses it."""
    assert callable(deserialize)
    try:
        expected = seen(kind.FromString(wire))
    except DecodeError:
        with pytest.raises(DecodeError):
            deserialize(wire)
    else:
        assert seen(deserialize(wire)) == expected
