"""Makes seccomp programs: rules as data in, the kernel's classic BPF out.

A program looks at the machine, at the number of the system call, then at the rules of that call in
their order: the first whose condition holds decides. A call that no rule denies is allowed.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from typing import NamedTuple

from .architecture import NEWEST_NUMBER, X86_64, Architecture

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45

_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

_LONGEST_JUMP = 255

_UNUSED_NUMBERS = {X86_64.name: (337, 424)}
"""Numbers without a call, from the first to before the last: a later kernel may fill them."""


class Condition(NamedTuple):
    """What an argument must be for a rule to hold.

    Only the lower 32 bits of an argument count, as they do for the kernel: none of the arguments that
    the filters look at is wider there.
    """

    argument: int
    """Which one, from 0."""
    test: int
    """A jump of BPF: `_IF_EQUAL` with any of the values, or `_IF_ANY_BIT` of any of them."""
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    """Which bits of the argument are looked at."""
    negated: bool = False


def is_one_of(argument: int, *values: int) -> Condition:
    """Holds when an argument is one of the values."""
    return Condition(argument, _IF_EQUAL, values)


def is_none_of(argument: int, *values: int) -> Condition:
    """Holds when an argument is none of the values."""
    return Condition(argument, _IF_EQUAL, values, negated=True)


def has_any_bit(argument: int, bits: int) -> Condition:
    """Holds when an argument has at least one of the bits."""
    return Condition(argument, _IF_ANY_BIT, (bits,))


def has_exactly(argument: int, mask: int, bits: int) -> Condition:
    """Holds when those bits of an argument that the mask names are just the given ones."""
    return Condition(argument, _IF_EQUAL, (bits,), mask=mask)


class Rule(NamedTuple):
    """Has a system call fail."""

    call: str
    """Its name; a rule for a call that a machine doesn't have is left out there."""
    error: int
    """The errno that the caller sees."""
    when: Condition | None = None
    """None: always."""


class _Instruction(NamedTuple):
    """`struct sock_filter`: the jumps are counted from the next instruction."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0

    def packed(self) -> bytes:
        return struct.pack("HBBI", self.code, self.if_true, self.if_false, self.value)


def _fail(error: int) -> _Instruction:
    return _Instruction(_RETURN, _ERRNO | error)


def _if(test: int, value: int, then: list[_Instruction]) -> list[_Instruction]:
    """Runs some instructions when a test of the accumulator holds, else goes on behind them."""
    return [_Instruction(test, value, if_false=len(then)), *then]


def _unless(test: int, value: int, then: list[_Instruction]) -> list[_Instruction]:
    return [_Instruction(test, value, if_true=len(then)), *then]


def _rule(rule: Rule) -> list[_Instruction]:
    verdict = [_fail(rule.error)]
    condition = rule.when
    if condition is None:
        return verdict
    tests: list[_Instruction] = []
    last = len(condition.values) - 1
    for index, value in enumerate(condition.values):
        # To the verdict, or behind it, whichever this value means.
        hit = last - index + (1 if condition.negated else 0)
        miss = 0 if index < last or condition.negated else 1
        tests.append(_Instruction(condition.test, value & 0xFFFFFFFF, hit, miss))
    load = [_Instruction(_LOAD, _ARGUMENTS_AT + 8 * condition.argument)]
    if condition.mask != 0xFFFFFFFF:
        load.append(_Instruction(_AND, condition.mask))
    return [*load, *tests, *verdict]


def assemble(rules: Iterable[Rule], architecture: Architecture) -> bytes:
    """Makes a program.

    Besides the rules it has: a call made the way of another machine (int 0x80, a 32-bit program) kills
    the process; a number that is not known (a newer call, x32) gives ENOSYS, as from an older kernel.

    Args:
        rules: In the order in which they are tried.
        architecture: The machine that the program is for.

    Returns:
        The instructions, as the kernel takes them.

    Raises:
        KeyError: A rule's call is not in the table of numbers.
        ValueError: There are too many rules for one call.
    """
    by_number: dict[int, list[_Instruction]] = {}
    for rule in rules:
        number = architecture.number(rule.call)
        if number is not None:
            by_number.setdefault(number, []).extend(_rule(rule))

    allow = _Instruction(_RETURN, _ALLOW)
    program = [
        _Instruction(_LOAD, _ARCH_AT),
        *_unless(_IF_EQUAL, architecture.audit_arch, [_Instruction(_RETURN, _KILL_PROCESS)]),
        _Instruction(_LOAD, _NUMBER_AT),
        *_if(_IF_AT_LEAST, NEWEST_NUMBER + 1, [_fail(errno.ENOSYS)]),
    ]
    if architecture.name in _UNUSED_NUMBERS:
        first, end = _UNUSED_NUMBERS[architecture.name]
        unused = _unless(_IF_AT_LEAST, end, [_fail(errno.ENOSYS)])
        program += _if(_IF_AT_LEAST, first, unused)
    for number, block in sorted(by_number.items()):
        if len(block) >= _LONGEST_JUMP:
            raise ValueError(f"too many rules for system call {number}")
        program += _if(_IF_EQUAL, number, [*block, allow])
    program.append(allow)
    return b"".join(each.packed() for each in program)
