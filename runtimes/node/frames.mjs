// Frames between this instance and its worker, over the socket that the worker hands over as descriptor 0.
//
//   u32 length of what follows | u8 type | u64 stream | u32 length of meta | meta (JSON) | body (raw)
//
// Integers are little-endian. A body is JSON text that the worker never parses. What is read or written during
// one turn of the event loop travels in one system call: replies wait for the end of the turn.

import fs from "node:fs";
import net from "node:net";

export const TYPE = Object.freeze({
  HELLO: 1,
  LOAD: 2,
  READY: 3,
  INVOKE: 4,
  RESULT: 5,
  ERROR: 6,
  CALL: 7,
  CALL_RESULT: 8,
  LOG: 9,
  CANCEL: 10,
  PING: 11,
  PONG: 12,
  DRAIN: 13,
});

const SOCKET_FD = 0;
const HEADER = 17;
const CHUNK = 64 * 1024;
const MAX_FRAME = 64 * 1024 * 1024;
const TWO_32 = 4294967296;
// Kept from before user code could replace them.
const { writeSync } = fs;
const { allocUnsafe } = Buffer;
const later = setImmediate;

/** Cuts the byte stream into frames and hands each to `onFrame(type, stream, buffer, meta, body, end)`: offsets
 *  into a buffer that is used again afterwards. */
class Reader {
  #onFrame;
  #held = allocUnsafe(0);
  #length = 0;

  constructor(onFrame) {
    this.#onFrame = onFrame;
  }

  push(chunk, length) {
    if (this.#length === 0) {
      const used = this.#cut(chunk, length);
      if (used < length) {
        this.#hold(chunk, used, length);
      }
      return;
    }
    this.#hold(chunk, 0, length);
    const used = this.#cut(this.#held, this.#length);
    if (used > 0) {
      this.#held.copyWithin(0, used, this.#length);
      this.#length -= used;
    }
  }

  #hold(chunk, from, to) {
    const needed = this.#length + to - from;
    if (needed > this.#held.length) {
      const frame = needed >= 4 && this.#length >= 4 ? this.#held.readUInt32LE(0) + 4 : 0;
      const grown = allocUnsafe(Math.max(needed, Math.min(frame, MAX_FRAME + 4), CHUNK));
      this.#held.copy(grown, 0, 0, this.#length);
      this.#held = grown;
    }
    chunk.copy(this.#held, this.#length, from, to);
    this.#length = needed;
  }

  #cut(buffer, length) {
    let at = 0;
    while (length - at >= HEADER) {
      const size = buffer.readUInt32LE(at);
      if (size < HEADER - 4 || size > MAX_FRAME) {
        throw new Error(`a frame of ${size} bytes is outside the protocol`);
      }
      const end = at + 4 + size;
      if (end > length) {
        break;
      }
      const stream = buffer.readUInt32LE(at + 5) + buffer.readUInt32LE(at + 9) * TWO_32;
      const meta = at + HEADER;
      this.#onFrame(buffer[at + 4], stream, buffer, meta, meta + buffer.readUInt32LE(at + 13), end);
      at = end;
    }
    return at;
  }
}

/** The instance's end of the socket. */
export class Link {
  #socket;
  #out = allocUnsafe(CHUNK);
  #used = 0;
  #scheduled = false;
  #flush = () => {
    this.#scheduled = false;
    this.flush();
  };

  /** `onClose(error?)` is called when the worker is gone, or with what is wrong with what it sent. */
  constructor(onFrame, onClose) {
    const reader = new Reader(onFrame);
    this.#socket = new net.Socket({
      fd: SOCKET_FD,
      readable: true,
      writable: true,
      onread: {
        buffer: allocUnsafe(CHUNK),
        callback: (length, buffer) => {
          try {
            reader.push(buffer, length);
          } catch (error) {
            onClose(error);
          }
          return true;
        },
      },
    });
    this.#socket.on("end", () => onClose());
    this.#socket.on("error", () => onClose());
    this.#socket.resume();
  }

  /** Queues one frame; it leaves at the end of this turn of the event loop. */
  send(type, stream, meta, body) {
    const most = HEADER + (meta.length + body.length) * 3;
    if (most > this.#out.length - this.#used) {
      this.flush();
      if (most > this.#out.length) {
        const single = allocUnsafe(HEADER + Buffer.byteLength(meta) + Buffer.byteLength(body));
        this.#write(single, encode(single, 0, type, stream, meta, body));
        return;
      }
    }
    this.#used = encode(this.#out, this.#used, type, stream, meta, body);
    if (!this.#scheduled) {
      this.#scheduled = true;
      later(this.#flush);
    }
  }

  /** Writes what is queued. */
  flush() {
    if (this.#used > 0) {
      const used = this.#used;
      this.#used = 0;
      this.#write(this.#out, used);
    }
  }

  // The direct system call costs a third of the stream machinery, which is only for when the socket is full.
  #write(buffer, length) {
    let written = 0;
    if (this.#socket.writableLength === 0) {
      try {
        written = writeSync(SOCKET_FD, buffer, 0, length);
      } catch (error) {
        if (error.code !== "EAGAIN") {
          this.#socket.destroy(error);
          return;
        }
      }
    }
    if (written < length) {
      this.#socket.write(Buffer.from(buffer.subarray(written, length)));
    }
  }
}

function encode(buffer, at, type, stream, meta, body) {
  const metaLength = meta === "" ? 0 : buffer.write(meta, at + HEADER);
  const bodyAt = at + HEADER + metaLength;
  const end = bodyAt + (body === "" ? 0 : buffer.write(body, bodyAt));
  buffer.writeUInt32LE(end - at - 4, at);
  buffer[at + 4] = type;
  buffer.writeUInt32LE(stream % TWO_32, at + 5);
  buffer.writeUInt32LE(Math.floor(stream / TWO_32), at + 9);
  buffer.writeUInt32LE(metaLength, at + 13);
  return end;
}
