"""The self-test at start notices what a layer that is missing leaves open, and nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import rights
from support.confined import NOBODY, run
from support.machine import skip, why_no_landlock

from codecontext_service.workers import landlock
from codecontext_service.workers.confinement import Confinement, User
from codecontext_service.workers.filters import policy_for
from codecontext_service.workers.landlock import Access, PathRule, Ruleset
from codecontext_service.workers.tiers import GUARANTEES

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")
OWN_UID = 3_100_000 + os.getpid()  # tests side by side must not share it: processes count for it

FILES = {"it reads a file of the server's", "it writes to a folder of the server's"}
SIGNALS = {"it signals the server", "it signals the process that holds it"}
MEMORY = {"it opens the memory of the process that holds it"}
NAMESPACES = {"it makes namespaces, and could mount in them"}
NETWORK = {"it reaches a port of the machine's loopback"}
OTHERS = {"it sees other processes"}
PROCESSES = {"it starts more processes than it may"}
ROOM = {"its workspace has more room than it may"}
ROOT = {"it becomes root"}


@pytest.fixture
def options(open_path: Path) -> Iterator[dict[str, Any]]:
    """What a self-test is given, with this process in the place of the server."""
    secret = open_path / "folder" / "secret"
    secret.parent.mkdir(mode=0o700)
    secret.touch(mode=0o600)
    with socket.create_server(("127.0.0.1", 0)) as port:
        yield {
            "guarantees": GUARANTEES,
            "secret": str(secret),
            "server_pid": os.getpid(),
            "port": port.getsockname()[1],
            "workspace": str(open_path),
            "workspace_bytes": 1,
        }


def test_each_attempt_succeeds_where_nothing_contains_it(options: dict[str, Any]) -> None:
    """A process without any confinement is found to break every guarantee that there is an attempt on."""
    every = FILES | SIGNALS | MEMORY | NAMESPACES | NETWORK | OTHERS | PROCESSES | ROOM
    found = run(rights.self_test, options).value
    if not AS_ROOT:  # whose processes count together, and who may be allowed no namespaces
        every -= PROCESSES | NAMESPACES
        found -= PROCESSES | NAMESPACES
    assert found == every
    assert run(rights.self_test, {**options, "guarantees": []}).value == set()
    assert not list(Path(options["secret"]).parent.glob("written"))


@needs_root
def test_who_can_become_root_is_found_out(options: dict[str, Any]) -> None:
    """A user that has kept root's rights is told from one that has not."""
    assert run(rights.self_test_in_disguise, options, NOBODY).value >= ROOT
    own = Confinement(user=User(OWN_UID, OWN_UID))
    assert run(rights.self_test, options, confinement=own).value.isdisjoint(ROOT | PROCESSES)


@pytest.mark.parametrize("missing", ["nothing", "landlock", "filter"])
def test_a_layer_that_is_missing_is_noticed(options: dict[str, Any], missing: str) -> None:
    """Of what the tier `landlock` is made of, the self-test says what each part alone does not stop."""
    if proof := why_no_landlock():
        skip("there is no Landlock", proof)
    if landlock.abi() < 6:
        pytest.skip("needs Landlock's version 6, whose signals no filter has to stop")
    read = PathRule("/proc", Access.READ)
    layers = {
        "landlock": Ruleset(paths=(read,), tcp=True),
        "filter": policy_for("landlock", landlock_abi=landlock.abi(), memory_group=False),
    }
    layers.pop(missing, None)
    found = run(rights.self_test, options, confinement=Confinement(**layers)).value
    if AS_ROOT:
        found -= MEMORY  # of whom has rights that this process has given up
    else:
        found -= NAMESPACES  # which the machine may allow to nobody
    left_open = {
        "nothing": set(),
        "landlock": FILES | SIGNALS | (set() if AS_ROOT else MEMORY),
        "filter": NETWORK | (NAMESPACES if AS_ROOT else set()),
    }
    promised_by_none = OTHERS | PROCESSES | ROOM
    assert found - promised_by_none == left_open[missing]
