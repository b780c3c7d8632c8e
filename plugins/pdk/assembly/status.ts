/** What a hook answers. */
export namespace Status {
  /** The output holds the decision. */
  export const Decided: i32 = 0
  /** The next policy, or the built-in decision, decides. */
  export const Abstain: i32 = 1
  /** To a brief question: the same one follows with all its fields. */
  export const AskWhole: i32 = 2
}

// Room for the longest message that the host reads.
const capacity: i32 = 1024
let address: usize = 0
let length: i32 = 0

/** Exports: the message of the last `fail`. */
export function pando_error_ptr(): usize {
  return address
}

export function pando_error_len(): i32 {
  return length
}

/** `return fail('...')`: refuses a configuration, or says that a hook cannot decide. */
export function fail(message: string): i32 {
  length = 0
  appendToFailure(message)
  return -1
}

/** Goes on with the message. What does not fit is left out. */
export function appendToFailure(text: string): void {
  for (let index = 0; index < text.length; index++) {
    const code = <u32>load<u16>(changetype<usize>(text) + (<usize>index << 1))
    // Messages are the author's own words; what is not ASCII in them becomes a question mark.
    appendByte(code < 128 ? <u8>code : 63)
  }
}

export function appendBytesToFailure(from: usize, byteLength: i32): void {
  for (let index = 0; index < byteLength; index++) appendByte(load<u8>(from + <usize>index))
}

function appendByte(byte: u8): void {
  if (address == 0) address = heap.alloc(<usize>capacity)
  if (length < capacity) {
    store<u8>(address + <usize>length, byte)
    length += 1
  }
}
