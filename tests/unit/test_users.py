"""The users of sandboxes: each server has its own."""

from __future__ import annotations

import pytest

from codecontext_service.processes.users import USERS, NoUserError, Users

FIRST = 3_000_000
"""Far from those that other tests' servers take."""


def test_servers_share_no_user() -> None:
    """Two servers that are there at once have other users; one that ends gives its own back."""
    one, two = Users(FIRST, 3000), Users(FIRST, 10)
    assert len(one.uids) >= 3000
    assert len(two.uids) >= 10
    assert set(one.uids).isdisjoint(two.uids)
    one.close()
    again = Users(FIRST, 3000)
    assert min(again.uids) == FIRST
    assert set(again.uids).isdisjoint(two.uids)
    again.close()
    two.close()


def test_a_server_without_users_does_not_start() -> None:
    """Who finds too few users left is told which option to change, and takes none."""
    most = Users(FIRST, USERS - 5000)
    with pytest.raises(NoUserError, match="first_uid"):
        Users(FIRST, 6000)
    least = Users(FIRST, 2000)
    assert set(least.uids).isdisjoint(most.uids)
    least.close()
    most.close()
    everything = Users(FIRST, USERS)
    assert len(everything.uids) == USERS
    everything.close()
