'use strict';

/**
 * The watcher: a thread beside the one that runs the code, which is never busy.
 *
 * It hears SIGINT, also while the code is in a loop, and has it terminated (see `interrupts.js`). And it has
 * a parser, which finds imports. Both use parts of Node that are its own: the binding for signals, since
 * `process.on` hears none outside of the main thread, and the parser of its REPL. The flag that allows it is
 * given to this thread alone: the code does not see them.
 */

const inspector = require('node:inspector');
const { setTimeout: rest } = require('node:timers/promises');
const { parentPort, workerData: shared } = require('node:worker_threads');
const { internalBinding } = require('internal/test/binding');
const { UP, DECISION, ACTED, REWRITTEN, Decision } = require('./shared.js');
const { rewrite } = require('./imports.js');

const SIGINT = 2;
const SIGXFSZ = 25;
/** How long it waits before it asks again, in ms. */
const AGAIN_MS = 5;

let heard = false;
let busy = false;

/** Hears a signal: it may be for another run than the one that is being stopped. */
async function onSignal() {
  heard = true;
  if (busy) return;
  busy = true;
  while (heard) {
    heard = false;
    await stopRun();
  }
  busy = false;
}

/** Sees to it that the run is stopped, if it is to stop. */
async function stopRun() {
  // Is there for as long as something is asked: the process would wait for its end before it exits.
  const session = new inspector.Session();
  session.connectToMainThread();
  for (;;) {
    const { decision, terminated } = await ask(session);
    if (decision === Decision.DONE) break;
    // What is sent before that would be terminated in the place of the code, and never answered.
    await terminated;
    await rest(AGAIN_MS);
  }
  session.disconnect();
}

/**
 * Asks the main thread, and has it terminate what it runs if that is its answer.
 * @param {inspector.Session} session
 * @returns {Promise<{decision: number, terminated: Promise<void> | undefined}>} What it has decided, and when
 *   that is done.
 */
async function ask(session) {
  Atomics.store(shared, DECISION, Decision.NONE);
  Atomics.store(shared, ACTED, 0);
  const decided = Atomics.waitAsync(shared, DECISION, Decision.NONE);
  // Returns without a decision if the code has terminated it, by a timeout of `node:vm` for instance.
  const returned = post(session, 'Runtime.evaluate', { expression: '__codecontext__.decide()' });
  await Promise.race([decided.value, returned]);
  const decision = Atomics.load(shared, DECISION);
  if (decision !== Decision.TERMINATE) return { decision };
  // The main thread stands still; this comes right behind what it is in, before the code goes on.
  const terminated = post(session, 'Runtime.terminateExecution');
  Atomics.store(shared, ACTED, 1);
  return { decision, terminated };
}

/** Sends something to the main thread; the promise is for the time when it is answered. */
function post(session, method, parameters) {
  return new Promise((resolve) => { session.post(method, parameters, () => resolve()); });
}

parentPort.on('message', ({ code, port }) => {
  port.postMessage(rewrite(code));
  Atomics.store(shared, REWRITTEN, 1);
  Atomics.notify(shared, REWRITTEN);
});

const { Signal } = internalBinding('signal_wrap');
const interrupt = new Signal();
interrupt.onsignal = onSignal;
interrupt.start(SIGINT);
// Who writes more to a file than the limit allows gets an error, and does not end.
const excess = new Signal();
excess.onsignal = () => {};
excess.start(SIGXFSZ);
Atomics.store(shared, UP, 1);
Atomics.notify(shared, UP);
