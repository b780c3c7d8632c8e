import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import { webEnvironment } from '../../../sdk/client/environment.ts'
import { isLoggedOut, sentence } from './errors.ts'

export interface Polled<T> {
  readonly value: T | undefined
  /** Of the last attempt; the value before stays. */
  readonly error: string | undefined
  readonly refresh: () => void
}

type Listener = () => void
let onLogout: Listener = () => undefined
/** Called when the node says that there is no session any more. */
export const whenLoggedOut = (listener: Listener): void => {
  onLogout = listener
}

/** Asks again and again while the page is looked at; one request at a time. */
export function usePoll<T>(ask: (signal: AbortSignal) => Promise<T>, everyMs = 2000, key = ''): Polled<T> {
  const [state, setState] = useState<{ key: string; value?: T; error?: string }>({ key })
  const latest = useRef(ask)
  latest.current = ask
  const [round, setRound] = useState(0)
  useEffect(() => {
    const stopped = new AbortController()
    let cancel = (): void => undefined
    const run = async (): Promise<void> => {
      try {
        if (!document.hidden || round === 0) {
          const value = await latest.current(stopped.signal)
          if (!stopped.signal.aborted) setState({ key, value })
        }
      } catch (error) {
        if (stopped.signal.aborted) return
        if (isLoggedOut(error)) return onLogout()
        const text = sentence(error)
        setState((before) => ({ ...(before.key === key ? before : { key }), error: text }))
      }
      if (!stopped.signal.aborted) cancel = webEnvironment.after(everyMs, () => void run())
    }
    void run()
    return () => {
      cancel()
      stopped.abort()
    }
  }, [everyMs, key, round])
  const refresh = useCallback(() => setRound((before) => before + 1), [])
  const { value, error } = state.key === key ? state : {}
  return { value, error, refresh }
}

/** Something that a person has asked for: while it runs it is not asked for again. */
export function useAction(): {
  readonly busy: boolean
  readonly error: string | undefined
  readonly run: (work: () => Promise<void>) => void
} {
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<string | undefined>(undefined)
  const run = useCallback((work: () => Promise<void>) => {
    setBusy(true)
    setError(undefined)
    work()
      .catch((reason: unknown) => {
        if (isLoggedOut(reason)) onLogout()
        setError(sentence(reason))
      })
      .finally(() => setBusy(false))
  }, [])
  return { busy, error, run }
}
