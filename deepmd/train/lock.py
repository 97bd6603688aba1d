# SPDX-License-Identifier: LGPL-3.0-or-later
"""Lock files: one training per folder, on shared file systems, too.

Only what holds everywhere is relied upon: a hard link is made in one step (or, where there are
none, a file that must not exist), and a time of modification can be set. Whether the process of a
lock lives is asked of the system where it runs on this one; else its lock must have been touched
lately. Times are those of the file system, so clocks need not agree.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from deepmd.base.errors import InputError

log = logging.getLogger(__name__)

#: A lock is touched this often [s] …
BEAT = 20.0
#: … and a process elsewhere counts as dead when its lock was not touched for so long [s].
LEASE = 120.0


class Lock:
    """A lock file that is touched while it is held.

    Parameters
    ----------
    path : path
        Its folder is made if it is not there.
    what : str
        What is locked, for messages.
    """

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        self.path, self.what = Path(path).absolute(), what
        self._text = ""
        self._pid = -1
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Take the lock; one that a dead process left is taken over.

        Raises
        ------
        InputError
            If a living process holds it, or the folder cannot be written.
        """
        self._pid = os.getpid()
        about = {**identity(self._pid), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._text = json.dumps({**about, "token": secrets.token_hex(8)})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while not self._make():
                self._displace()
            self._remove_fragments()
        except OSError as error:
            raise InputError(
                f"a training cannot write here ({error.strerror})",
                where=self.path.parent,
                fix="free or repair the disk, or use a folder that can be written",
            ) from error
        self._end.clear()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Remove the lock, if it is still that of this process."""
        self._end.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join()
            if self._read() == self._text:
                self.path.unlink(missing_ok=True)
        self._thread = None

    def check(self) -> None:
        """Make sure that nobody else took the lock, as after a suspension of this process.

        Raises
        ------
        InputError
        """
        found = self._read()
        if found is None:
            found = self._text if self._make() else self._read()
        if found != self._text:
            raise InputError(
                f"{_holder(_parsed(found))} has taken over {self.what}",
                where=self.path.parent,
                fix="go on from its checkpoints; this process was suspended, or the lock removed",
            )

    # -- the file -----------------------------------------------------------------------------

    def _make(self) -> bool:
        """Make the lock file with its contents, in one step; return whether there was none."""
        fragment = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.tmp")
        try:
            fragment.write_text(self._text, encoding="utf-8")
            try:
                os.link(fragment, self.path)
            except FileExistsError:
                return False
            except FileNotFoundError:  # another process cleaned up; that one has the lock
                return False
            except OSError:  # no hard links here
                return self._make_exclusively()
            return True
        finally:
            fragment.unlink(missing_ok=True)

    def _make_exclusively(self) -> bool:
        try:
            with self.path.open("x", encoding="utf-8") as file:
                file.write(self._text)
        except FileExistsError:
            return False
        return True

    def _remove_fragments(self) -> None:
        """Remove what processes left that were killed while they made a lock."""
        now = self.path.stat().st_mtime
        for fragment in self.path.parent.glob(f"{self.path.name}.*.tmp"):
            with contextlib.suppress(OSError):
                if now - fragment.stat().st_mtime > LEASE:
                    fragment.unlink()

    def _read(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _displace(self) -> None:
        """Remove the lock of a dead process, or raise InputError."""
        found = self._read()
        if found is None:
            return
        about = _parsed(found)
        if self._alive(about):
            raise InputError(
                f"{self.what} belongs to {_holder(about)}, which is running",
                where=self.path.parent,
                fix="train in another folder, or stop it first",
            )
        aside = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.tmp")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if aside.read_text(encoding="utf-8", errors="replace") != found:
            # Another process was faster; this is its lock.
            with contextlib.suppress(OSError):
                os.link(aside, self.path)
        else:
            log.info("%s: %s is gone; its lock is taken over", self.path.parent, _holder(about))
        aside.unlink(missing_ok=True)

    def _alive(self, about: dict[str, Any]) -> bool:
        """Whether the process of a lock lives; of one elsewhere, wait for a sign of life."""
        here = identity(os.getpid())
        if all(about.get(k) == here[k] for k in ("host", "boot", "space")) and here["boot"]:
            pid = about.get("pid")
            began = begin_of(pid) if isinstance(pid, int) else None
            return began is not None and began == about.get("begin")
        first, waited = self._age(), False
        while (age := self._age()) < LEASE:
            if age < first:  # it was touched while we looked
                return True
            if not waited:
                waited = True
                log.info(
                    "%s: %s cannot be asked from here; waiting up to %.0f s for a sign of life",
                    self.path.parent,
                    _holder(about),
                    LEASE - age,
                )
            first = age
            time.sleep(min(1.0, LEASE / 50))
        return False

    def _age(self) -> float:
        """Seconds since the lock was touched, by the clock of the file system."""
        probe = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.tmp")
        try:
            probe.touch()
            with self.path.open("rb") as file:  # opening refreshes what a client has cached
                return probe.stat().st_mtime - os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return LEASE
        finally:
            probe.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            with contextlib.suppress(OSError):
                if self._read() == self._text:
                    os.utime(self.path)


def identity(pid: int) -> dict[str, Any]:
    """Return what tells one process from all others, as long as its computer runs."""
    return {
        "host": socket.gethostname(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id") or _boot_elsewhere(),
        "space": _link("/proc/self/ns/pid"),
        "pid": pid,
        "begin": begin_of(pid),
    }


def begin_of(pid: int) -> str | None:
    """Return when a process of this computer began, None if there is none or it is a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):  # of another user
        pass
    line = _first_line(f"/proc/{pid}/stat")
    if line:
        words = line.rpartition(")")[2].split()  # the name before may hold anything
        return None if words[0] in "ZX" else words[19]
    return _ps(pid)


def _ps(pid: int) -> str | None:
    """Return the begin of a process where there is no /proc."""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _boot_elsewhere() -> str:
    """Return the boot time where there is no /proc; empty if it is not known."""
    try:
        command = ["sysctl", "-n", "kern.boottime"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        about = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _holder(about: dict[str, Any]) -> str:
    if not about:
        return "another training"
    return f"process {about.get('pid')} on {about.get('host')} (since {about.get('since')})"
