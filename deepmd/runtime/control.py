# SPDX-License-Identifier: LGPL-3.0-or-later
"""Messages between the processes of a training, and the end of all of them when one ends.

Sums of arrays go through the framework. Text and arrays at the start, and the news that a process
failed, go through a star of plain connections with the first process in the middle. The system
closes the connections of a process that is killed, so that the others know at once, whatever they
are waiting for; a computer that vanished is found by probes of the system (TCP keepalive). A process
that is stopped or busy stays connected, however long it takes.
"""

import contextlib
import io
import json
import logging
import os
import queue
import secrets
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError

log = logging.getLogger(__name__)

#: Until all processes have started [s].
START = 300.0
#: From the news of a failure until a process that waits for the others is ended [s].
GRACE = 10.0
#: Waiting for the news, where the framework found out first [s].
NEWS = 5.0
_DATA, _FAILED, _BYE = b"D", b"F", b"B"
_HEAD = struct.Struct("!cQ")
_HELLO = struct.Struct("!32sI")
#: Largest message that is read [bytes]; a model has less.
_LARGEST = 1 << 36


class RankLostError(InputError):
    """Another process of the training failed; the text says which, and why."""


class Control:
    """Connections of all processes of a training with the first one.

    Parameters
    ----------
    rank, size : int
    exchange : function
        Gives the bytes that the first process passes to all; the others pass None.
    address : str, optional
        Name of the first process's computer, as the others know it.

    Attributes
    ----------
    reason : str or None
        What happened to another process.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        exchange: Callable[[bytes | None], bytes],
        address: str | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self.reason: str | None = None
        self._first_is_lost = False
        self._failed, self._ended = threading.Event(), threading.Event()
        self._closing = False
        self._timer: threading.Timer | None = None
        self._left: set[int] = set()  # processes that ended in order
        try:
            connect = self._accept if rank == 0 else self._connect
            self._sockets: dict[int, socket.socket] = connect(exchange, address)
        except (OSError, struct.error) as error:
            raise InputError(
                f"process {rank} of {size} cannot reach the others ({error})",
                where="several processes",
                fix="start them together, with MASTER_ADDR as the name of the first computer",
            ) from error
        self._send_lock = {peer: threading.Lock() for peer in self._sockets}
        self._received: dict[int, queue.SimpleQueue[bytes | None]] = {
            peer: queue.SimpleQueue() for peer in self._sockets
        }
        for s in self._sockets.values():
            _keep_alive(s)
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)
        self._thread.start()

    # -- connections --------------------------------------------------------------------------

    def _accept(
        self, exchange: Callable[[bytes | None], bytes], address: str | None
    ) -> dict[int, socket.socket]:
        local = address in ("localhost", "127.0.0.1")
        server = socket.create_server(("127.0.0.1" if local else "", 0), backlog=self.size)
        with server:
            token = secrets.token_bytes(32)
            hosts = [h for h in (address, socket.gethostname()) if h]
            about = {"hosts": hosts, "port": server.getsockname()[1], "token": token.hex()}
            exchange(json.dumps(about).encode())
            out: dict[int, socket.socket] = {}
            end = time.monotonic() + START
            while len(out) < self.size - 1:
                server.settimeout(max(end - time.monotonic(), 0.001))
                peer, _ = server.accept()
                peer.settimeout(10.0)
                with contextlib.suppress(OSError):
                    given, rank = _HELLO.unpack(_read(peer, _HELLO.size))
                    if secrets.compare_digest(given, token) and 0 < rank < self.size:
                        peer.settimeout(None)
                        out[rank] = peer
                        continue
                peer.close()  # some other program
        return out

    def _connect(
        self, exchange: Callable[[bytes | None], bytes], _address: str | None
    ) -> dict[int, socket.socket]:
        about = json.loads(exchange(None))
        failed: OSError = OSError("no address")
        for host in about["hosts"]:
            try:
                first = socket.create_connection((host, about["port"]), timeout=START)
            except OSError as error:
                failed = error
                continue
            first.settimeout(None)
            first.sendall(_HELLO.pack(bytes.fromhex(about["token"]), self.rank))
            return {0: first}
        raise failed

    def _send(self, peer: int, kind: bytes, payload: bytes = b"") -> None:
        with self._send_lock[peer]:
            self._sockets[peer].sendall(_HEAD.pack(kind, len(payload)) + payload)

    def _listen(self) -> None:
        """Read messages until all connections are closed (in a thread)."""
        selector = selectors.DefaultSelector()
        for peer, connection in self._sockets.items():
            selector.register(connection, selectors.EVENT_READ, peer)
        while selector.get_map():
            for key, _ in selector.select():
                try:
                    kind, size = _HEAD.unpack(_read(key.fileobj, _HEAD.size))
                    if size > _LARGEST:
                        raise OSError("a message is too large")
                    payload = _read(key.fileobj, size)
                except (OSError, ValueError, struct.error):
                    selector.unregister(key.fileobj)
                    self._lost(key.data)
                    continue
                self._take(key.data, kind, payload)

    def _take(self, peer: int, kind: bytes, payload: bytes) -> None:
        if kind == _DATA:
            self._received[peer].put(payload)
        elif kind == _BYE:
            self._left.add(peer)
            if len(self._left) == len(self._sockets):
                self._ended.set()
        elif kind == _FAILED:
            self._left.add(peer)
            self._fail(payload.decode("utf-8", "replace"), without=peer)

    def _lost(self, peer: int) -> None:
        if self._closing or peer in self._left:
            return
        self._first_is_lost = peer == 0
        self._fail(
            f"process {peer} of {self.size} ended without a message (killed, or its computer "
            "failed)",
            without=peer,
        )

    def _fail(self, text: str, without: int) -> None:
        """Note that another process failed, tell the others, and let this one end."""
        if self.reason is not None or self._closing:
            return
        self.reason = text
        for peer in self._sockets:
            if self.rank == 0 and peer != without:
                with contextlib.suppress(OSError):
                    self._send(peer, _FAILED, text.encode())
        self._failed.set()
        self._ended.set()
        for received in self._received.values():
            received.put(None)
        self._timer = threading.Timer(GRACE, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        """End a process that still waits for one that is not there."""
        if self._closing:
            return
        if self.speaks:
            sys.stdout.flush()
            print(f"dp: {self.reason}", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)

    # -- what the training uses ---------------------------------------------------------------

    @property
    def speaks(self) -> bool:
        """Whether this process prints why the training ends: one of all does."""
        return self.rank == (1 if self._first_is_lost else 0)

    def broadcast(self, text: str = "", **arrays: Any) -> tuple[str, dict[str, np.ndarray]]:
        """Return the text and the arrays that the first process passes, on all processes.

        Raises
        ------
        RankLostError
            If the first process failed, or this one is told that another one did.
        """
        if self.rank > 0:
            return _unpacked(self._receive(0))
        payload = _packed(text, arrays)
        for peer in self._sockets:
            try:
                self._send(peer, _DATA, payload)
            except OSError as error:
                raise self.lost(error) from error
        return _unpacked(payload)

    def gather(self, text: str) -> list[str]:
        """Return the texts of all processes on the first one; nothing on the others."""
        if self.rank > 0:
            try:
                self._send(0, _DATA, text.encode())
            except OSError as error:
                raise self.lost(error) from error
            return []
        return [text, *(self._receive(k).decode() for k in range(1, self.size))]

    def _receive(self, peer: int) -> bytes:
        payload = self._received[peer].get()
        if payload is None:
            raise RankLostError(self.reason or "another process failed")
        return payload

    def lost(self, error: BaseException) -> BaseException:
        """Return the failure of another process that explains an error here, else the error."""
        self._failed.wait(NEWS)
        return error if self.reason is None else RankLostError(self.reason)

    def report(self, text: str) -> None:
        """Let all processes end because this one failed."""
        if self.reason is not None:
            return
        self._closing = True
        for peer in self._sockets:
            with contextlib.suppress(OSError):
                self._send(peer, _FAILED, text.encode())

    def finish(self) -> None:
        """Wait until all processes are done.

        Raises
        ------
        RankLostError
        """
        try:
            if self.rank > 0:
                self._send(0, _BYE)
                self._ended.wait()
            else:
                self._ended.wait()
                for peer in self._sockets if self.reason is None else ():
                    self._send(peer, _BYE)
        except OSError as error:
            raise self.lost(error) from error
        if self.reason is not None:
            raise RankLostError(self.reason)

    def close(self) -> None:
        """Close the connections."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for s in self._sockets.values():
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        self._thread.join(NEWS)  # it sees the end of every connection
        for s in self._sockets.values():
            s.close()


def _keep_alive(s: socket.socket) -> None:
    """Let the system find out within 20 s that the other computer vanished."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            s.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _read(s: Any, size: int) -> bytes:
    out = bytearray()
    while len(out) < size:
        part = s.recv(min(size - len(out), 1 << 20))
        if not part:
            raise OSError("the connection was closed")
        out += part
    return bytes(out)


def _packed(text: str, arrays: Mapping[str, Any]) -> bytes:
    names = json.dumps([text, *arrays]).encode()
    file = io.BytesIO()
    for value in arrays.values():
        np.save(file, np.asarray(value), allow_pickle=False)
    return struct.pack("!Q", len(names)) + names + file.getvalue()


def _unpacked(payload: bytes) -> tuple[str, dict[str, np.ndarray]]:
    (size,) = struct.unpack_from("!Q", payload)
    names: Sequence[str] = json.loads(payload[8 : 8 + size])
    file = io.BytesIO(payload[8 + size :])
    return names[0], {name: np.load(file, allow_pickle=False) for name in names[1:]}
