'use strict';

/**
 * Memory that the main thread and the watcher share.
 *
 * Each constant is an index into an Int32Array.
 */

/** 1 once the watcher hears signals. */
const UP = 0;
/** What the main thread has decided about an interrupt: see `Decision`. */
const DECISION = 1;
/** 1 once the watcher has acted on that. */
const ACTED = 2;
/** 1 once the watcher has answered a request to rewrite imports. */
const REWRITTEN = 3;
/** Never changes: who waits for it waits for time to pass. */
const NEVER = 4;
const SIZE = 5;

const Decision = Object.freeze({
  /** Not decided yet. */
  NONE: 0,
  /** Nothing runs any more that is to stop. */
  DONE: 1,
  /** The code runs right now: terminate it. */
  TERMINATE: 2,
  /** The run is not at a place where it may be terminated: ask again soon. */
  ASK_AGAIN: 3,
});

module.exports = { UP, DECISION, ACTED, REWRITTEN, NEVER, SIZE, Decision };
