// A process of its own that asks `HEAD` over raw keep-alive sockets, as fast as answers come: cheap, so that the server and
// not this client is the bottleneck. Its one argument and its one line of output are JSON.
import { once } from 'node:events'
import { connect } from 'node:net'

export interface HeadLoad {
  readonly host: string
  readonly port: number
  readonly seconds: number
  /** Results of the first so many seconds do not count. */
  readonly warmSeconds: number
  readonly groups: readonly HeadGroup[]
}

export interface HeadGroup {
  readonly name: string
  readonly path: string
  readonly connections: number
  /** From an answer to the next request of the connection, on average (evenly between half and one and a half); 0 = none. */
  readonly thinkMs?: number
}

export interface HeadOutcome {
  readonly reports: readonly HeadReport[]
  /** Processor time of this client in the measured time, of one processor: near 1 the client is what was measured. */
  readonly clientLoad: number
}

export interface HeadReport {
  readonly name: string
  readonly shed: number
  /** Of each answer 200 in the measured time, from the write of the request; sorted. */
  readonly latenciesMs: readonly number[]
}

export async function headLoad(load: HeadLoad): Promise<HeadOutcome> {
  const fromMs = performance.now() + load.warmSeconds * 1000
  const untilMs = fromMs + load.seconds * 1000
  let clientLoad = 0
  setTimeout(() => {
    const before = process.cpuUsage()
    setTimeout(
      () => {
        const { user, system } = process.cpuUsage(before)
        clientLoad = (user + system) / (load.seconds * 1e6)
      },
      load.seconds * 1000 - 1,
    )
  }, load.warmSeconds * 1000)
  const reports = await Promise.all(
    load.groups.map(async ({ name, path, connections, thinkMs = 0 }) => {
      const latenciesMs: number[] = []
      let shed = 0
      const request = `HEAD ${path} HTTP/1.1\r\nhost: ${load.host}:${load.port}\r\n\r\n`
      const connection = async (): Promise<void> => {
        const socket = connect({ host: load.host, port: load.port, noDelay: true })
        socket.setEncoding('latin1')
        await once(socket, 'connect')
        let answer = ''
        let sentMs = performance.now()
        const send = (): void => {
          sentMs = performance.now()
          socket.write(request)
        }
        socket.on('data', (text: string) => {
          answer += text
          if (!answer.endsWith('\r\n\r\n')) return
          const now = performance.now()
          const status = answer.slice(9, 12)
          answer = ''
          if (now >= untilMs) {
            socket.end()
            return
          }
          if (status === '503') {
            if (now >= fromMs) shed++
            setTimeout(send, 50)
            return
          }
          if (status !== '200') throw new Error(`${name}: answered ${status}`)
          if (now >= fromMs) latenciesMs.push(now - sentMs)
          if (thinkMs > 0) setTimeout(send, thinkMs * (0.5 + Math.random()))
          else send()
        })
        setTimeout(send, thinkMs * Math.random())
        await once(socket, 'close')
      }
      await Promise.all(Array.from({ length: connections }, connection))
      latenciesMs.sort((left, right) => left - right)
      return { name, shed, latenciesMs: latenciesMs.map((ms) => Math.round(ms * 1000) / 1000) }
    }),
  )
  return { reports, clientLoad }
}

const argument = process.argv[2]
if (import.meta.filename === process.argv[1] && argument !== undefined) {
  process.stdout.write(JSON.stringify(await headLoad(JSON.parse(argument))))
}
