"""A tiny interpreter of the part of classic BPF that the filters use, after the kernel's own rules."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


def verdict(program: bytes, arch: int, number: int, arguments: Sequence[int] = ()) -> str:
    """Runs a seccomp program for one system call.

    Args:
        program: The instructions.
        arch: AUDIT_ARCH_… of the caller.
        number: The system call's.
        arguments: Its first arguments, at most six, of 64 bits; the rest are 0.

    Returns:
        `allow`, `kill` or the errno's name.
    """
    padded = [each & 0xFFFFFFFFFFFFFFFF for each in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<iIQ6Q", number, arch, 0, *padded)
    instructions = list(struct.iter_unpack("<HBBI", program))
    assert 0 < len(instructions) <= 4096  # BPF_MAXINSNS
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, value = instructions[at]  # a jump past the end is an IndexError
        at += 1
        if code == 0x20:  # load a word
            assert value % 4 == 0
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code in (0x15, 0x35, 0x45):
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            at += if_true if holds else if_false
        elif code == 0x06:
            return _returned(value)
        else:
            raise AssertionError(f"unknown instruction {code:#x}")


def _returned(value: int) -> str:
    if value == _ALLOW:
        return "allow"
    if value == _KILL_PROCESS:
        return "kill"
    assert value & 0xFFFF0000 == _ERRNO, hex(value)
    return errno.errorcode[value & 0xFFFF]
