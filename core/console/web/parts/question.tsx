import type { ComponentChildren, RefObject } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { useAction } from '../poll.ts'
import { Failure } from './frame.tsx'

/**
 * A window over the page; Escape closes it. The focus goes back where it was, or to `focusAfter` if that is set by then: what was there
 * may be gone with the answer.
 */
export function Dialog({
  title,
  onClose,
  focusAfter,
  children,
}: {
  readonly title: string
  readonly onClose: () => void
  readonly focusAfter?: RefObject<HTMLElement | null>
  readonly children: ComponentChildren
}) {
  const element = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const before = document.activeElement
    element.current?.showModal()
    return () => {
      const after = focusAfter?.current ?? before
      if (after instanceof HTMLElement) after.focus()
    }
  }, [focusAfter])
  return (
    <dialog ref={element} aria-labelledby="dialog-title" onClose={onClose} onCancel={onClose}>
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  )
}

/** Tells what was done; without it nothing was. */
export type Close<T = string> = (done?: T) => void

/** The question of a page that is open, if any, and what was done by the last one. `refresh`: what is shown is another then. */
export function useQuestion<Asked>(refresh: () => void): {
  readonly asked: Asked | undefined
  readonly ask: (question: Asked) => void
  readonly close: Close
  readonly said: string
} {
  const [asked, setAsked] = useState<Asked | undefined>(undefined)
  const [said, setSaid] = useState('')
  const close = (done?: string): void => {
    setAsked(undefined)
    if (done === undefined) return
    setSaid(done)
    refresh()
  }
  return { asked, ask: (question) => setAsked(() => question), close, said }
}

/** Something that is done when a person says so: what it is, its one action, and the way back. What fails is told in it. */
export function Question<T = string>({
  title,
  action,
  busyAction = action,
  risky = false,
  ready = true,
  top,
  work,
  onClose,
  children,
}: {
  readonly title: string
  readonly action: string
  /** What the action is called while it runs. */
  readonly busyAction?: string
  readonly risky?: boolean
  readonly ready?: boolean
  /** Takes the focus when it is done: the row that asked may be gone. */
  readonly top?: RefObject<HTMLElement | null>
  /** Answers what was done. */
  readonly work: () => Promise<T>
  readonly onClose: Close<T>
  readonly children: ComponentChildren
}) {
  const { busy, error, run } = useAction()
  const focusAfter = useRef<HTMLElement | null>(null)
  return (
    <Dialog title={title} focusAfter={focusAfter} onClose={() => onClose()}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          if (busy || !ready) return
          run(async () => {
            const done = await work()
            focusAfter.current = top?.current ?? null
            onClose(done)
          })
        }}
      >
        {children}
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={() => onClose()}>
            Cancel
          </button>
          <button type="submit" class={risky ? 'danger' : 'main'} disabled={busy || !ready}>
            {busy ? busyAction : action}
          </button>
        </div>
      </form>
    </Dialog>
  )
}

export function Check({
  checked,
  onChange,
  children,
}: {
  readonly checked: boolean
  readonly onChange: (checked: boolean) => void
  readonly children: ComponentChildren
}) {
  return (
    <label class="check">
      <input type="checkbox" checked={checked} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span>{children}</span>
    </label>
  )
}

/** The settings of a policy. */
export function ConfigField({
  value,
  onChange,
}: {
  readonly value: string
  readonly onChange: (value: string) => void
}) {
  return (
    <label>
      Configuration (JSON)
      <textarea
        rows={3}
        spellcheck={false}
        class="mono"
        value={value}
        onInput={(event) => onChange(event.currentTarget.value)}
      />
    </label>
  )
}
