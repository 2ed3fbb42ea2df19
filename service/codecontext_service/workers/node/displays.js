'use strict';

/** `display()`, and what of `console` is more than text. */

const { Console } = require('node:console');
const { Writable } = require('node:stream');
const { Kind } = require('./channel.js');
const { bundleOf, encode, isBundle } = require('./bundles.js');
const { tableHtml } = require('./tables.js');

const SHORT = {
  html: 'text/html', markdown: 'text/markdown', latex: 'text/latex', svg: 'image/svg+xml', json: 'application/json',
};

class Displays {
  #channel;

  /** @param {import('./channel.js').Channel} channel */
  constructor(channel) {
    this.#channel = channel;
  }

  /** Sends the result of a run; undefined is none. */
  result(value) {
    if (value !== undefined) this.#send({ kind: 'result' }, bundleOf(value));
  }

  /** Makes the function `display` of the code; docs/languages.md tells what it takes. */
  makeFunction() {
    const display = (value, { id = '', update = false, metadata } = {}) => {
      const bundle = isBundle(value) ? value : bundleOf(value);
      this.#send({ kind: update ? 'update' : 'display', displayId: id, metadata }, bundle);
    };
    for (const [name, mime] of Object.entries(SHORT)) {
      display[name] = (value, options) => display({ [mime]: value }, options);
    }
    display.clear = ({ wait = false } = {}) => this.#channel.sendJson(Kind.CLEAR, { wait: Boolean(wait) });
    return display;
  }

  /** Gives the code's console what a terminal can't show. */
  extend(console) {
    const { table: plainTable } = console;
    console.clear = () => this.#channel.sendJson(Kind.CLEAR, { wait: false });
    console.table = (data, columns) => {
      const html = tableHtml(data, columns);
      if (html === null) {
        plainTable.call(console, data, columns); // which says it as text
        return;
      }
      const text = [];
      const sink = new Writable({ write(chunk, encoding, done) { text.push(chunk); done(); } });
      new Console(sink).table(data, columns);
      this.#send({ kind: 'display' }, { 'text/plain': Buffer.concat(text).toString().trimEnd(), 'text/html': html });
    };
  }

  #send(header, bundle) {
    this.#channel.send(Kind.DISPLAY, encode(header, bundle));
  }
}

module.exports = { Displays };
