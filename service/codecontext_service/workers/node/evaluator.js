'use strict';

/**
 * Evaluates cells, by V8's own REPL mode: `const`, `let` and classes stay and may be declared again, `await`
 * may stand anywhere, and the last expression is the result.
 */

const inspector = require('node:inspector');
const v8 = require('node:v8');
const { orEnd } = require('./failure.js');

const GROUP = 'codecontext';
const TAKE = 'function () { "use strict"; __codecontext__.take(this); }';

class Evaluator {
  #session = null;
  #held = null;
  #release = null;
  #taken = undefined;

  constructor() {
    this.renew();
  }

  /** Gives up what is being evaluated: nothing of it will be told. */
  renew() {
    this.#session?.disconnect();
    this.#session = new inspector.Session();
    this.#session.connect();
    this.#holdNoMore();
    this.#held = null;
  }

  /**
   * Takes a value from the code's side of the inspector; see `TAKE`.
   * @param {unknown} value
   */
  take(value) {
    this.#taken = value;
  }

  /**
   * Evaluates a cell.
   * @param {string} code
   * @param {string} name - The name of the cell in stack traces; no blanks.
   * @param {(raised: object | null, value: unknown) => void} onEnd - Hears of the end, unless `renew` was called:
   *   `raised` has the `error` and the `line` if it was found before anything ran.
   */
  evaluate(code, name, onEnd) {
    const session = this.#session;
    const parameters = {
      expression: `${code}\n//# sourceURL=${name}`, replMode: true, objectGroup: GROUP,
    };
    // The inspector would break the whole process when the promise of a cell that waits for ever is collected.
    this.#held = null;
    if (code.includes('await')) {
      this.#release = v8.promiseHooks.onInit((promise) => { this.#held ??= promise; });
    }
    session.post('Runtime.evaluate', parameters, (error, answer) => orEnd(() => {
      if (session !== this.#session) return;
      this.#held = null;
      if (error) return; // it was terminated, which is told elsewhere
      const { result, exceptionDetails: details } = answer;
      if (!details) {
        onEnd(null, this.#value(result));
        return;
      }
      const unparsed = details.scriptId !== undefined && details.stackTrace === undefined;
      const place = unparsed ? { line: details.lineNumber + 1, column: details.columnNumber } : { line: 0, column: 0 };
      onEnd({ error: this.#value(details.exception), ...place }, undefined);
    }));
    this.#holdNoMore();
  }

  #holdNoMore() {
    this.#release?.();
    this.#release = null;
  }

  /** Returns the value that the inspector speaks of. */
  #value(remote) {
    if (remote.objectId) {
      this.#session.post('Runtime.callFunctionOn', {
        objectId: remote.objectId, functionDeclaration: TAKE,
      });
      this.#session.post('Runtime.releaseObjectGroup', { objectGroup: GROUP });
      const taken = this.#taken;
      this.#taken = undefined;
      return taken;
    }
    const special = remote.unserializableValue;
    if (special === undefined) return remote.value;
    return remote.type === 'bigint' ? BigInt(special.slice(0, -1)) : Number(special);
  }
}

module.exports = { Evaluator };
