'use strict';

/** TypeScript by Node's own type stripping, with the lines of what is moved. */

const { SourceMap, stripTypeScriptTypes } = require('node:module');

const MAX_MAPS = 1000;
const MAPPING = /\n\/\/# sourceMappingURL=data:application\/json;base64,(\S+)\s*$/;

class TypeScript {
  #maps = new Map();

  /**
   * Makes JavaScript of a cell. Types are replaced by blanks, so everything stays where it is; where that
   * can't be done (enums, namespaces, parameter properties) code is made, and its lines are remembered.
   * @param {string} code
   * @param {string} name - The cell's name.
   * @returns {string}
   * @throws {SyntaxError} With `line`, the line of the code that can't be parsed.
   */
  strip(code, name) {
    try {
      return stripTypeScriptTypes(code, { mode: 'strip' });
    } catch (error) {
      if (error.code !== 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') throw located(error, name);
    }
    try {
      const made = stripTypeScriptTypes(code, { mode: 'transform', sourceMap: true });
      const found = MAPPING.exec(made);
      this.#maps.set(name, new SourceMap(JSON.parse(Buffer.from(found[1], 'base64').toString())));
      if (this.#maps.size > MAX_MAPS) this.#maps.delete(this.#maps.keys().next().value);
      return made.slice(0, found.index).trimEnd();
    } catch (error) {
      throw located(error, name);
    }
  }

  /**
   * Finds a line of the code as it was written.
   * @param {string} name - The cell's name.
   * @param {number} line - A line of what runs, from 1.
   * @param {number} column - From 1.
   * @returns {number[]} Line and column, from 1.
   */
  original(name, line, column) {
    const entry = this.#maps.get(name)?.findEntry(line - 1, column - 1);
    return entry?.originalLine === undefined
      ? [line, column] : [entry.originalLine + 1, entry.originalColumn + 1];
  }
}

/** Gives an error of the stripper a line, and a text that names the cell. */
function located(error, name) {
  const [, line, shown] = /^:(\d+)\n([^]*?)\n\n/.exec(error.stack) ?? [null, 0, ''];
  const better = new SyntaxError(error.message);
  better.line = Number(line);
  Object.defineProperty(better, 'line', { enumerable: false });
  better.stack = `${name}:${line}\n${shown}\n\nSyntaxError: ${error.message}`;
  return better;
}

module.exports = { TypeScript };
