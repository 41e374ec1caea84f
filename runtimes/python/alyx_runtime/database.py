"""`ctx.db`: collections as attributes, each method one call to the gateway.

Plain handlers get results, coroutines get awaitables; both are written once here, as coroutines that wait only for
calls. A plain handler drives them itself: each `await` of theirs is a call whose result it waits for.
"""

import random

from .errors import DataError

DELETED_AT_ONCE = 500
# Times that a transaction's work is run before the conflict is raised; first pause and longest in seconds.
ATTEMPTS = 10
PAUSE = 0.002
LONGEST_PAUSE = 0.1


class Database:
    """The collections, each made when it is first named."""

    def __init__(self, invocation, data, within=None):
        self._invocation = invocation
        self._data = data
        self._within = within

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name):
        return Collection(self, name)

    def collection(self, name):
        """The collection of that name, also where it is no Python name or a method's."""
        return Collection(self, name)

    def transaction(self, work):
        """Runs `work(tx)`: its writes are carried out together when it returns, if nothing it has read was changed
        meanwhile. If something was, `work` runs again from the start, up to ten times."""
        if self._within is not None:
            raise TypeError("a transaction has no transactions of its own: use the one that is open")
        if not callable(work):
            raise TypeError("ctx.db.transaction takes a function: ctx.db.transaction(lambda tx: …)")
        return self._data.run(self._atomically(work))

    async def _atomically(self, work):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(work)
            except DataError as error:
                if error.code != "TRANSACTION_CONFLICT" or attempt == ATTEMPTS:
                    raise
            longest = min(PAUSE * 2**attempt, LONGEST_PAUSE)
            await self._data.pause(random.random() * longest)

    async def _once(self, work):
        tx = (await self._call("begin", "", {}))["tx"]
        db = Database(self._invocation, self._data, within=tx)
        try:
            result = await self._data.result_of(work(db))
        except BaseException:
            # What was raised is what matters, whether or not there is anything left to roll back.
            try:
                await self._call("rollback", "", {"tx": tx})
            except DataError:
                pass
            raise
        await self._call("commit", "", {"tx": tx})
        return result

    async def _call(self, op, collection, args):
        if self._within is not None:
            args = {"tx": self._within, "op": op, "args": args}
            op = "within"
        return await self._data.call(self._invocation, op, collection, args)

    def _run(self, work):
        return self._data.run(work)


class Collection:
    """One collection's documents, which are dicts."""

    def __init__(self, db, name):
        self._db = db
        self._name = name

    def _call(self, op, args):
        return self._db._call(op, self._name, args)

    def list(self, query=None, **named):
        """`{docs, total, …}`; takes filter, sort, limit, offset and what else a list in REST takes."""
        return self._db._run(self._list(_query(query, named)))

    def find(self, query=None, **named):
        """As `list`, with the documents also by the name `data`."""
        return self._db._run(self._find(_query(query, named)))

    def aggregate(self, question=None, **named):
        return self._db._run(self._call("aggregate", _query(question, named)))

    def get(self, id):
        """The document, or None."""
        return self._db._run(self._call("get", {"id": self._needed(id, "get")}))

    def find_one(self, which=None, **named):
        """The document of that id, or the first that a query finds, or None."""
        if which is not None and not isinstance(which, dict):
            return self.get(which)
        return self._db._run(self._first(_query(which, named)))

    def create(self, data=None, **named):
        return self._db._run(self._call("create", {"data": _query(data, named)}))

    def update(self, id, data=None, **named):
        return self._db._run(self._call("update", {"id": self._needed(id, "update"), "data": _query(data, named)}))

    def upsert(self, data=None, **named):
        return self._db._run(self._call("upsert", {"data": _query(data, named)}))

    def delete(self, id):
        return self._db._run(self._call("delete", {"id": self._needed(id, "delete")}))

    def delete_many(self, query=None, **named):
        """Deletes what the filter selects, in steps of 500 that are a transaction each; `{"deleted": count}`."""
        return self._db._run(self._delete_many(_query(query, named)))

    findOne = find_one
    deleteMany = delete_many

    async def _list(self, query):
        return await self._call("list", query)

    async def _find(self, query):
        page = await self._list(query)
        return {**page, "data": page["docs"]}

    async def _first(self, query):
        docs = (await self._list({**query, "limit": 1}))["docs"]
        return docs[0] if docs else None

    async def _delete_many(self, query):
        deleted = 0
        while True:
            if self._db._within is None:
                step = await self._db._atomically(lambda tx: tx._run(tx[self._name]._delete_step(query)))
            else:
                step = await self._delete_step(query)
            deleted += step
            if step < DELETED_AT_ONCE:
                return {"deleted": deleted}

    async def _delete_step(self, query):
        page = await self._list({"filter": query.get("filter"), "limit": DELETED_AT_ONCE, "fields": []})
        for doc in page["docs"]:
            # Without further fields, a document is its key.
            await self._call("delete", {"id": next(iter(doc.values()))})
        return len(page["docs"])

    def _needed(self, id, method):
        if id is None:
            raise TypeError(f"ctx.db.{self._name}.{method}: the id is None")
        return id


def _query(query, named):
    if query is not None and not isinstance(query, dict):
        raise TypeError(f"ctx.db takes dicts or keywords here, not {type(query).__name__}")
    return {**(query or {}), **named}
