import type { Admission, AdmissionTicket } from '../../../core/contract/admission.ts'
import { median } from '../machine.ts'

/** Admission with a stop watch, for the time that is spent in it in the middle of real requests, caches as they are there. */
export interface TimedAdmission extends Admission {
  /** From now on requests are timed; what was collected before is forgotten. */
  start(): void
  /** Ends it. Median us of `admit` and `end` of a request together, what the stop watch itself takes taken off. */
  stop(): number
}

export function timeAdmission(admission: Admission): TimedAdmission {
  let isTiming = false
  let admitUs: number[] = []
  let endUs: number[] = []
  return {
    admit(request) {
      if (!isTiming) return admission.admit(request)
      const startMs = performance.now()
      const ticket = admission.admit(request)
      admitUs.push((performance.now() - startMs) * 1000)
      return timeEnd(ticket, endUs)
    },
    start() {
      isTiming = true
      admitUs = []
      endUs = []
    },
    stop() {
      isTiming = false
      const watch: number[] = []
      for (let round = 0; round < 10_000; round++) {
        const startMs = performance.now()
        watch.push((performance.now() - startMs) * 1000)
      }
      return median(admitUs) + median(endUs) - 2 * median(watch)
    },
  }
}

function timeEnd(ticket: AdmissionTicket, into: number[]): AdmissionTicket {
  const end = ticket.end.bind(ticket)
  ticket.end = (bytesIn, bytesOut) => {
    const startMs = performance.now()
    end(bytesIn, bytesOut)
    into.push((performance.now() - startMs) * 1000)
  }
  return ticket
}
