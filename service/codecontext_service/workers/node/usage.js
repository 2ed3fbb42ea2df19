'use strict';

/** What this process uses of the machine. */

const fs = require('node:fs');

const { readFileSync } = fs;
const resourceUsage = process.resourceUsage.bind(process);
/** Clock ticks in a second, which Linux has fixed for programs. */
const TICKS = 100;

/** Returns the CPU time of this process and of its children that have ended, in seconds. */
function cpuTime() {
  const { userCPUTime, systemCPUTime } = resourceUsage();
  return (userCPUTime + systemCPUTime) / 1e6 + childrenCpuTime();
}

function childrenCpuTime() {
  try {
    const stat = readFileSync('/proc/self/stat', 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // from the third one on
    return (Number(fields[13]) + Number(fields[14])) / TICKS;
  } catch {
    return 0;
  }
}

/** Returns the most memory that it has had, in bytes. */
function peakMemory() {
  return resourceUsage().maxRSS * 1024;
}

module.exports = { cpuTime, peakMemory };
