"""Files of the server, of its user, of other contexts and of the machine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from security.attempt import ALWAYS, attempt
from security.attempts.inside import Stopped, in_child, syscall
from security.judges import appears, appears_to_the_victim, key_is_gone, reveals


@attempt("no_foreign_files", judge=reveals("server_key"))
def reads_the_servers_key(server_key: str) -> str:
    """Reads a private key of the server by its path."""
    return Path(server_key).read_text()


@attempt("no_foreign_files", judge=reveals("state_file"))
def reads_the_servers_state(state_file: str) -> str:
    """Reads what lies in the server's state directory."""
    return Path(state_file).read_text()


@attempt("no_foreign_files", judge=reveals("server_key"))
def reads_the_servers_key_through_a_link(server_key: str) -> str:
    """Reads a private key of the server through a symbolic link in its own workspace."""
    os.symlink(server_key, "link")
    return Path("link").read_text()


@attempt("no_foreign_files", judge=reveals("home_key"))
def reads_a_key_in_the_home(home: str) -> str:
    """Reads a key that lies in the home of the server's user."""
    return Path(home, "id_ed25519").read_text()


@attempt("no_foreign_files", judge=appears("home", ".profile"))
def writes_into_the_home(home: str) -> str:
    """Writes a start-up file into the home of the server's user."""
    Path(home, ".profile").write_text("echo planted\n")
    return "written"


@attempt(
    "no_foreign_files",
    judge=reveals("shadow"),
    root_only="the hashes of passwords are root's alone to read",
    unless="there is no /etc/shadow here",
)
def reads_the_hashes_of_passwords() -> str:
    """Reads /etc/shadow."""
    return Path("/etc/shadow").read_text()


@attempt("no_foreign_files", judge=appears("programs", "planted"))
def plants_a_program(programs: str) -> str:
    """Writes a program beside the server's own interpreter, where others would run it."""
    Path(programs, "planted").write_text("#!/bin/sh\n")
    return "written"


@attempt("no_foreign_files")
def lists_the_sandboxes_of_others(victim_workspace: str, victim_sandbox: str) -> str:
    """Finds the ids of others' sandboxes in the folders above its own."""
    folders = [*Path.cwd().parents, *Path(victim_workspace).parents]
    for folder in folders:
        try:
            if victim_sandbox in os.listdir(folder):
                return str(folder)
        except OSError:
            continue
    raise Stopped(f"none of {len(folders)} folders has it")


@attempt("no_foreign_files", judge=reveals("victim_file"))
def reads_another_contexts_workspace(victim_workspace: str) -> str:
    """Reads a file in the workspace of another context."""
    return Path(victim_workspace, "secret.txt").read_text()


@attempt("no_foreign_files", judge=appears_to_the_victim)
def writes_into_another_contexts_workspace(victim_workspace: str) -> str:
    """Writes a file into the workspace of another context."""
    if Path(victim_workspace).samefile("."):
        raise Stopped("the same path is another folder here")
    Path(victim_workspace, "planted").write_text("x")
    return "written"


@attempt("no_foreign_files", judge=reveals("victim_file"))
def links_to_another_contexts_file(victim_workspace: str) -> str:
    """Makes a hard link to a file of another context, and reads it."""
    os.link(Path(victim_workspace, "secret.txt"), "stolen")
    return Path("stolen").read_text()


@attempt("no_foreign_files")
def watches_a_foreign_folder(home: str) -> str:
    """Has the kernel tell of all that happens in the home of the server's user."""
    all_events = 0xFFF
    fd = syscall("inotify_init1", 0)
    return str(syscall("inotify_add_watch", fd, home.encode(), all_events))


@attempt(
    "no_foreign_files",
    judge=reveals("server_key"),
    root_only="the kernel opens handles for the machine's root alone",
)
def opens_a_file_by_its_handle(key_handle: str) -> str:
    """Opens a private key of the server past all paths, by the handle that the kernel knows it by."""
    folder = os.open(".", os.O_RDONLY)
    fd = syscall("open_by_handle_at", folder, bytes.fromhex(key_handle), os.O_RDONLY)
    return os.read(fd, 1000).decode()


@attempt(
    "no_foreign_files",
    root_only="device files are root's",
    unless="there is no device file here",
)
def opens_a_device() -> str:
    """Opens the machine's memory or one of its disks, without reading from it."""
    names = [line.split()[3] for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    for name in ("mem", "kmem", "port", *names):
        try:
            os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK))
        except OSError:
            continue
        return name
    raise Stopped("none can be opened")


@attempt("no_foreign_files", root_only="only root makes device files")
def makes_a_device() -> str:
    """Makes a device file in its workspace, and reads from it."""
    zero = os.makedev(1, 5)
    os.mknod("device", 0o20600, zero)
    with open("device", "rb") as device:
        return str(device.read(1))


@attempt("no_foreign_files")
def runs_a_program_that_makes_it_root(setuid_program: str) -> str:
    """Runs a program that the machine's root has marked as running in root's name."""
    done = subprocess.run([setuid_program, "-u"], capture_output=True, text=True, check=False)
    if done.stdout.strip() != "0":
        raise Stopped(f"uid {done.stdout.strip()} {done.stderr.strip()}")
    return "uid 0"


@attempt("no_foreign_files", root_only="an ordinary user stays one")
def becomes_root() -> str:
    """Takes the uid 0 of the machine back, where it had been."""

    def work() -> str:
        os.setresuid(0, 0, 0)
        mapping = Path("/proc/self/uid_map").read_text().split()
        if mapping != ["0", "0", str(0xFFFFFFFF)]:
            raise Stopped(f"only in a user namespace: {mapping}")
        (line,) = re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
        if not int(line, 16):
            raise Stopped("it is uid 0, and may do nothing that others may not")
        return "uid 0"

    return in_child(work)


@attempt(ALWAYS, then="delete", judge=key_is_gone, proof=lambda stage: stage.key.unlink())
def has_the_delete_follow_a_link(server_key: str) -> str:
    """Leaves links to the server's keys in folders that nobody may enter, for the delete to follow."""
    folder = os.path.dirname(server_key)
    os.mkdir("locked")
    os.symlink(folder, "link")
    os.symlink(folder, "locked/link")
    os.symlink(server_key, "locked/file")
    os.chmod("locked", 0)
    return "left"
