import type { Screen, ScreenEvent } from '../terminal.ts'

const enter = '\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J'
const leave = '\x1b[?7h\x1b[?25h\x1b[?1049l'
const endSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** The screen of this process; undefined where standard output is a file, a pipe, or a terminal that can do nothing. */
export function processScreen(): Screen | undefined {
  const { stdin, stdout } = process
  if (!stdout.isTTY || process.env['TERM'] === 'dumb') return undefined
  return {
    hasColour: (process.env['NO_COLOR'] ?? '') === '',
    size: () => ({ columns: stdout.columns || 80, rows: stdout.rows || 24 }),
    open(listener) {
      const onResize = (): void => listener({ kind: 'resize' })
      const onEnd = (): void => listener({ kind: 'end' })
      const onKey = (bytes: Buffer): void => {
        for (const key of bytes.toString('utf8')) listener(eventOf(key))
      }
      let isOpen = true
      const close = (): void => {
        if (!isOpen) return
        isOpen = false
        stdout.off('resize', onResize)
        for (const signal of endSignals) process.off(signal, onEnd)
        process.off('exit', close)
        if (stdin.isTTY) {
          stdin.off('data', onKey)
          stdin.off('end', onEnd)
          stdin.setRawMode(false)
          stdin.pause()
        }
        stdout.write(leave)
      }
      stdout.on('resize', onResize)
      for (const signal of endSignals) process.on(signal, onEnd)
      // Whatever ends the process: the terminal is given back as it was.
      process.on('exit', close)
      if (stdin.isTTY) {
        stdin.setRawMode(true)
        stdin.on('data', onKey)
        stdin.on('end', onEnd)
        stdin.resume()
      }
      stdout.write(enter)
      return { [Symbol.dispose]: close }
    },
  }
}

/** In raw mode Ctrl-C and Ctrl-D are keys. */
function eventOf(key: string): ScreenEvent {
  return key === '\x03' || key === '\x04' ? { kind: 'end' } : { kind: 'key', key }
}
