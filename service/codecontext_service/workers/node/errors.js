'use strict';

/** Errors of the code, made ready for the wire. */

const util = require('node:util');

const MAX_TEXT = 256 * 1024;
const MAX_NAME = 1000;
/** The most frames of an interrupted run that are shown. */
const MAX_FRAMES = 20;
/** Frames of how a cell is entered: from here on they are ours. */
const ENTRY = /^\s+(?:at Session\.post \(node:inspector|\.\.\. \d+ lines matching cause stack trace)/;
const OWN = new RegExp(`^\\s+at .*(?:${__dirname.replaceAll(/[^\w/]/g, '\\$&')}/)`);
const FRAME = /^\s+(?:at |\.\.\. \d+ lines matching )/;
const PLACE = /<cell-\d+>:(\d+):(\d+)/g;

/**
 * Cuts a text.
 * @param {unknown} text
 * @param {number} length - The most characters.
 * @returns {string} Valid Unicode.
 */
function clean(text, length) {
  const all = `${text}`;
  return (all.length > length ? `${all.slice(0, length - 1)}…` : all).toWellFormed();
}

/**
 * Leaves out the frames of how a cell is entered, and of what is ours.
 * @param {string[]} lines - Of an error's text.
 * @returns {string[]}
 */
function shown(lines) {
  const left = [];
  let below = false;
  for (const line of lines) {
    below = FRAME.test(line) && (below || ENTRY.test(line));
    if (!below && !OWN.test(line)) left.push(line);
    else if (line.endsWith(' {') && left.length) left[left.length - 1] += ' {';
  }
  return left;
}

class Errors {
  #typescript;

  /** @param {import('./typescript.js').TypeScript | null} typescript - Knows the lines of what was moved. */
  constructor(typescript) {
    this.#typescript = typescript;
  }

  /**
   * Describes what was thrown.
   * @param {unknown} error
   * @param {string} cell - The name of the run's cell.
   * @param {{line: number, column: number, code: string}} [found] - Where it can't be parsed.
   * @returns {{name: string, value: string, traceback: string[], line_number: number}}
   */
  describe(error, cell, found) {
    let [name, value, text, line] = ['Error', '', '', 0];
    try {
      if (util.types.isNativeError(error)) {
        name = typeof error.name === 'string' ? error.name : `${error.constructor.name}`;
        value = `${error.message}`;
        text = this.text(error);
        line = error.line && found === undefined && error instanceof SyntaxError ? error.line : this.#line(text, cell);
      } else {
        name = `${error?.constructor?.name || (error === null ? 'null' : typeof error)}`;
        value = typeof error === 'string' ? error : util.inspect(error);
        text = `Uncaught ${util.inspect(error)}`;
      }
      if (found?.line) {
        const [at, column] = this.#typescript?.original(cell, found.line, found.column + 1) ?? [found.line, found.column + 1];
        line = at;
        const shown = found.code.split('\n')[at - 1] ?? '';
        text = `${cell}:${at}\n${clean(shown, 1000)}\n${' '.repeat(Math.min(column - 1, 1000))}^\n\n${name}: ${value}`;
      }
    } catch {
      text ||= `${name}: ${value || '<the text of the error could not be made>'}`;
    }
    const lines = clean(text, MAX_TEXT).split('\n');
    return { name: clean(name, MAX_NAME), value: clean(value, MAX_TEXT), traceback: lines, line_number: line };
  }

  /**
   * Describes an interrupt.
   * @param {string[]} frames - Where the code was.
   * @param {string} cell - The name of the run's cell.
   */
  interrupted(frames, cell) {
    const value = 'the run was interrupted';
    const text = this.relocate([`Interrupted: ${value}`, ...frames.slice(0, MAX_FRAMES)].join('\n'));
    return { name: 'Interrupted', value, traceback: clean(text, MAX_TEXT).split('\n'), line_number: this.#line(text, cell) };
  }

  /** Has the `stack` of each error name lines of the code as they were written, and nothing of ours. */
  mendStacks() {
    Error.prepareStackTrace = (error, sites) => {
      let head = '<the text of the error could not be made>';
      try {
        head = Error.prototype.toString.call(error);
      } catch { /* its own code fails */ }
      const frames = sites.map((site) => `    at ${site}`);
      return this.relocate([head, ...shown(frames)].join('\n'));
    };
  }

  /**
   * Returns the text of an error with the frames of the code.
   * @param {unknown} error
   * @returns {string}
   */
  text(error) {
    return shown(util.inspect(error).split('\n')).join('\n');
  }

  /**
   * Returns the text of what nobody has caught, even if its own code fails to give one.
   * @param {unknown} error
   * @returns {string}
   */
  uncaught(error) {
    try {
      return this.text(error);
    } catch {
      return '<the text of the error could not be made>';
    }
  }

  /**
   * Puts the lines of the code as it was written in the place of those that ran.
   * @param {string} text
   * @returns {string}
   */
  relocate(text) {
    if (this.#typescript === null) return text;
    return text.replaceAll(PLACE, (place, line, column) => {
      const name = place.slice(0, place.indexOf('>') + 1);
      return `${name}:${this.#typescript.original(name, Number(line), Number(column)).join(':')}`;
    });
  }

  #line(text, cell) {
    const at = text.indexOf(`${cell}:`);
    return at < 0 ? 0 : Number.parseInt(text.slice(at + cell.length + 1), 10) || 0;
  }
}

module.exports = { Errors, clean };
