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
  readonly groups: readonly { readonly name: string; readonly path: string; readonly connections: number }[]
}

export interface HeadReport {
  readonly name: string
  /** Answers 200 in the measured time. */
  readonly completed: number
  readonly shed: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export async function headLoad(load: HeadLoad): Promise<readonly HeadReport[]> {
  const fromMs = performance.now() + load.warmSeconds * 1000
  const untilMs = fromMs + load.seconds * 1000
  return await Promise.all(
    load.groups.map(async ({ name, path, connections }) => {
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
          send()
        })
        send()
        await once(socket, 'close')
      }
      await Promise.all(Array.from({ length: connections }, connection))
      latenciesMs.sort((left, right) => left - right)
      const at = (share: number): number => latenciesMs[Math.floor(latenciesMs.length * share)] ?? 0
      return { name, completed: latenciesMs.length, shed, p50Ms: at(0.5), p99Ms: at(0.99) }
    }),
  )
}

const argument = process.argv[2]
if (import.meta.filename === process.argv[1] && argument !== undefined) {
  process.stdout.write(JSON.stringify(await headLoad(JSON.parse(argument))))
}
