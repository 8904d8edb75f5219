import { Writer } from '#core/bytes/writer.ts'

export interface CpioEntry {
  /** Relative. A folder has no content. */
  readonly path: string
  readonly mode: number
  readonly content?: Uint8Array
}

/** An archive of the format "newc", which is what an initramfs is (Documentation/driver-api/early-userspace/buffer-format.rst). */
export function packCpio(entries: readonly CpioEntry[]): Uint8Array<ArrayBuffer> {
  const writer = new Writer(1 << 20)
  const text = new TextEncoder()
  const put = ({ path, mode, content = new Uint8Array() }: CpioEntry, inode: number) => {
    const name = text.encode(`${path}\0`)
    // inode, mode, uid, gid, links, time, size, device (4 numbers), length of the name, checksum
    const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0]
    writer.put(text.encode(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`))
    writer.put(name).align(4).put(content).align(4)
  }
  for (const [index, entry] of entries.entries()) put(entry, index + 1)
  put({ path: 'TRAILER!!!', mode: 0 }, 0)
  return writer.finish()
}
