import { ByteWriter } from './byte-writer.ts'

/** The module with a custom section at its end. How a builder puts the manifest and the golden vectors into a policy. */
export function appendCustomSection(
  module: Uint8Array,
  name: string,
  content: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const section = new ByteWriter(content.length + name.length + 8).name(name).write(content).written()
  return new ByteWriter(module.length + section.length + 8)
    .write(module)
    .byte(0)
    .sized(section)
    .written()
    .slice()
}
