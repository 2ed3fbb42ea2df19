"""Files in the working directory and in the temporary one, and what of the machine anybody may read."""

from __future__ import annotations

from security.chore import chore


@chore()
def keeps_a_database() -> None:
    """Keeps a SQLite database in its working directory."""
    import sqlite3

    with sqlite3.connect("data.db") as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table t (n integer)")
        database.executemany("insert into t values (?)", [(n,) for n in range(100)])
        assert database.execute("select sum(n) from t").fetchone() == (4950,)


@chore()
def writes_and_reads_files() -> None:
    """Writes, renames, lists, reads and removes files in its working directory."""
    import shutil
    from pathlib import Path

    Path("folder/inner").mkdir(parents=True)
    Path("folder/a.txt").write_text("text")
    Path("folder/a.txt").rename("folder/inner/b.txt")
    Path("link").symlink_to("folder/inner")
    assert [each.name for each in Path("link").iterdir()] == ["b.txt"]
    assert Path("link/b.txt").read_text() == "text"
    Path("link/b.txt").chmod(0o600)
    shutil.copytree("folder", "copy")
    shutil.rmtree("folder")
    assert Path("copy/inner/b.txt").exists()


@chore()
def maps_a_file() -> None:
    """Maps a file into memory, locks it, and sees what it has written."""
    import fcntl
    import mmap
    from pathlib import Path

    Path("mapped").write_bytes(bytes(8192))
    with Path("mapped").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        fcntl.flock(file, fcntl.LOCK_EX)
        memory[:5] = b"hello"
        memory.flush()
        assert file.read(5) == b"hello"


@chore()
def takes_temporary_files() -> None:
    """Makes temporary files and folders where Python puts them."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
        Path(folder, "y").touch()
        assert Path(file.name).exists()


@chore()
def packs_an_archive() -> None:
    """Packs and unpacks an archive."""
    import shutil
    from pathlib import Path

    Path("in").mkdir()
    Path("in/file").write_text("x")
    shutil.make_archive("packed", "gztar", "in")
    shutil.unpack_archive("packed.tar.gz", "out")
    assert Path("out/file").read_text() == "x"


@chore()
def imports_its_own_module() -> None:
    """Writes a module into its working directory, and imports it."""
    import importlib
    from pathlib import Path

    Path("of_my_own.py").write_text("answer = 42")
    importlib.invalidate_caches()
    assert importlib.import_module("of_my_own").answer == 42


@chore()
def knows_users() -> None:
    """Looks up users, groups and its own name."""
    import getpass
    import grp
    import os
    import pwd
    from pathlib import Path

    assert pwd.getpwnam("root").pw_uid == 0
    assert grp.getgrgid(0).gr_name == "root"
    assert "root:" in Path("/etc/passwd").read_text()
    assert getpass.getuser()
    assert os.path.expanduser("~").startswith("/")  # noqa: PTH111


@chore()
def knows_time_zones() -> None:
    """Tells the time in other zones."""
    import datetime
    import time
    import zoneinfo

    noon = datetime.datetime(2024, 7, 1, 12, tzinfo=datetime.UTC)
    assert noon.astimezone(zoneinfo.ZoneInfo("Europe/Paris")).hour == 14
    assert time.localtime()
    assert abs(datetime.datetime.now(datetime.UTC).timestamp() - time.time()) < 60


@chore()
def knows_the_machine() -> None:
    """Asks how many processors there are, how much memory, and what runs here."""
    import os
    import platform
    import resource
    from pathlib import Path

    assert os.cpu_count()
    assert platform.machine()
    assert "MemTotal" in Path("/proc/meminfo").read_text()
    assert str(os.getpid()) in os.listdir("/proc")  # noqa: PTH208
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    assert Path("/proc/self/status").read_text()


@chore()
def knows_localhost() -> None:
    """Resolves localhost."""
    import socket

    assert "127.0.0.1" in {each[4][0] for each in socket.getaddrinfo("localhost", 80)}


@chore()
def reads_random_bytes() -> None:
    """Reads random bytes and zeros from the devices for that."""
    import os
    import secrets
    import uuid
    from pathlib import Path

    with Path("/dev/urandom").open("rb") as random, Path("/dev/zero").open("rb") as zero:
        assert len(random.read(16)) == 16
        assert zero.read(4) == bytes(4)
    Path("/dev/null").write_text("x")
    assert len(os.urandom(8)) == 8
    assert secrets.token_hex(4)
    assert uuid.uuid4()
