/** Export: address of so many bytes, a multiple of 16, never given back. The host calls it while loading, never later. */
export function pando_alloc(bytes: i32): usize {
  return heap.alloc(<usize>bytes)
}
