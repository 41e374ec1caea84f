"""A Python instance: starts without any user code (a stem), loads one version of one function when told to, then
answers its invocations until the worker closes the socket.

It loads once, holds no credential, and ends with the socket.
"""

import json
import os
import platform
import socket
import threading
import time

from . import checks, context, frames, handlers, logs, outcome  # noqa: F401  (loaded before any function)
from .errors import place_of, stack_of

PROTOCOL = 1


class Function:
    """What all invocations of this instance share."""

    def __init__(self, told):
        self.name = told["name"]
        self.env = dict(told["env"])
        self.root = told["root"]
        self.entrypoint = told["entrypoint"]
        self.max_output = told["max_output"]


class Link:
    """The instance's end of the socket, read by one thread and written by any."""

    def __init__(self):
        # Away from descriptor 0, which every child process of user code would inherit as its input.
        self.socket = socket.socket(fileno=os.dup(0))
        self.socket.set_inheritable(False)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self.socket.setblocking(True)
        self.reader = frames.Reader()
        self.lock = threading.RLock()

    def fileno(self):
        return self.socket.fileno()

    def send(self, kind, stream, meta=b"", body=b""):
        self.send_bytes(frames.encode(kind, stream, meta, body))

    def send_bytes(self, data):
        with self.lock:
            self.socket.sendall(data)

    def receive(self, block):
        """The frames that are there; with `block` at least one. Ends the process where the worker is gone."""
        received = self.reader.push(b"")
        while not (block and received):
            try:
                data = self.socket.recv(1 << 18, 0 if block else socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                os._exit(0)
            received += self.reader.push(data)
        return received


def main():
    link = Link()
    logs.capture(link.send)
    hello = {"protocol": PROTOCOL, "runtime": f"Python {platform.python_version()}"}
    link.send(frames.HELLO, 0, json.dumps(hello).encode())
    function, handler = _load(link)
    # Coroutines need asyncio, which plain handlers need not pay for.
    if handler.is_coroutine:
        from .coroutines import CoroutineLoop as Loop
    else:
        from .plain import PlainLoop as Loop
    loop = Loop(link, function, handler)
    logs.capture(loop.send)
    loop.serve()


def _load(link):
    """Waits for the order to load and carries it out; the handler, or the end of the process."""
    while True:
        for kind, stream, meta, _body in link.receive(block=True):
            if kind == frames.PING:
                link.send(frames.PONG, stream)
            elif kind == frames.DRAIN:
                os._exit(0)
            elif kind == frames.LOAD:
                function = Function(json.loads(meta))
                handler = _loaded(link, function)
                if handler is not None:
                    return function, handler


def _loaded(link, function):
    started = time.perf_counter()
    try:
        os.environ.update(function.env)
        os.chdir(function.root)
        handler = handlers.load(function.root, function.entrypoint)
    except BaseException as error:
        logs.flush()
        told = {"message": place_of(error, function.root), "stack": stack_of(error)}
        link.send(frames.ERROR, 0, json.dumps(told).encode())
        return None
    logs.flush()
    ready = {"load_ms": (time.perf_counter() - started) * 1000}
    if not handler.is_coroutine:
        ready["concurrency"] = 1
    link.send(frames.READY, 0, json.dumps(ready).encode())
    return handler
