'use strict';

/** What happens where the code has taken away what the interpreter itself stands on. */

const { writeSync } = require('node:fs');

// Taken now: the code may replace it.
const exit = process.reallyExit.bind(process);

/**
 * Does something that is this program's own. If that fails no run could ever be told of again: the process ends,
 * and says why.
 * @template T
 * @param {() => T} action - Runs no code of the context's whose errors it does not catch.
 * @returns {T}
 */
function orEnd(action) {
  try {
    return action();
  } catch (error) {
    try {
      writeSync(2, `codecontext: the interpreter failed: ${error}\n`);
    } catch { /* it can't be told */ }
    return exit(1);
  }
}

module.exports = { orEnd };
