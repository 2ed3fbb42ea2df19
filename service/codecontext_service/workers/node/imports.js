'use strict';

/**
 * Puts calls in the place of what V8 allows in modules alone, since cells are scripts.
 *
 * `import a, { b as c } from 'x'` becomes a destructuring of `await __codecontext__.load('x', …)`, where it
 * stands and with as many lines; `import(…)` and `import.meta` become `__codecontext__.import(…)` and
 * `__codecontext__.meta`. Scripts that the inspector evaluates have no other way to load modules.
 */

const acorn = require('internal/deps/acorn/acorn/dist/acorn');
const walk = require('internal/deps/acorn/acorn-walk/dist/walk');

const OPTIONS = {
  ecmaVersion: 'latest',
  sourceType: 'script',
  allowAwaitOutsideFunction: true,
  allowImportExportEverywhere: true,
};

/**
 * Rewrites a cell.
 * @param {string} code
 * @returns {string} The code as it was if the parser does not know it: V8 will tell what is wrong.
 */
function rewrite(code) {
  let program;
  try {
    program = acorn.parse(code, OPTIONS);
  } catch {
    return code;
  }
  const edits = [];
  walk.simple(program, {
    ImportDeclaration: (node) => edits.push([node.start, node.end, declaration(node, code)]),
    ImportExpression: (node) => edits.push([node.start, node.start + 'import'.length, '__codecontext__.import']),
    MetaProperty: (node) => {
      if (node.meta.name === 'import') edits.push([node.start, node.end, '__codecontext__.meta']);
    },
  });
  edits.sort((one, other) => other[0] - one[0]);
  for (const [start, end, text] of edits) {
    const lines = code.slice(start, end).split('\n').length - text.split('\n').length;
    code = code.slice(0, start) + text + '\n'.repeat(lines) + code.slice(end);
  }
  return code;
}

function declaration(node, code) {
  const names = [];
  const imported = [];
  let whole = '';
  for (const each of node.specifiers) {
    if (each.type === 'ImportNamespaceSpecifier') {
      whole = each.local.name;
      continue;
    }
    const name = each.type === 'ImportDefaultSpecifier' ? 'default' : each.imported.name ?? each.imported.value;
    imported.push(name);
    names.push(`${JSON.stringify(name)}: ${each.local.name}`);
  }
  const attributes = (node.attributes ?? []).map((each) => code.slice(each.start, each.end)).join(', ');
  const load = `await __codecontext__.load(${node.source.raw}, {${attributes}}, ${JSON.stringify(imported)})`;
  if (whole && names.length) return `const ${whole} = ${load}, {${names.join(', ')}} = ${whole};`;
  if (whole) return `const ${whole} = ${load};`;
  return names.length ? `const {${names.join(', ')}} = ${load};` : `void ${load};`;
}

module.exports = { rewrite };
