import { createHmac } from 'node:crypto'

/** The console as a program sees it that is not our SDK: one HTTP request at a time, with a cookie that it keeps or not. */
export interface ConsoleAnswer {
  readonly status: number
  /** Of an error of the console; otherwise empty. */
  readonly code: string
  readonly headers: Headers
  readonly text: string
}

export const consoleHeaders: Readonly<Record<string, string>> = {
  'content-type': 'application/json',
  'x-pando-console': '1',
}

export async function askConsole(
  url: string,
  init: RequestInit & { headers?: Record<string, string> } = {},
): Promise<ConsoleAnswer> {
  const response = await fetch(url, { redirect: 'manual', ...init })
  const text = await response.text()
  let code = ''
  try {
    code = (JSON.parse(text) as { error?: { code?: string } }).error?.code ?? ''
  } catch {
    // Not every answer is JSON.
  }
  return { status: response.status, code, headers: response.headers, text }
}

export const postConsole = (
  url: string,
  body: unknown = {},
  headers: Record<string, string> = { ...consoleHeaders },
): Promise<ConsoleAnswer> =>
  askConsole(url, { method: 'POST', headers, body: typeof body === 'string' ? body : JSON.stringify(body) })

/** What `/api/login` takes, for a challenge that was asked for now. */
export async function proveAtConsole(
  consoleUrl: string,
  accessKeyId: string,
  secretKey: string,
): Promise<{ readonly accessKeyId: string; readonly challenge: string; readonly proof: string }> {
  const { text } = await postConsole(`${consoleUrl}/api/login/challenge`)
  const { challenge } = JSON.parse(text) as { challenge: string }
  const key = createHmac('sha256', secretKey).update('pando-console-v1').digest()
  const lines = ['pando-console-v1', challenge, accessKeyId].join('\n')
  return { accessKeyId, challenge, proof: createHmac('sha256', key).update(lines).digest('hex') }
}

/** The cookie of a new session. */
export const cookieOf = ({ headers }: ConsoleAnswer): string => headers.getSetCookie()[0]?.split(';')[0] ?? ''
