import { execFileSync } from 'node:child_process'
import { zstdDecompressSync } from 'node:zlib'
import { Fault } from '#core/fault/fault.ts'

/**
 * The ELF file inside a bzImage: booting it directly (PVH) spares the guest seconds of decompression. Offsets are those of
 * the kernel's Documentation/arch/x86/boot.rst: `setup_sects` at 0x1f1, `payload_offset` at 0x248, `payload_length` at 0x24c.
 *
 * @throws Fault `kernel.image` for anything else than an XZ or zstd payload with an ELF file in it
 */
export function extractVmlinux(image: Buffer): Buffer {
  if (image.length < 0x250 || image.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw new Fault('kernel.image', 'no bzImage: the header HdrS is missing')
  }
  const setupSectors = image[0x1f1] || 4
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248)
  // the last four bytes are the length of what comes out
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c) - 4)
  const vmlinux = decompress(payload)
  if (vmlinux.toString('latin1', 1, 4) !== 'ELF')
    throw new Fault('kernel.image', 'the payload of the bzImage is no ELF file')
  return vmlinux
}

function decompress(payload: Buffer): Buffer {
  const magic = payload.toString('hex', 0, 4)
  if (magic === '28b52ffd') return zstdDecompressSync(payload)
  if (magic === 'fd377a58')
    return execFileSync('xz', ['-dc', '--single-stream'], { input: payload, maxBuffer: 2 ** 30 })
  throw new Fault('kernel.image', `the payload of the bzImage begins with ${magic}, which is neither XZ nor zstd`)
}
