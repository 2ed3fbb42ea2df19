"""Which tier and which guarantees follow from what works on a machine."""

from __future__ import annotations

import json

import pytest

from codecontext_service.workers.probes import Layer
from codecontext_service.workers.tiers import GUARANTEES, Assessment, assess

NAMES = (
    "seccomp",
    "landlock",
    "landlock_signals",
    "mounts",
    "own_proc",
    "namespaces",
    "network",
    "own_uid",
    "own_uid_joined",
    "own_uid_folder",
    "user_namespace",
    "user_namespace_mounts",
    "user_namespace_own_proc",
    "user_namespace_namespaces",
    "user_namespace_network",
    "user_namespace_process_limit",
)
DIRECT = {"mounts", "own_proc", "namespaces", "network", "own_uid_joined"}
BY_USER_NAMESPACE = {name for name in NAMES if name.startswith("user_namespace")}
SHARED = {
    "no_network",
    "no_foreign_files",
    "no_foreign_signals",
    "memory_limit_soft",
    "dies_with_server",
    "descendants_die",
}


def machine(*broken: str, abi: int = 7, groups: bool = True) -> Assessment:
    """An assessment of a machine where all works but these."""
    assert set(broken) <= set(NAMES)
    layers = (
        Layer(
            name,
            works=name not in broken,
            reason="not here" if name in broken else "",
            version=abi if name == "landlock" and name not in broken else 0,
        )
        for name in NAMES
    )
    return assess(layers, no_memory_group="" if groups else "not here")


def test_where_all_works_the_cell_keeps_every_promise() -> None:
    """Root with everything: all guarantees, strict too."""
    found = machine()
    assert found.strongest.name == "cell"
    assert found.strongest.guarantees == GUARANTEES
    assert not found.strongest.missing
    assert not found.user_namespace
    assert not found.strict_obstacles


def test_an_ordinary_user_gets_cells_by_user_namespaces() -> None:
    """Without root and control groups only the hard memory limit is missing."""
    found = machine(*DIRECT, "own_uid", groups=False)
    assert found.strongest.name == "cell"
    assert found.user_namespace
    assert found.strongest.missing == ("memory_limit_hard",)
    assert found.strict_obstacles == ("memory_control_group: not here",)


def test_a_container_with_root_gets_uids() -> None:
    """Neither namespaces nor mounts nor groups: a uid for each context."""
    found = machine(*DIRECT, *BY_USER_NAMESPACE, groups=False)
    assert found.strongest.name == "uid"
    assert set(found.strongest.guarantees) == SHARED | {"process_limit"}
    assert found.strongest.missing == ("no_foreign_processes", "memory_limit_hard", "disk_limit")
    assert "mounts: not here" in found.tier("cell").obstacles


def test_users_that_can_not_have_folders_are_no_tier() -> None:
    """A root that can't give folders away or end other users' processes can't keep users apart."""
    found = machine(*DIRECT, *BY_USER_NAMESPACE, "own_uid_folder")
    assert found.strongest.name == "landlock"
    assert found.tier("uid").obstacles == ("own_uid_folder: not here",)


def test_a_restricted_pod_gets_landlock() -> None:
    """No root, no namespaces: what Landlock and the filters give."""
    found = machine(*DIRECT, *BY_USER_NAMESPACE, "own_uid", groups=False)
    assert found.strongest.name == "landlock"
    assert set(found.strongest.guarantees) == SHARED
    assert found.tier("uid").obstacles == ("own_uid: not here",)
    assert found.tier("uid").guarantees == ()
    # Whoever is no root is told what a user namespace lacks, not what root could.
    assert all("user_namespace" in each for each in found.tier("cell").obstacles)


@pytest.mark.parametrize("broken", ["seccomp", "landlock"])
def test_without_namespaces_both_filters_and_landlock_are_needed(broken: str) -> None:
    """With one of them alone nothing is contained, and that is said."""
    found = machine(*DIRECT, *BY_USER_NAMESPACE, broken)
    assert found.strongest.name == "none"
    assert found.tier("landlock").obstacles == (f"{broken}: not here",)
    assert found.strongest.guarantees == ("dies_with_server", "descendants_die")


def test_an_unknown_machine_has_no_tier_that_filters() -> None:
    """Without seccomp, namespaces alone are no cell: other families of sockets would be open."""
    found = machine("seccomp")
    assert found.strongest.name == "none"
    assert not found.tier("cell").available


@pytest.mark.parametrize("broken", sorted(DIRECT))
def test_a_root_that_can_not_mount_falls_back_to_user_namespaces(broken: str) -> None:
    """Root in a container may still be allowed a user namespace."""
    found = machine(broken)
    assert found.strongest.name == "cell"
    assert found.user_namespace


def test_processes_are_limited_by_user_alone() -> None:
    """Where users are not counted apart the limit is missing, and strict with it, whatever groups there are."""
    found = machine(*DIRECT, "user_namespace_process_limit")
    assert found.strongest.missing == ("process_limit",)
    assert found.strict_obstacles == ("user_namespace_process_limit: not here",)
    assert machine("user_namespace_process_limit").strongest.missing == ()  # it needs no namespace
    pod = machine(*DIRECT, *BY_USER_NAMESPACE, "own_uid")
    assert "process_limit" in pod.strongest.missing


@pytest.mark.parametrize("groups", [True, False])
def test_memory_is_limited_hard_by_the_servers_groups(groups: bool) -> None:
    """What the server says of its control groups decides, in cells alone, and for strict."""
    found = machine(groups=groups)
    assert ("memory_limit_hard" in found.tier("cell").guarantees) is groups
    assert found.strict_obstacles == (() if groups else ("memory_control_group: not here",))
    assert "memory_limit_hard" in found.tier("uid").missing


def test_strict_lacks_no_guarantee() -> None:
    """A machine that is strict has a cell that keeps every promise, whichever layer fails."""
    for broken in ((), *((name,) for name in NAMES), (*DIRECT, "user_namespace_process_limit")):
        for groups in (True, False):
            found = machine(*broken, groups=groups)
            assert found.strict_obstacles or found.strongest.guarantees == GUARANTEES, broken


def test_strict_needs_landlocks_signals() -> None:
    """An older Landlock is enough for a cell, and not for strict."""
    found = machine("landlock_signals", abi=5)
    assert found.strongest.name == "cell"
    assert found.strict_obstacles == ("landlock_signals: not here",)


def test_an_assessment_is_plain_data() -> None:
    """It goes through JSON, with each guarantee either kept or missing."""
    found = machine(groups=False)
    told = json.loads(json.dumps(found.as_dict()))
    assert [each["name"] for each in told["tiers"]] == ["cell", "uid", "landlock", "none"]
    for each in told["tiers"]:
        assert sorted(each["guarantees"] + each["missing"]) == sorted(GUARANTEES)
    assert told["layers"][0] == {"name": "seccomp", "works": True, "reason": "", "version": 0}
    with pytest.raises(KeyError):
        found.tier("strict")
