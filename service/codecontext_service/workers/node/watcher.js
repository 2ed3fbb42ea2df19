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
const { parentPort, workerData: shared } = require('node:worker_threads');
const { internalBinding } = require('internal/test/binding');
const { UP, DECISION, ACTED, RUN, ASKED, REWRITTEN, Decision } = require('./shared.js');
const { rewrite } = require('./imports.js');

const SIGINT = 2;
/** How long it waits before it asks again, in ms. */
const AGAIN_MS = 5;

/** Is there while something is asked: the process would wait for its end before it exits. */
let session = null;

/**
 * Asks the main thread to stop a run.
 * @param {number} run - Its number; 0 for the one that runs now.
 */
function interrupt(run) {
  const number = Atomics.add(shared, ASKED, 1) + 1;
  Atomics.store(shared, DECISION, Decision.NONE);
  if (session === null) {
    session = new inspector.Session();
    session.connectToMainThread();
  }
  session.post('Runtime.evaluate', { expression: `__codecontext__.decide(${run})` });
  Atomics.wait(shared, DECISION, Decision.NONE);
  const decision = Atomics.load(shared, DECISION);
  // The main thread stands still; this comes right behind what it is in, before the code goes on.
  if (decision === Decision.TERMINATE) session.post('Runtime.terminateExecution');
  if (decision === Decision.DONE) {
    session.disconnect();
    session = null;
  } else {
    setTimeout(interrupt, AGAIN_MS, Atomics.load(shared, RUN));
  }
  Atomics.store(shared, ACTED, number);
}

parentPort.on('message', ({ code, port }) => {
  port.postMessage(rewrite(code));
  Atomics.store(shared, REWRITTEN, 1);
  Atomics.notify(shared, REWRITTEN);
});

const { Signal } = internalBinding('signal_wrap');
const signal = new Signal();
signal.onsignal = () => interrupt(0);
signal.start(SIGINT);
Atomics.store(shared, UP, 1);
Atomics.notify(shared, UP);
