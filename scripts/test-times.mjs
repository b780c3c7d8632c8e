// How long the long test files take, and how busy they keep the machine: what test-queue.mjs plans with. A wrong number costs time,
// never a result; `npm test` ends with the times of the longest files, and with the processor time of all.

/** Of files of test/, alone on a quiet machine with two cores: seconds, and processor seconds of the file and all that it starts. */
const known = {}

/** A file that is not in the table. It may compute all the time: so much as to have a core to itself. */
const unknown = { seconds: 3, cores: 1 }

export const knownFiles = Object.keys(known)

/** Seconds, and how many cores it keeps busy on average. */
export function expectedOf(file) {
  const [seconds, cpuSeconds] = known[/(?:^|\/)test\/(.*)\.test\.js$/.exec(file)?.[1] ?? ''] ?? []
  return seconds === undefined ? unknown : { seconds, cores: cpuSeconds / seconds }
}

/** The longest first; of equals the first. */
export function byLength(files) {
  return files.toSorted((one, other) => expectedOf(other).seconds - expectedOf(one).seconds)
}
