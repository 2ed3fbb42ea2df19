'use strict';

/**
 * The control channel: this side of `workers/channel.py`, on a SOCK_STREAM socket.
 *
 * Each packet comes behind its length, four bytes, little-endian. Writes are synchronous, so that the order
 * of what the code does is the order in which it is told, and a crash loses nothing.
 */

const fs = require('node:fs');
const net = require('node:net');
const { orEnd } = require('./failure.js');
const { NEVER } = require('./shared.js');

const MAX_CONTENT = 64 * 1024;
const LENGTH = 4;
const HEADER = LENGTH + 2;
/** The longest wait for room in the socket, in ms: Node has no call that waits for a descriptor. */
const MAX_WAIT_MS = 8;

const Kind = Object.freeze({
  CONFIGURE: 'c', EXECUTE: 'x', INPUT_REPLY: 'i', ASK: 'a', INTERRUPT: 'n',
  READY: 'R', CONFIGURED: 'C', FINISHED: 'F', ERROR: 'E',
  INPUT_REQUEST: 'I', CLEAR: 'L', ANSWER: 'A',
  BEGUN: 'B', STDOUT: 'O', STDERR: 'T', DISPLAY: 'D',
});

const WHOLE = '.'.charCodeAt(0);
const MORE = '+'.charCodeAt(0);
const END = '$'.charCodeAt(0);

// Taken now: the code may replace what these modules have.
const { readSync, writeSync } = fs;
const { parse, stringify } = JSON;
const wait = Atomics.wait;
const exit = process.exit.bind(process);
const immediately = setImmediate;

class Channel {
  #fd;
  #interrupts;
  #shared;
  #frame = Buffer.allocUnsafeSlow(HEADER + MAX_CONTENT);
  #chunk = Buffer.allocUnsafeSlow(MAX_CONTENT);
  #received = Buffer.alloc(0);
  #parts = new Map();
  #next = 0;
  #left = [];
  #onMessage = null;

  /**
   * @param {number} fd - The socket.
   * @param {import('./interrupts.js').Interrupts} interrupts - Keeps the code from being terminated in the
   *   middle of a packet, and hears when a run is to stop.
   * @param {Int32Array} shared
   */
  constructor(fd, interrupts, shared) {
    this.#fd = fd;
    this.#interrupts = interrupts;
    this.#shared = shared;
  }

  /**
   * Begins to listen.
   * @param {(kind: string, message: object) => void} onMessage - Takes each message.
   */
  listen(onMessage) {
    this.#onMessage = onMessage;
    const socket = new net.Socket({
      fd: this.#fd,
      writable: false,
      onread: {
        buffer: Buffer.allocUnsafeSlow(MAX_CONTENT),
        callback: (size, buffer) => {
          this.#interrupts.holdOff(() => orEnd(() => this.#take(buffer.subarray(0, size))));
          this.#deliver();
          return true;
        },
      },
    });
    // The server is gone, and so is the purpose of this process.
    socket.on('end', () => exit(0)).on('error', () => exit(0)).on('close', () => exit(0));
  }

  /**
   * Waits for messages, and holds up everything else.
   * @param {(kind: string, message: object) => boolean} onMessage - Takes each message, and says whether to
   *   wait for another one.
   */
  waitFor(onMessage) {
    let goesOn = true;
    for (let waited = 1; goesOn; waited = Math.min(2 * waited, MAX_WAIT_MS)) {
      this.#interrupts.holdOff(() => orEnd(() => {
        this.#read();
        for (const [kind, message] of this.#messages()) goesOn = onMessage(kind, message) && goesOn;
      }));
      if (goesOn) wait(this.#shared, NEVER, 0, waited); // here, and only here, an interrupt may end it
    }
  }

  /** Reads what has come; messages other than interrupts are left for who waits, or for the event loop. */
  look() {
    orEnd(() => {
      this.#read();
      this.#left = this.#messages();
      if (this.#left.length) immediately(() => this.#deliver());
    });
  }

  /**
   * Sends a message.
   * @param {string} kind - One of `Kind`.
   * @param {Buffer} content
   */
  send(kind, content) {
    if (content.length <= MAX_CONTENT) {
      content.copy(this.#frame, HEADER);
      this.#write(kind, WHOLE, content.length);
      return;
    }
    const number = this.#next++ & 0xffffffff;
    const size = MAX_CONTENT - 4;
    for (let at = 0; at < content.length; at += size) {
      const length = content.copy(this.#frame, HEADER + 4, at, at + size);
      this.#frame.writeInt32BE(number, HEADER);
      this.#write(kind, at + size < content.length ? MORE : END, 4 + length);
    }
  }

  /**
   * Sends a message in JSON.
   * @param {string} kind - One of `Kind`.
   * @param {object} value
   */
  sendJson(kind, value) {
    this.send(kind, Buffer.from(stringify(value)));
  }

  /**
   * Sends output; what is no valid Unicode in it is replaced.
   * @param {string} kind - `STDOUT` or `STDERR`.
   * @param {string | Uint8Array} data
   */
  sendOutput(kind, data) {
    if (typeof data === 'string') {
      if (data.length * 3 <= MAX_CONTENT) {
        const length = this.#frame.write(data, HEADER, 'utf8');
        if (length) this.#write(kind, WHOLE, length);
        return;
      }
      data = Buffer.from(data);
    }
    for (let at = 0; at < data.length; at += MAX_CONTENT) {
      const piece = data.subarray(at, at + MAX_CONTENT);
      this.#frame.set(piece, HEADER);
      this.#write(kind, WHOLE, piece.length);
    }
  }

  /** Sends what stands in the frame: its content has the given length. */
  #write(kind, flag, length) {
    const frame = this.#frame;
    const end = HEADER + length;
    frame.writeUInt32LE(2 + length, 0);
    frame[LENGTH] = kind.charCodeAt(0);
    frame[LENGTH + 1] = flag;
    this.#interrupts.enterCritical();
    let waited = 1;
    for (let at = 0; at < end;) {
      try {
        at += writeSync(this.#fd, frame, at, end - at);
        waited = 1;
      } catch (error) {
        if (error.code !== 'EAGAIN') exit(1); // nobody can hear it any more
        wait(this.#shared, NEVER, 0, waited); // until the server reads again
        waited = Math.min(2 * waited, MAX_WAIT_MS);
      }
    }
    this.#interrupts.leaveCritical();
  }

  #take(bytes) {
    this.#received = this.#received.length
      ? Buffer.concat([this.#received, bytes]) : Buffer.from(bytes);
  }

  #read() {
    for (;;) {
      let size;
      try {
        size = readSync(this.#fd, this.#chunk, 0, MAX_CONTENT, null);
      } catch (error) {
        if (error.code === 'EAGAIN') return;
        exit(0);
      }
      if (size === 0) exit(0);
      this.#take(this.#chunk.subarray(0, size));
    }
  }

  #deliver() {
    let messages;
    this.#interrupts.holdOff(() => { messages = orEnd(() => this.#messages()); });
    for (const [kind, message] of messages) this.#onMessage(kind, message);
  }

  /** Returns the messages that are there whole, without those that a run is to stop. */
  #messages() {
    const messages = this.#left;
    this.#left = [];
    const bytes = this.#received;
    let at = 0;
    while (bytes.length >= at + LENGTH) {
      const end = at + LENGTH + bytes.readUInt32LE(at);
      if (bytes.length < end) break;
      const kind = String.fromCharCode(bytes[at + LENGTH]);
      const content = this.#assemble(kind, bytes[at + LENGTH + 1], bytes.subarray(at + HEADER, end));
      if (kind === Kind.INTERRUPT) this.#interrupts.want();
      else if (content !== null) messages.push([kind, parse(content.toString())]);
      at = end;
    }
    this.#received = bytes.subarray(at);
    return messages;
  }

  #assemble(kind, flag, content) {
    if (flag === WHOLE) return content;
    const number = kind + content.readInt32BE(0);
    const parts = this.#parts.get(number) ?? [];
    parts.push(Buffer.from(content.subarray(4)));
    this.#parts.set(number, parts);
    if (flag === MORE) return null;
    this.#parts.delete(number);
    return flag === END ? Buffer.concat(parts) : null;
  }
}

module.exports = { Channel, Kind };
