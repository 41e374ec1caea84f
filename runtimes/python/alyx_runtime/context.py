"""One invocation and what its handler sees of it."""

import json

from .database import Database
from .logs import LogBudget, Logger


class Invocation:
    """A call from its arrival to its end."""

    def __init__(self, stream, meta, value, function, data):
        self.id = stream
        self.function = function
        self.input = {} if value is None else value
        self.ended = False
        self.cancelled = False
        self.replied = False
        self.reply = None
        self.status = 200
        self.log_budget = LogBudget()
        self._meta = meta
        self._data = data
        self._context = None

    @property
    def meta(self):
        if isinstance(self._meta, bytes):
            self._meta = json.loads(self._meta)
        return self._meta

    @property
    def context(self):
        if self._context is None:
            self._context = Context(self, Database(self, self._data))
        return self._context


class Context:
    """What a handler is given: `input`, `auth`, `env`, `log`, `db`, and `json`, `status`, `send` for `(req, res)`.

    Reads as its input too: `ctx["name"]`, `ctx.get("name")`, `"name" in ctx`.
    """

    def __init__(self, invocation, db):
        self._invocation = invocation
        self.db = db
        self.log = Logger(invocation)
        self.env = invocation.function.env

    @property
    def input(self):
        return self._invocation.input

    body = input

    @property
    def auth(self):
        return self._invocation.meta.get("auth")

    @property
    def request_id(self):
        return self._invocation.meta.get("request_id")

    @property
    def traceparent(self):
        """The W3C `traceparent` of the call; None where it belongs to no trace."""
        return self._invocation.meta.get("traceparent")

    @property
    def function_name(self):
        return self._invocation.function.name

    @property
    def cancelled(self):
        """Whether the call has reached its deadline or its caller is gone."""
        return self._invocation.cancelled

    def status(self, code):
        self._invocation.status = int(code)
        return self

    def json(self, body, status=None):
        self._invocation.replied = True
        self._invocation.reply = body
        if status is not None:
            self._invocation.status = int(status)

    send = json
    end = json

    def __getitem__(self, key):
        return self.input[key]

    def __contains__(self, key):
        return key in self.input

    def __iter__(self):
        return iter(self.input)

    def __len__(self):
        return len(self.input)

    def keys(self):
        return self.input.keys()

    def get(self, key, default=None):
        return self.input.get(key, default) if isinstance(self.input, dict) else default
