// How long the long test files take, and how busy they keep the machine: what test-queue.mjs plans with. A wrong number costs time,
// never a result; `npm test` ends with the times of the longest files, and with the processor time of all.

/** Of files of test/: seconds in a run of all tests on two cores, and processor seconds of the file and all that it starts. */
const known = {
  'e2e/aws-cli': [50, 37],
  'e2e/failover': [45, 30],
  'e2e/hostile-connections': [52, 12],
  'e2e/kill-loop': [125, 101],
  'e2e/qos-isolation': [62, 27],
  'e2e/region': [300, 400],
  'e2e/sdk/faults': [46, 15],
  'e2e/top': [26, 13],
  // Without KVM: the guest's processor is emulated.
  'lab/rdma-transport': [250, 250],
}
export const knownFiles = Object.keys(known)

/** A file that is not in the table, by its suite: so many seconds, and the cores that it keeps busy meanwhile. */
const suites = {
  native: { seconds: 60, cores: 1 },
  simulation: { seconds: 60, cores: 1 },
  lab: { seconds: 40, cores: 0.8 },
  e2e: { seconds: 15, cores: 0.8 },
  conformance: { seconds: 5, cores: 0.5 },
}
const otherSuite = { seconds: 2, cores: 0.6 }

/** Seconds, and how many cores it keeps busy on average. */
export function expectedOf(file) {
  const [, name = '', suite = ''] = /(?:^|\/)test\/((\w+)\/.*)\.test\.js$/.exec(file) ?? []
  const [seconds, cpuSeconds] = known[name] ?? []
  return seconds === undefined ? (suites[suite] ?? otherSuite) : { seconds, cores: cpuSeconds / seconds }
}

/** The longest first; of equals the first. */
export function byLength(files) {
  return files.toSorted((one, other) => expectedOf(other).seconds - expectedOf(one).seconds)
}
