"""Runs plain handlers: one call at a time, on the main thread.

A handler that computes leaves no event loop that could hear of its deadline, so the kernel tells: SIGIO arrives with
each frame, and its handler, which Python runs between two steps of user code, answers pings and raises
CancelledError in the call that is to end. In the runtime's own steps that waits until they are done.
"""

import collections
import fcntl
import json
import os
import signal
import threading
import time

from . import frames, logs, outcome
from .context import Invocation
from .current import CancelledError, run_alone
from .errors import DataError
from .values import to_json


class PlainLoop:
    """Reads frames and runs handlers until the worker closes the socket."""

    def __init__(self, link, function, handler):
        self._link = link
        self._function = function
        self._handler = handler
        self._main = threading.get_ident()
        self._waiting = collections.deque()
        self._data = PlainData(self)
        self._current = None
        self._draining = False
        self._calls = {}
        self._next_call = 1
        # Steps of the runtime's own under way on the main thread, and whether a signal came during one.
        self._inside = 1
        self._missed = False

    def serve(self):
        """Returns never: the process ends with the socket."""
        signal.signal(signal.SIGIO, self._on_signal)
        descriptor = self._link.fileno()
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
        while True:
            while self._waiting:
                self._invoke(*self._waiting.popleft())
            if self._draining:
                os._exit(0)
            self._pump(block=True)

    def send(self, kind, stream, meta, body):
        """Sends a frame, from any thread."""
        if threading.get_ident() != self._main:
            self._link.send(kind, stream, meta, body)
            return
        self._inside += 1
        try:
            self._link.send(kind, stream, meta, body)
        finally:
            self._leave()

    def _invoke(self, stream, meta, body):
        try:
            value = json.loads(body) if body else None
        except ValueError as error:
            self._link.send(stream=stream, **_frame(outcome.not_json(error)))
            return
        invocation = Invocation(stream, meta, value, self._function, self._data)
        problems = self._handler.problems(invocation.input)
        if problems:
            end = outcome.invalid_input(invocation, problems)
        else:
            self._current = invocation
            run_alone(invocation)
            end = self._end_of(invocation)
            logs.flush()
            run_alone(None)
            self._current = None
        invocation.ended = True
        self._link.send(stream=stream, **_frame(end))

    def _end_of(self, invocation):
        try:
            try:
                self._inside = 0
                self._on_signal()
                returned = self._handler.run(invocation)
            finally:
                self._inside = 1
            if hasattr(returned, "__await__"):
                raise TypeError("the handler returned something to await: write `async def handler`")
            return outcome.succeeded(invocation, returned)
        except BaseException as raised:
            # A cancellation may have hit the very step that closes the handler's run.
            self._inside = 1
            return outcome.failed(invocation, raised)

    def _leave(self):
        self._inside -= 1
        if self._inside == 0 and self._missed:
            self._on_signal()

    def _on_signal(self, *_):
        if self._inside > 0:
            self._missed = True
            return
        self._inside = 1
        self._missed = False
        try:
            self._pump(block=False)
        finally:
            self._inside = 0
        self._raise_if_cancelled(self._current)

    @staticmethod
    def _raise_if_cancelled(invocation):
        if invocation is not None and invocation.cancelled == "deadline":
            # Once: what cleans up may go on.
            invocation.cancelled = True
            raise CancelledError("the call has reached its deadline")

    def _pump(self, block):
        for kind, stream, meta, body in self._link.receive(block):
            if kind == frames.INVOKE:
                self._waiting.append((stream, meta, body))
            elif kind == frames.CALL_RESULT:
                self._settle(meta, body)
            elif kind == frames.CANCEL:
                if self._current is not None and self._current.id == stream:
                    # With a word, the caller is gone; without one, time is up.
                    self._current.cancelled = True if meta else "deadline"
            elif kind == frames.PING:
                self._link.send(frames.PONG, stream)
            elif kind == frames.DRAIN:
                self._draining = True
            else:
                raise ValueError(f"frame type {kind} is not one that a worker sends")

    def call(self, invocation, op, collection, args):
        """Calls the gateway and waits for its answer, from any thread."""
        if invocation.ended:
            raise DataError.ended()
        body = to_json(args)
        call = _Call()
        on_main = threading.get_ident() == self._main
        if on_main:
            self._inside += 1
        try:
            with self._link.lock:
                number = self._next_call
                self._next_call += 1
                self._calls[number] = call
            meta = json.dumps({"id": number, "op": op, "collection": collection}).encode()
            self._link.send(frames.CALL, invocation.id, meta, body)
            if on_main:
                while call.told is None:
                    self._pump(block=True)
                    self._raise_if_cancelled(invocation)
            else:
                call.settled.wait()
        finally:
            if on_main:
                self._leave()
        meta, body = call.told
        error = json.loads(meta).get("error")
        if error is not None:
            raise DataError(error)
        return json.loads(body)

    def _settle(self, meta, body):
        call = self._calls.pop(json.loads(meta)["id"], None)
        if call is not None:
            call.told = (meta, body)
            call.settled.set()


class PlainData:
    """`ctx.db` of plain handlers: whoever calls waits."""

    def __init__(self, loop):
        self._loop = loop

    def run(self, work):
        """Drives one of the database's coroutines to its end."""
        try:
            request = work.send(None)
            while True:
                try:
                    result = request.perform()
                except BaseException as raised:
                    request = work.throw(raised)
                else:
                    request = work.send(result)
        except StopIteration as end:
            return end.value

    async def call(self, invocation, op, collection, args):
        return await _Request(lambda: self._loop.call(invocation, op, collection, args))

    async def pause(self, seconds):
        await _Request(lambda: time.sleep(seconds))

    async def result_of(self, value):
        return value


class _Call:
    """One call to the gateway and its answer."""

    def __init__(self):
        self.told = None
        self.settled = threading.Event()


class _Request:
    """What a coroutine of the runtime's waits for, done by whoever drives it."""

    def __init__(self, perform):
        self.perform = perform

    def __await__(self):
        return (yield self)


def _frame(end):
    kind, meta, body = end
    return {"kind": kind, "meta": meta, "body": body}
