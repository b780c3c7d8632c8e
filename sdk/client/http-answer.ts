/** What the client needs of an answer: fetch's Response has it, and so has what Node's own HTTP brings. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: AnswerHeaders
  readonly body: AnswerBody | null
  text(): Promise<string>
  arrayBuffer(): Promise<ArrayBuffer>
}

/** Names in lower case; values as fetch gives them: one character a byte, repeated headers joined by `, `. */
export interface AnswerHeaders {
  get(name: string): string | null
  forEach(visit: (value: string, name: string) => void): void
}

export interface AnswerBody {
  getReader(): AnswerReader
}

export interface AnswerReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>
  cancel(): Promise<void>
}

/** An answer that is at hand already. */
export function answerOf(status: number, text: string): HttpAnswer {
  return new Response(text, { status })
}
