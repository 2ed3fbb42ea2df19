'use strict';

/** How cells load modules: all of it from the directory that the process works in. */

const path = require('node:path');
const vm = require('node:vm');
const { createRequire } = require('node:module');
const { pathToFileURL } = require('node:url');

// Without a name of its own the script's imports begin in the working directory.
const load = new vm.Script('(specifier, options) => import(specifier, options)', {
  importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
}).runInThisContext();

/** Is `import(…)` in a cell. */
function dynamicImport(specifier, options) {
  return load(specifier, options);
}

/**
 * Is an `import` statement in a cell.
 * @param {string} specifier
 * @param {Record<string, string>} attributes - What stands behind `with`.
 * @param {string[]} names - What must be there.
 * @throws {SyntaxError} The module has none of that name.
 */
async function staticImport(specifier, attributes, names) {
  const module = await load(specifier, { with: attributes });
  for (const name of names) {
    if (!(name in module)) {
      throw new SyntaxError(
        `The requested module '${specifier}' does not provide an export named '${name}'`,
      );
    }
  }
  return module;
}

/** Makes the code's `require`. */
function makeRequire() {
  let [directory, current] = ['', null];
  const here = () => {
    if (process.cwd() !== directory) {
      directory = process.cwd();
      current = createRequire(path.join(directory, 'cell'));
    }
    return current;
  };
  const require = (id) => here()(id);
  require.resolve = (...args) => here().resolve(...args);
  require.resolve.paths = (id) => here().resolve.paths(id);
  require.cache = here().cache;
  require.extensions = here().extensions;
  require.main = undefined;
  return require;
}

/** Is `import.meta` in a cell. */
const meta = Object.freeze({
  get dirname() { return process.cwd(); },
  get filename() { return path.join(process.cwd(), 'cell'); },
  get url() { return pathToFileURL(this.filename).href; },
  resolve: (specifier) => pathToFileURL(createRequire(meta.filename).resolve(specifier)).href,
});

module.exports = { dynamicImport, makeRequire, meta, staticImport };
