'use strict';

/** A table of `console.table` as HTML. */

const util = require('node:util');

const MAX_ROWS = 1000;
const MAX_COLUMNS = 100;
const VALUES = Symbol('values');
const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/**
 * Makes the table.
 * @param {unknown} data - An array, an object, a Map or a Set.
 * @param {string[]} [columns] - Those that are wanted; by default all.
 * @returns {string | null} null where it is no table, or too large for one.
 */
function tableHtml(data, columns) {
  if (data === null || typeof data !== 'object') return null;
  const [head, rows] = data instanceof Map
    ? ['Key', [...data]]
    : ['', data instanceof Set ? [...data].map((each, at) => [at, each]) : Object.entries(data)];
  if (rows.length > MAX_ROWS) return null;
  const isRow = (value) => value !== null && typeof value === 'object';
  const names = columns ?? [...new Set(rows.flatMap(([, value]) => (isRow(value) ? Object.keys(value) : [])))];
  if (names.length > MAX_COLUMNS) return null;
  const all = rows.every(([, value]) => isRow(value)) ? names : [...names, VALUES];
  const cell = (value, name) => {
    if (name === VALUES) return isRow(value) ? '' : shown(value);
    return isRow(value) && Object.hasOwn(value, name) ? shown(value[name]) : '';
  };
  const titles = [head, ...all.map((name) => (name === VALUES ? 'Values' : name))];
  const body = rows.map(([index, value]) => (
    `<tr><th>${escaped(index)}</th>${all.map((name) => `<td>${cell(value, name)}</td>`).join('')}</tr>`));
  return `<table><thead><tr>${titles.map((title) => `<th>${escaped(title)}</th>`).join('')}</tr></thead>`
    + `<tbody>${body.join('')}</tbody></table>`;
}

function shown(value) {
  return escaped(typeof value === 'string' ? value : util.inspect(value, { depth: 0, maxStringLength: 1000 }));
}

function escaped(value) {
  return String(value).replaceAll(/[&<>"]/g, (each) => ENTITIES[each]);
}

module.exports = { tableHtml };
