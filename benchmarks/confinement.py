"""What each layer of confinement costs in the child, beside a bare fork.

Each time a process with nothing but the workers' modules is forked; the child does one thing and says how
long that took. Run it as root; what doesn't work here is left out and named.

    .venv/bin/python benchmarks/confinement.py [how often, 200 by default]
"""

from __future__ import annotations

import functools
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from codecontext_service.workers import filters, landlock, mounts, syscalls
from codecontext_service.workers.architecture import this_machine
from codecontext_service.workers.bpf import assemble
from codecontext_service.workers.confinement import Confinement, Limits, User, prepare
from codecontext_service.workers.landlock import Access, PathRule, Ruleset

Layer = Callable[[], object]

MIB = 1024 * 1024
OWN = User(60001, 60001)
LIMITS = Limits(
    address_space_bytes=1024 * MIB,
    data_bytes=800 * MIB,
    processes=128,
    open_files=1024,
    file_size_bytes=1024 * MIB,
    cpu_time_s=3600,
)
READABLE = ("/usr", "/bin", "/lib", "/lib64", "/sbin", "/etc/ld.so.cache", "/etc/ssl/certs")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
RULES = Ruleset(
    (
        *(PathRule(path, Access.READ, missing_ok=True) for path in READABLE),
        *(PathRule(path, Access.DEVICE, missing_ok=True) for path in DEVICES),
        PathRule(tempfile.gettempdir(), Access.READ_WRITE),
        PathRule("/proc", Access.READ_FILE | Access.LIST),
    )
)


def policy(tier: str, abi: int = 7) -> filters.Policy:
    return filters.policy_for(tier, landlock_abi=abi, memory_group=False)


def whole(tier: str, *, user: User | None, rules: Ruleset | None) -> Confinement:
    return Confinement(limits=LIMITS, user=user, landlock=rules, filter=policy(tier))


def read_only_root_and_tmpfs() -> None:
    place = tempfile.gettempdir()
    mounts.mount_tmpfs(place, size_bytes=MIB, inodes=64)
    Path(f"{place}/usr").mkdir()
    mounts.bind("/usr", f"{place}/usr")
    mounts.restrict_mount(place, read_only=True)


def jail() -> None:
    place = tempfile.gettempdir()
    mounts.mount_tmpfs(place, size_bytes=MIB, inodes=64)
    Path(f"{place}/old").mkdir()
    mounts.change_root(place, f"{place}/old")


def layers() -> dict[str, tuple[Layer, Layer]]:
    """By name: what comes before, unmeasured, and what is measured."""

    def nothing() -> None:
        pass

    def new_mounts() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        mounts.make_private()

    def unshare(flag: int) -> tuple[Layer, Layer]:
        return nothing, functools.partial(syscalls.unshare, flag)

    def network() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.bring_up_loopback()

    machine = this_machine()
    no_new_privs = syscalls.set_no_new_privs
    cell, old = policy("cell"), policy("landlock", abi=1)
    for each in (cell, old):
        filters.program(each, machine)
    everything = {
        f"all of {tier}": (nothing, prepare(confinement).of(confinement.user))
        for tier, confinement in (
            ("cell, without Landlock", whole("cell", user=OWN, rules=None)),
            ("cell", whole("cell", user=OWN, rules=RULES)),
            ("uid", whole("uid", user=OWN, rules=RULES)),
            ("landlock", whole("landlock", user=None, rules=RULES)),
        )
    }
    return {
        "limits, seven": (nothing, LIMITS.apply),
        "user": (nothing, OWN.become),
        "bounding set": (nothing, syscalls.drop_bounding_set),
        "capabilities": (nothing, syscalls.clear_capabilities),
        "no_new_privs": (nothing, no_new_privs),
        "parent death and dumpable": (
            nothing,
            lambda: (syscalls.die_with_parent(os.getppid()), syscalls.set_dumpable(True)),
        ),
        "Landlock, 14 paths": (no_new_privs, lambda: landlock.restrict(RULES)),
        "filter of cell": (no_new_privs, lambda: filters.install(cell)),
        "filter of landlock, ABI 1": (no_new_privs, lambda: filters.install(old)),
        "making the filter of cell": (nothing, lambda: assemble(filters.rules(cell), machine)),
        "user namespace and maps": (nothing, syscalls.new_user_namespace),
        "mount namespace, private": (nothing, new_mounts),
        "ipc namespace": unshare(syscalls.CLONE_NEWIPC),
        "uts namespace": unshare(syscalls.CLONE_NEWUTS),
        "cgroup namespace": unshare(syscalls.CLONE_NEWCGROUP),
        "net namespace, loopback up": (nothing, network),
        "tmpfs, bind, read-only": (new_mounts, read_only_root_and_tmpfs),
        "tmpfs and pivot_root": (new_mounts, jail),
        **everything,
    }


def measure(before: Layer, layer: Layer) -> tuple[float, float]:
    """Returns how long a layer took in a child, and the fork until the child's word of that.

    Raises:
        OSError: It failed; what is said is why.
    """
    read, write = os.pipe()
    forked = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        said = b""
        try:
            before()
            began = time.perf_counter()
            layer()
            said = struct.pack("d", time.perf_counter() - began)
        except BaseException as error:
            said = f"failed: {error}".encode()
        finally:
            os.write(write, said)
            os._exit(0)
    said = os.read(read, 4096)
    elapsed = time.perf_counter() - forked
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)
    if len(said) != 8:
        raise OSError(said.decode(errors="replace"))
    return struct.unpack("d", said)[0], elapsed


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{'':34}{'in the child':>14}{'fork to word':>14}   median ms of {count}")
    bare = [measure(lambda: None, lambda: None)[1] for _ in range(count)]
    print(f"{'a bare fork':34}{'':14}{statistics.median(bare) * 1e3:14.3f}")
    for name, (before, layer) in layers().items():
        try:
            times = [measure(before, layer) for _ in range(count)]
        except OSError as error:
            print(f"{name:34}{error}")
            continue
        inside, around = (statistics.median(each) * 1e3 for each in zip(*times, strict=True))
        print(f"{name:34}{inside:14.3f}{around:14.3f}")


if __name__ == "__main__":
    main()
