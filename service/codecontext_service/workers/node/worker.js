'use strict';

/**
 * The interpreter of a JavaScript or TypeScript context: takes runs from its channel, one at a time.
 *
 * The first argument is the language.
 */

const { Interrupts } = require('./interrupts.js');
const { Channel, Kind } = require('./channel.js');
const { Displays } = require('./displays.js');
const { Errors } = require('./errors.js');
const { Evaluator } = require('./evaluator.js');
const { Input } = require('./input.js');
const { Runs } = require('./runs.js');
const { replaceStreams } = require('./streams.js');
const { dynamicImport, makeRequire, meta, staticImport } = require('./loading.js');

const CHANNEL_FD = 3;

const language = process.argv[2];
const interrupts = new Interrupts(() => channel.look());
const channel = new Channel(CHANNEL_FD, interrupts, interrupts.shared);
const typescript = language === 'typescript' ? new (require('./typescript.js').TypeScript)() : null;
const errors = new Errors(typescript);
const evaluator = new Evaluator();
const displays = new Displays(channel);
const runs = new Runs({ channel, interrupts, evaluator, typescript, errors, displays });
const input = new Input(channel, onMessage, (error) => runs.fail(error));
runs.input = input;

/** Takes a message of the server's. */
function onMessage(kind, message) {
  if (kind === Kind.EXECUTE) runs.begin(message);
  else if (kind === Kind.INPUT_REPLY) input.reply(message);
  else if (kind === Kind.CONFIGURE) configure(message);
}

function configure({ cwd, env }) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, env);
  try {
    process.chdir(cwd);
  } catch (error) {
    channel.sendJson(Kind.CONFIGURED, { cwd_error: require('node:util').getSystemErrorMessage(error.errno) });
    return;
  }
  channel.sendJson(Kind.CONFIGURED, {});
}

/** Gives the code what it finds as globals, beside those of Node. */
function makeGlobals() {
  const names = { require: makeRequire(), module: { exports: {} }, display: displays.makeFunction(), prompt: (question) => input.prompt(question) };
  for (const [name, value] of Object.entries(names)) {
    Object.defineProperty(globalThis, name, { configurable: true, enumerable: false, writable: true, value });
  }
  // What is called by the watcher, and in the place of imports; the code can't hide it by a name of its own.
  Object.defineProperty(globalThis, '__codecontext__', {
    value: Object.freeze({
      decide: () => interrupts.decide(),
      take: (value) => evaluator.take(value),
      import: dynamicImport,
      load: staticImport,
      meta,
    }),
  });
}

// This process goes on after what nobody catches, as long as the code has no handler of its own for it.
process.on('uncaughtException', (error) => {
  if (process.listenerCount('uncaughtException') > 1) return;
  channel.sendOutput(Kind.STDERR, `Uncaught ${errors.uncaught(error)}\n`);
});
errors.mendStacks();
process.execArgv = []; // of this process alone: a child of the code's has its own
process.argv = [process.argv[0]];
replaceStreams(channel, input);
displays.extend(console);
makeGlobals();
channel.listen(onMessage);
channel.sendJson(Kind.READY, { pid: process.pid, told: true, lowers: false });
interrupts.watch();
