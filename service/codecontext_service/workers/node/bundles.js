'use strict';

/** Values of the code as MIME bundles, and bundles as records for the wire. */

const util = require('node:util');
const { clean } = require('./errors.js');

const { stringify } = JSON; // taken now: the code may replace it

/** Objects that show themselves have a method of this name, which returns a MIME bundle; as in Deno. */
const SHOW = Symbol.for('Jupyter.display');

const MAX_PART = 32 << 20;
const MAX_PARTS = 100;
const MAX_MIME_TYPE = 256;
const MAX_METADATA = 64 * 1024;
const MAX_METADATA_DEPTH = 18;
/** A value of more nodes, or more characters, has no JSON form. */
const MAX_JSON_NODES = 100_000;
const MAX_JSON_LENGTH = 4 << 20;

const INSPECT = { depth: 4, maxArrayLength: 100, maxStringLength: 10_000 };

const MIME_TYPE = /^[\w.+-]+\/[\w.+;=-]+$/;
const BINARY = /^(?:(?:image|audio|video|font)\/(?!svg\+xml)|application\/(?:pdf|zip|octet-stream)$)/;
const JSON_TYPE = /[/+]json$/;

/** Returns whether something is an object without a class. */
function isPlain(value) {
  if (value === null || typeof value !== 'object') return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** Returns whether all names of an object are MIME types. */
function isBundle(value) {
  if (!isPlain(value)) return false;
  const names = Object.keys(value);
  return names.length > 0 && names.every((name) => MIME_TYPE.test(name));
}

/**
 * Returns the representations of a value.
 * @param {unknown} value
 * @returns {Record<string, unknown>} By MIME type.
 */
function bundleOf(value) {
  if (!util.types.isProxy(value)) return describe(value);
  try {
    return describe(value);
  } catch { // a trap, which is no method that is there to show it
    return { 'text/plain': inspect(value) };
  }
}

function describe(value) {
  if (value !== null && typeof value === 'object') {
    if (typeof value[SHOW] === 'function') {
      const bundle = value[SHOW]();
      if (isBundle(bundle)) return bundle;
    }
    const image = imageType(value);
    if (image) return { 'text/plain': inspect(value), [image]: value };
    if (Array.isArray(value) || isPlain(value)) {
      const json = toJson(value);
      if (json !== undefined) return { 'text/plain': inspect(value), 'application/json': json };
    }
  }
  return { 'text/plain': inspect(value) };
}

function inspect(value) {
  return util.inspect(value, typeof value === 'string' ? { maxStringLength: MAX_PART } : INSPECT);
}

/** Returns the type of an image by its first bytes; empty if it is none. */
function imageType(value) {
  if (!(value instanceof Uint8Array) || value.length < 8) return '';
  const start = Buffer.from(value.subarray(0, 12)).toString('latin1');
  if (start.startsWith('\x89PNG\r\n\x1a\n')) return 'image/png';
  if (start.startsWith('\xff\xd8\xff')) return 'image/jpeg';
  if (/^GIF8[79]a/.test(start)) return 'image/gif';
  return /^RIFF....WEBP/s.test(start) ? 'image/webp' : '';
}

/** Returns a value as JSON; undefined where JSON can't tell it (cycles, BigInt), or it is too large. */
function toJson(value) {
  let [nodes, length] = [0, 0];
  try {
    const json = stringify(value, (name, each) => {
      nodes += 1;
      length += name.length + (typeof each === 'string' ? each.length : 8);
      if (nodes > MAX_JSON_NODES || length > MAX_JSON_LENGTH) throw new RangeError('too large');
      return each;
    });
    return json;
  } catch {
    return undefined;
  }
}

/**
 * Encodes a bundle as the content of a DISPLAY message.
 * @param {{kind: string, displayId?: string, metadata?: unknown}} header
 * @param {Record<string, unknown>} bundle
 * @returns {Buffer}
 */
function encode(header, bundle) {
  const parts = [];
  let omitted = 0;
  for (const [mime, value] of Object.entries(bundle)) {
    if (value === undefined || value === null) continue;
    let [isText, content] = part(mime, value);
    if (mime === 'text/plain' && isText && content.length > MAX_PART) {
      omitted += content.length - MAX_PART;
      content = content.subarray(0, MAX_PART);
    }
    if (parts.length >= MAX_PARTS || mime.length > MAX_MIME_TYPE || content.length > MAX_PART) {
      omitted += content.length;
    } else {
      parts.push([mime, isText, content]);
    }
  }
  const [metadata, lost] = safeMetadata(header.metadata);
  const head = Buffer.from(stringify({
    kind: header.kind,
    display_id: clean(header.displayId ?? '', 1000),
    metadata,
    omitted: omitted + lost,
    parts: parts.map(([mime, isText, content]) => [mime, isText, content.length]),
  }));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(head.length);
  return Buffer.concat([length, head, ...parts.map(([, , content]) => content)]);
}

function part(mime, value) {
  if (ArrayBuffer.isView(value)) {
    const data = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    return [!BINARY.test(mime) && require('node:buffer').isUtf8(data), data];
  }
  if (value instanceof ArrayBuffer) return part(mime, new Uint8Array(value));
  if (BINARY.test(mime) && typeof value === 'string') { // as Jupyter's messages have images
    return [false, Buffer.from(value, 'base64')];
  }
  if (typeof value === 'string') return [true, Buffer.from(value)];
  const json = JSON_TYPE.test(mime) || Array.isArray(value) || isPlain(value) ? toJson(value) : undefined;
  return [true, Buffer.from(json ?? (JSON_TYPE.test(mime) ? stringify(inspect(value)) : String(value)))];
}

/** Returns metadata that can be sent, and how many bytes were left out. */
function safeMetadata(metadata) {
  if (!isPlain(metadata)) return [{}, 0];
  try {
    const copy = plain(metadata, 0);
    const size = Buffer.byteLength(stringify(copy));
    return size > MAX_METADATA ? [{}, size] : [copy, 0];
  } catch {
    return [{}, 1];
  }
}

function plain(value, depth) {
  if (depth > MAX_METADATA_DEPTH) throw new RangeError('nested too deeply');
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'number') return Math.abs(value) <= Number.MAX_SAFE_INTEGER ? value : String(value);
  if (Array.isArray(value)) return value.map((each) => plain(each, depth + 1));
  if (isPlain(value)) {
    return Object.fromEntries(
      Object.entries(value).map(([name, each]) => [name.toWellFormed(), plain(each, depth + 1)]),
    );
  }
  return (typeof value === 'string' ? value : util.inspect(value)).toWellFormed();
}

module.exports = { bundleOf, encode, isBundle };
