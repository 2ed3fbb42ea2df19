"""The messages that carry content, by their bytes: what is large is not copied into a message and out again.

`UploadFileRequest` and `DownloadFileResponse` carry content in the same field. A message of that field alone is
its key, its length, and the content: `pack` makes it, and the deserializers take it apart. Everything else is
left to protobuf.
"""

from typing import Any

from codecontext.v1 import file_service_pb2 as pb
from codecontext.v1.file_service_pb2_grpc import FileServiceStub

_KEY = b"\x12"  # of `bytes data = 2`
_LONGEST = 5
"""How many bytes a length has at most. Whoever sends may write more of them: those are protobuf's affair."""
SERVICE = pb.DESCRIPTOR.services_by_name["FileService"].full_name


Content = bytes | bytearray | memoryview
Packed = bytes
"""A message that carries content, as it goes over the wire."""
UploadMessage = pb.UploadFileRequest | memoryview
"""A message of an upload as it arrives: content as such, everything else as a message."""
DownloadMessage = pb.DownloadFileResponse | memoryview
"""A message of a download as it arrives."""


def pack(content: Content) -> Packed:
    """Returns the message that carries content."""
    length = len(content)
    head = bytearray(_KEY)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return b"".join((head, content))


def unpack(message: bytes) -> memoryview | None:
    """Returns the content that a message carries; None if it is anything else than `pack` makes."""
    if not message.startswith(_KEY):
        return None
    length, at, shift = 0, len(_KEY), 0
    while at < min(len(message), len(_KEY) + _LONGEST):
        byte = message[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte <= 0x7F:
            return memoryview(message)[at:] if length == len(message) - at else None
    return None


def serialize(message: pb.UploadFileRequest | pb.DownloadFileResponse | Packed) -> bytes:
    """Serializes what is not packed yet."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def deserialize_upload(message: bytes) -> UploadMessage:
    """Deserializes a message of an upload.

    Raises:
        DecodeError: It is none.
    """
    content = unpack(message)
    return pb.UploadFileRequest.FromString(message) if content is None else content


def deserialize_download(message: bytes) -> DownloadMessage:
    """Deserializes a message of a download.

    Raises:
        DecodeError: It is none.
    """
    content = unpack(message)
    return pb.DownloadFileResponse.FromString(message) if content is None else content


class FileStub(FileServiceStub):
    """The generated stub, whose transfers send packed content and receive content as it is."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)  # type: ignore[call-arg]  # its types know `__new__` alone
        self.UploadFile = channel.stream_unary(
            f"/{SERVICE}/UploadFile",
            request_serializer=serialize,
            response_deserializer=pb.UploadFileResponse.FromString,
        )
        self.DownloadFile = channel.unary_stream(
            f"/{SERVICE}/DownloadFile",
            request_serializer=pb.DownloadFileRequest.SerializeToString,
            response_deserializer=deserialize_download,
        )
