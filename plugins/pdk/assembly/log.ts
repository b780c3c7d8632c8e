@external("pando1", "log")
declare function hostLog(level: i32, address: usize, byteLength: i32): void

export namespace LogLevel {
  export const Debug: i32 = 0
  export const Info: i32 = 1
  export const Warn: i32 = 2
  export const Error: i32 = 3
}

const capacity: i32 = 512
let line: usize = 0

/** Tells the host's log, ASCII only, at most 512 characters. For `pando_init`: a line for each request would be dropped. */
export function log(level: i32, text: string): void {
  if (line == 0) line = heap.alloc(<usize>capacity)
  const byteLength = min(text.length, capacity)
  for (let index = 0; index < byteLength; index++) {
    const code = <u32>load<u16>(changetype<usize>(text) + (<usize>index << 1))
    store<u8>(line + <usize>index, code < 128 ? <u8>code : 63)
  }
  hostLog(level, line, byteLength)
}
