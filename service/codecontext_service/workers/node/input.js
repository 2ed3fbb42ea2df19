'use strict';

/** Questions of the code to whoever runs it. */

const { Kind } = require('./channel.js');
const { clean } = require('./errors.js');

const MAX_PROMPT = 16 * 1024;

class InputNotAllowedError extends Error {
  name = 'InputNotAllowedError';

  constructor() {
    super('this run was started without allow_input: nobody can be asked');
    Object.defineProperty(this, 'name', { enumerable: false });
  }
}

class Input {
  #channel;
  #onMessage;
  #fail;
  #allowed = false;
  #running = false;
  #asked = 0;
  #waiting = null;
  /** Is called when a run begins. */
  onBegin = () => {};

  /**
   * @param {import('./channel.js').Channel} channel
   * @param {(kind: string, message: object) => void} onMessage - Takes what is no reply.
   * @param {(error: Error) => void} fail - Ends the run with an error.
   */
  constructor(channel, onMessage, fail) {
    this.#channel = channel;
    this.#onMessage = onMessage;
    this.#fail = fail;
  }

  /**
   * Takes note that a run begins.
   * @param {boolean} allowed - Whether somebody can be asked.
   */
  begin(allowed) {
    this.#allowed = allowed;
    this.#running = true;
    this.onBegin();
    if (allowed) this.remind(); // it may wait since an earlier run
  }

  /** Takes note that the run has ended: what it asked for nobody will answer. */
  end() {
    this.#allowed = this.#running = false;
    if (this.#waiting) this.#waiting.number = 0;
  }

  /**
   * Asks for a line, and waits for it.
   * @param {unknown} question
   * @returns {string | null} null where the input ends.
   * @throws {InputNotAllowedError} Nobody can be asked.
   */
  prompt(question = '') {
    const number = this.#send(question);
    let line = null;
    this.#channel.waitFor((kind, message) => {
      if (kind !== Kind.INPUT_REPLY) {
        setImmediate(this.#onMessage, kind, message);
        return true;
      }
      if (message.number !== number) return true; // the answer to an earlier question, which was interrupted
      line = message.end_of_file ? null : message.text;
      return false;
    });
    return line;
  }

  /**
   * Asks for a line, for standard input. Where nobody can be asked that ends the run.
   * @param {(line: string | null) => void} onLine
   */
  request(onLine) {
    this.#waiting = { number: 0, onLine };
    setImmediate(() => this.remind()); // a stream reads ahead: perhaps the run has all that it needs
  }

  /** Asks for the line that standard input waits for, if there is one, and it was not asked for in this run. */
  remind() {
    if (this.#waiting === null || this.#waiting.number || !this.#running) return;
    try {
      this.#waiting.number = this.#send('');
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Takes a reply. */
  reply(message) {
    if (this.#waiting === null || message.number !== this.#waiting.number) return;
    const { onLine } = this.#waiting;
    this.#waiting = null;
    onLine(message.end_of_file ? null : `${message.text}\n`);
  }

  #send(question) {
    if (!this.#allowed) throw new InputNotAllowedError();
    this.#asked += 1;
    this.#channel.sendJson(Kind.INPUT_REQUEST, {
      number: this.#asked, prompt: clean(question, MAX_PROMPT), password: false,
    });
    return this.#asked;
  }
}

module.exports = { Input };
