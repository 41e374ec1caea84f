"""Runs coroutine handlers: many calls at a time, on one asyncio loop."""

import asyncio
import collections
import inspect
import json
import os
import threading

from . import frames, logs, outcome
from .context import Invocation
from .current import current_invocation, enter_task
from .errors import DataError
from .values import to_json

MAX_OPEN_CALLS = 256


class CoroutineLoop(asyncio.Protocol):
    """Reads frames and runs handlers until the worker closes the socket."""

    def __init__(self, link, function, handler):
        self._link = link
        self._function = function
        self._handler = handler
        self._data = CoroutineData(self)
        self._reader = link.reader
        self._tasks = {}
        self._out = []
        self._draining = False
        self._transport = None
        self._loop = None
        self._main = threading.get_ident()

    def serve(self):
        """Returns never: the process ends with the socket."""
        asyncio.run(self._serve())

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._stray)
        self._link.socket.setblocking(False)
        await self._loop.connect_accepted_socket(lambda: self, self._link.socket)
        await self._loop.create_future()

    def connection_made(self, transport):
        self._transport = transport
        # What came together with the order to load.
        self._take(self._reader.push(b""))

    def connection_lost(self, _error):
        os._exit(0)

    def data_received(self, data):
        self._take(self._reader.push(data))

    def _take(self, received):
        for kind, stream, meta, body in received:
            if kind == frames.INVOKE:
                self._invoke(stream, meta, body)
            elif kind == frames.CALL_RESULT:
                self._data.settle(meta, body)
            elif kind == frames.CANCEL:
                self._cancel(stream, bool(meta))
            elif kind == frames.PING:
                self.send(frames.PONG, stream, b"", b"")
            elif kind == frames.DRAIN:
                self._draining = True
                self._leave_when_done()
            else:
                raise ValueError(f"frame type {kind} is not one that a worker sends")

    def send(self, kind, stream, meta, body):
        """Queues a frame, from any thread; it leaves at the end of this turn of the loop."""
        frame = frames.encode(kind, stream, meta, body)
        if threading.get_ident() != self._main:
            self._loop.call_soon_threadsafe(self._queue, frame)
        elif self._loop is None:
            self._link.send_bytes(frame)
        else:
            self._queue(frame)

    def _queue(self, frame):
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    def _flush(self):
        if self._out:
            out, self._out = self._out, []
            self._transport.write(b"".join(out))

    def _invoke(self, stream, meta, body):
        try:
            value = json.loads(body) if body else None
        except ValueError as error:
            self._end(stream, outcome.not_json(error))
            return
        invocation = Invocation(stream, meta, value, self._function, self._data)
        problems = self._handler.problems(invocation.input)
        if problems:
            invocation.ended = True
            self._end(stream, outcome.invalid_input(invocation, problems))
            return
        self._tasks[stream] = (invocation, self._loop.create_task(self._run(invocation)))

    async def _run(self, invocation):
        enter_task(invocation)
        try:
            end = outcome.succeeded(invocation, await self._handler.run(invocation))
        except BaseException as raised:
            end = outcome.failed(invocation, raised)
        logs.flush()
        invocation.ended = True
        self._tasks.pop(invocation.id, None)
        self._end(invocation.id, end)

    def _end(self, stream, end):
        kind, meta, body = end
        self.send(kind, stream, meta, body)
        self._leave_when_done()

    def _cancel(self, stream, abandoned):
        invocation, task = self._tasks.get(stream, (None, None))
        if invocation is None:
            return
        invocation.cancelled = True
        # Whose caller is gone may go on up to its deadline.
        if not abandoned:
            task.cancel("the call has reached its deadline")

    def _leave_when_done(self):
        if self._draining and not self._tasks:
            self._flush()
            if self._transport.get_write_buffer_size() == 0:
                os._exit(0)
            self._transport.close()

    @staticmethod
    def _stray(_loop, context):
        error = context.get("exception")
        words = f"{type(error).__name__}: {error}" if error is not None else context.get("message", "")
        logs.record(current_invocation(), "error", f"nobody awaited this: {words}")


class CoroutineData:
    """`ctx.db` of coroutines: every call is awaited."""

    def __init__(self, loop):
        self._loop = loop
        self._open = {}
        self._waiting = collections.deque()
        self._next = 1

    def run(self, work):
        """The database's coroutine itself: the handler awaits it."""
        return work

    async def call(self, invocation, op, collection, args):
        if invocation.ended:
            raise DataError.ended()
        answered = asyncio.get_running_loop().create_future()
        call = (invocation.id, op, collection, to_json(args), answered)
        if len(self._open) < MAX_OPEN_CALLS:
            self._start(call)
        else:
            self._waiting.append(call)
        meta, body = await answered
        error = json.loads(meta).get("error")
        if error is not None:
            raise DataError(error)
        return json.loads(body)

    def _start(self, call):
        stream, op, collection, body, answered = call
        number = self._next
        self._next += 1
        self._open[number] = answered
        meta = json.dumps({"id": number, "op": op, "collection": collection}).encode()
        self._loop.send(frames.CALL, stream, meta, body)

    def settle(self, meta, body):
        """Hands an answer to whoever waits for it."""
        answered = self._open.pop(json.loads(meta)["id"], None)
        if self._waiting:
            self._start(self._waiting.popleft())
        if answered is not None and not answered.done():
            answered.set_result((meta, body))

    async def pause(self, seconds):
        await asyncio.sleep(seconds)

    async def result_of(self, value):
        return await value if inspect.isawaitable(value) else value
