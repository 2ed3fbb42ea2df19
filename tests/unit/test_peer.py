"""A socket to another process: who asks, and what comes unasked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from codecontext_service.processes.peer import Peer
from codecontext_service.workers.descriptors import receive_message, send_message


@pytest.mark.parametrize("number", range(20))
async def test_an_answer_is_heard_before_what_comes_behind_it(number: int) -> None:
    """News of the end of a process that was just started finds the one who has started it listening."""
    heard: list[Any] = []
    count = number % 3 + 1
    all_ended = asyncio.Event()

    def on_message(message: dict[str, Any], descriptors: list[int]) -> None:
        heard.append(message)
        if sum("exited" in each for each in heard) == count:
            all_ended.set()

    ours, theirs = Peer.pair()
    peer = Peer(ours, on_message, lambda: None)
    with theirs:
        asking = [asyncio.create_task(_ask(peer, heard, each)) for each in range(count)]
        await asyncio.sleep(0)
        for _ in asking:
            order, _ = receive_message(theirs)
            send_message(theirs, {"answer": order["start"], "pid": order["start"]})
            send_message(theirs, {"exited": order["start"]})
        await asyncio.gather(*asking)
        await all_ended.wait()
    peer.close()
    for pid in range(1, count + 1):
        assert heard.index({"started": pid}) < heard.index({"exited": pid})


async def _ask(peer: Peer, heard: list[Any], what: int) -> None:
    answer, _ = await peer.order("start", {"what": what})
    heard.append({"started": answer["pid"]})
