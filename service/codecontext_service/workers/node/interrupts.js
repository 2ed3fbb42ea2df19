'use strict';

/**
 * When an interrupt stops a run.
 *
 * That a run is to stop comes over the channel, right before SIGINT, which wakes whatever waits and ends the
 * children. So a signal that comes late finds no such message for the next run; and a run that fails since its
 * child has died of the signal finds the message, whoever hears of the signal first.
 *
 * A signal handler of Node's runs when the event loop turns, which a busy loop prevents. So another thread,
 * the watcher, hears the signal (`watcher.js`), and has the function `decide` called in this one: at a moment
 * where V8 allows it, in the middle of the code too. Here, where nothing else happens meanwhile, it is decided
 * whether the code is to be terminated: only if it runs at this moment, and not while it is in a critical
 * section of ours. Then this thread stands still until the watcher has acted on that; so what is terminated is
 * what was looked at, and never the next run, nor Node's event loop.
 */

const path = require('node:path');
const { Worker, receiveMessageOnPort } = require('node:worker_threads');
const { UP, DECISION, ACTED, REWRITTEN, SIZE, Decision } = require('./shared.js');

// Taken now: the code may replace them.
const { add, load, store, notify, wait } = Atomics;
const { captureStackTrace } = Error;
const immediately = setImmediate;
const later = setTimeout;

const OWN_FRAME = new RegExp(
  `\\((?:node:|${__dirname.replaceAll(/[^\w/]/g, '\\$&')}/)|at (?:node:|${__dirname.replaceAll(/[^\w/]/g, '\\$&')}/)|at <anonymous>:\\d`,
);

class Interrupts {
  shared = new Int32Array(new SharedArrayBuffer(SIZE * Int32Array.BYTES_PER_ELEMENT));
  #look;
  #watcher = null;
  #critical = 0;
  #run = 0;
  #wanted = false;
  #terminating = false;
  #onInterrupted = null;

  /** @param {() => void} look - Reads what has come over the channel, which may be that a run is to stop. */
  constructor(look) {
    this.#look = look;
  }

  /** Starts the thread that hears signals. */
  watch() {
    this.#watcher = new Worker(path.join(__dirname, 'watcher.js'), {
      workerData: this.shared,
      execArgv: ['--expose-internals', '--no-warnings'], // see watcher.js
      env: {},
      stdin: false,
      name: 'codecontext watcher',
    });
    this.#watcher.unref();
  }

  /** Waits until an interrupt would be heard. */
  waitForWatcher() {
    while (load(this.shared, UP) === 0) wait(this.shared, UP, 0);
  }

  /**
   * Has the watcher put dynamic calls in the place of a cell's imports.
   * @param {string} code
   * @returns {string}
   */
  rewriteImports(code) {
    const { port1, port2 } = new MessageChannel();
    store(this.shared, REWRITTEN, 0);
    this.#watcher.postMessage({ code, port: port2 }, [port2]);
    while (load(this.shared, REWRITTEN) === 0) wait(this.shared, REWRITTEN, 0);
    const answer = receiveMessageOnPort(port1).message;
    port1.close();
    return answer;
  }

  /**
   * Takes note that code begins to run.
   * @param {(where: string[]) => void} onInterrupted - Hears when it was stopped, and in which frames it was.
   */
  begin(onInterrupted) {
    this.#run += 1;
    this.#wanted = this.#terminating = false;
    this.#onInterrupted = onInterrupted;
  }

  /** Takes note that the run is to stop. */
  want() {
    this.#wanted = this.#onInterrupted !== null;
  }

  /** Whether the run is to stop, by what has come until now. */
  get wanted() {
    this.#look();
    return this.#wanted;
  }

  /** Whether the run is being terminated: then it ends by that alone, and not before. */
  get terminating() {
    return this.#terminating;
  }

  /** Takes note that the run has ended: what comes now is not for it, nor for the next one. */
  end() {
    this.#onInterrupted = null;
  }

  /** Begins a section in which the code must not be terminated. */
  enterCritical() {
    this.#critical += 1;
  }

  /** Ends it. */
  leaveCritical() {
    this.#critical -= 1;
  }

  /**
   * Does something in such a section.
   * @template T
   * @param {() => T} action
   * @returns {T}
   */
  holdOff(action) {
    this.#critical += 1;
    try {
      return action();
    } finally {
      this.#critical -= 1;
    }
  }

  /** Decides about an interrupt; is called by the watcher, through V8's inspector. */
  decide() {
    const decision = this.#decide();
    store(this.shared, DECISION, decision);
    notify(this.shared, DECISION);
    // Not `wait`, since this thread may be in one; and not `load`, which V8 moves out of such a loop once it
    // is optimized.
    if (decision === Decision.TERMINATE) while (add(this.shared, ACTED, 0) === 0);
  }

  #decide() {
    if (this.#critical > 0) return Decision.ASK_AGAIN;
    if (this.#onInterrupted === null || !this.wanted) return Decision.DONE;
    const onInterrupted = this.#onInterrupted;
    const frames = codeFrames();
    const current = this.#run;
    const tell = () => {
      if (current === this.#run && this.#onInterrupted !== null) onInterrupted(frames);
    };
    // Both, for the case that the code has ended just now, and one of them is terminated in its place.
    immediately(tell);
    later(tell, 1);
    this.#terminating ||= frames.length > 0;
    return frames.length ? Decision.TERMINATE : Decision.ASK_AGAIN;
  }
}

/** Returns the frames of this moment that are not Node's or ours. */
function codeFrames() {
  const { stackTraceLimit, prepareStackTrace } = Error;
  try {
    Error.stackTraceLimit = Infinity;
    Error.prepareStackTrace = undefined;
    const here = {};
    captureStackTrace(here);
    return here.stack.split('\n').slice(1).filter((line) => !OWN_FRAME.test(line));
  } catch {
    return [];
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
    Error.prepareStackTrace = prepareStackTrace;
  }
}

module.exports = { Interrupts };
