"""Frames between this instance and its worker (docs/adr/0003-function-frames.md).

    u32 length of what follows | u8 type | u64 stream | u32 length of meta | meta (JSON) | body (raw)
"""

import struct

HELLO, LOAD, READY, INVOKE, RESULT, ERROR, CALL, CALL_RESULT, LOG, CANCEL, PING, PONG, DRAIN = range(1, 14)

_HEADER = struct.Struct("<IBQI")
MAX_FRAME = 64 * 1024 * 1024


def encode(kind, stream, meta=b"", body=b""):
    """One frame as bytes."""
    return _HEADER.pack(_HEADER.size - 4 + len(meta) + len(body), kind, stream, len(meta)) + meta + body


class Reader:
    """Cuts the byte stream into frames."""

    def __init__(self):
        self._held = bytearray()

    def push(self, data):
        """The frames that are whole now, as (type, stream, meta, body). Raises ValueError outside the protocol."""
        held = self._held
        if held:
            held += data
            data = held
        frames, at, length = [], 0, len(data)
        while length - at >= _HEADER.size:
            size, kind, stream, meta = _HEADER.unpack_from(data, at)
            if not _HEADER.size - 4 <= size <= MAX_FRAME:
                raise ValueError(f"a frame of {size} bytes is outside the protocol")
            end = at + 4 + size
            if end > length:
                break
            body = at + _HEADER.size + meta
            frames.append((kind, stream, bytes(data[at + _HEADER.size : body]), bytes(data[body:end])))
            at = end
        if data is held:
            del held[:at]
        elif at < length:
            held += data[at:]
        return frames
