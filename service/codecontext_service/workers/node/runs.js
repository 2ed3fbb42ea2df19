'use strict';

/** Runs of a context, one at a time. */

const util = require('node:util');
const { Kind } = require('./channel.js');
const { orEnd } = require('./failure.js');
const { cpuTime, peakMemory } = require('./usage.js');

const IMPORT = /\bimport\b/;
// Taken now: the code may replace it.
const { env: ENVIRONMENT } = process;

class Runs {
  #channel;
  #interrupts;
  #evaluator;
  #typescript;
  #errors;
  #displays;
  #input;
  #current = null;
  #watched = false;

  /** Knows the parts; see worker.js. */
  constructor({ channel, interrupts, evaluator, typescript, errors, displays }) {
    this.#channel = channel;
    this.#interrupts = interrupts;
    this.#evaluator = evaluator;
    this.#typescript = typescript;
    this.#errors = errors;
    this.#displays = displays;
  }

  /** @param {import('./input.js').Input} input - Who asks for it. */
  set input(input) {
    this.#input = input;
  }

  /** Begins a run. */
  begin(order) {
    orEnd(() => this.#begin(order));
  }

  #begin({ code, env, execution_count: count, allow_input: allowInput }) {
    if (!this.#watched) {
      this.#interrupts.waitForWatcher();
      this.#watched = true;
    }
    const run = { code, cell: `<cell-${count}>`, environment: new Environment(env), cpu: cpuTime() };
    this.#current = run;
    this.#interrupts.begin((frames) => this.#onInterrupted(run, frames));
    this.#channel.send(Kind.BEGUN, Buffer.alloc(0));
    this.#input.begin(allowInput);
    let script;
    try {
      script = this.#script(run);
    } catch (error) {
      this.#raise(run, error);
      return;
    }
    this.#evaluator.evaluate(script, run.cell, (raised, value) => {
      if (raised) this.#raise(run, raised.error, raised);
      else if (util.types.isPromise(value)) value.then((it) => this.#succeed(run, it), (it) => this.#raise(run, it));
      else this.#succeed(run, value);
    });
  }

  /**
   * Ends the run that goes on with an error, wherever its code is.
   * @param {unknown} error
   */
  fail(error) {
    if (this.#current === null) return;
    this.#evaluator.renew();
    this.#raise(this.#current, error);
  }

  #script({ code, cell }) {
    // What strips the types is broken for good where it is terminated.
    const script = this.#interrupts.holdOff(() => this.#typescript?.strip(code, cell)) ?? code;
    return IMPORT.test(script) ? this.#interrupts.rewriteImports(script) : script;
  }

  #succeed(run, value) {
    if (run !== this.#current || this.#interrupts.terminating) return;
    try {
      this.#displays.result(value); // which runs code, that may raise, and may be interrupted
    } catch (error) {
      this.#raise(run, error);
      return;
    }
    orEnd(() => this.#end(run, null, false));
  }

  #raise(run, error, found) {
    if (run !== this.#current || this.#interrupts.terminating) return;
    const parsed = found?.line ? { line: found.line, column: found.column, code: run.code } : undefined;
    orEnd(() => {
      // It may be what the interrupt of a child has led to.
      this.#end(run, this.#errors.describe(error, run.cell, parsed), this.#interrupts.wanted);
    });
  }

  #onInterrupted(run, frames) {
    if (run !== this.#current) return;
    orEnd(() => {
      this.#evaluator.renew();
      this.#end(run, this.#errors.interrupted(frames, run.cell), true);
    });
  }

  #end(run, error, interrupted) {
    this.#interrupts.end();
    this.#current = null;
    this.#input.end();
    run.environment.restore();
    if (error) this.#channel.sendJson(Kind.ERROR, error);
    this.#channel.sendJson(Kind.FINISHED, {
      raised: error !== null, interrupted, cpu: Math.max(0, cpuTime() - run.cpu), peak: peakMemory(),
    });
  }
}

/** Environment variables for a time. */
class Environment {
  #before;

  /** @param {Record<string, string>} variables */
  constructor(variables) {
    this.#before = Object.keys(variables).map((name) => [name, ENVIRONMENT[name]]);
    Object.assign(ENVIRONMENT, variables);
  }

  /** Puts back what was there. */
  restore() {
    for (const [name, value] of this.#before) {
      if (value === undefined) delete ENVIRONMENT[name];
      else ENVIRONMENT[name] = value;
    }
  }
}

module.exports = { Runs };
