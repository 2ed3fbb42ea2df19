'use strict';

/** What `process.stdout`, `process.stderr` and `process.stdin` are in a context. */

const { Readable, Writable } = require('node:stream');
const { Kind } = require('./channel.js');

/** Standard output or error: unbuffered, so that order is kept and a crash loses nothing. */
class OutputStream extends Writable {
  #send;
  #fd;

  constructor(send, fd) {
    super({ decodeStrings: false });
    this.#send = send;
    this.#fd = fd;
  }

  /** The descriptor by which child processes know the stream. */
  get fd() {
    return this.#fd;
  }

  get isTTY() {
    return false;
  }

  write(data, encoding, callback) {
    const done = typeof encoding === 'function' ? encoding : callback;
    if (typeof data === 'string' && (typeof encoding !== 'string' || /^utf-?8$/i.test(encoding))) {
      this.#send(data);
    } else if (typeof data === 'string') {
      this.#send(Buffer.from(data, encoding));
    } else if (ArrayBuffer.isView(data)) {
      this.#send(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    } else {
      return super.write(data, encoding, callback); // which says what is wrong with it
    }
    if (typeof done === 'function') process.nextTick(done);
    return true;
  }

  _write(data, encoding, callback) {
    callback();
  }

  end(data, encoding, callback) {
    if (typeof data !== 'function' && data !== undefined && data !== null) this.write(data, encoding);
    const done = [data, encoding, callback].find((each) => typeof each === 'function');
    if (done) process.nextTick(done);
    return this; // it lives as long as the context
  }

  _destroy(error, callback) {
    callback(error);
  }
}

/** Standard input: each read asks for a line. */
class InputStream extends Readable {
  #input;
  #ended = false;

  /** @param {import('./input.js').Input} input - Who asks for lines. */
  constructor(input) {
    super({ encoding: 'utf8' });
    this.#input = input;
  }

  on(event, listener) {
    // A read that waits since an earlier run is not made again.
    if (event === 'data' || event === 'readable') setImmediate(() => this.#input.remind());
    return super.on(event, listener);
  }

  get fd() {
    return 0;
  }

  get isTTY() {
    return false;
  }

  /** Whether nothing can be read from it any more. */
  get isOver() {
    return this.#ended || this.destroyed;
  }

  _read() {
    this.#input.request((line) => {
      this.#ended = line === null;
      this.push(line);
    });
  }
}

/**
 * Replaces the process's streams.
 * @param {import('./channel.js').Channel} channel
 * @param {import('./input.js').Input} input
 * @returns {OutputStream} Standard error.
 */
function replaceStreams(channel, input) {
  const streams = {
    stdout: new OutputStream((data) => channel.sendOutput(Kind.STDOUT, data), 1),
    stderr: new OutputStream((data) => channel.sendOutput(Kind.STDERR, data), 2),
    stdin: new InputStream(input),
  };
  for (const [name, value] of Object.entries(streams)) {
    Object.defineProperty(process, name, { configurable: true, enumerable: true, writable: true, value });
  }
  input.onBegin = () => { // one run's end of input is not the next one's
    if (process.stdin instanceof InputStream && process.stdin.isOver) process.stdin = new InputStream(input);
  };
  return streams.stderr;
}

module.exports = { replaceStreams };
