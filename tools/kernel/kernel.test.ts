import assert from 'node:assert/strict'
import { test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { packCpio } from './cpio.ts'
import { extractVmlinux } from './vmlinux.ts'

test('an archive has each entry at a multiple of 4, and its end', () => {
  const text = new TextEncoder()
  const archive = packCpio([
    { path: 'bin', mode: 0o040755 },
    { path: 'bin/ab', mode: 0o100755, content: text.encode('hello') },
  ])
  // reads it as the kernel's init/initramfs.c does
  const found: [name: string, mode: number, content: string][] = []
  for (let at = 0; ; ) {
    const header = Buffer.from(archive.subarray(at, at + 110)).toString('latin1')
    assert.equal(header.slice(0, 6), '070701')
    const field = (index: number) => Number.parseInt(header.slice(6 + index * 8, 14 + index * 8), 16)
    const [mode, size, nameSize] = [field(1), field(6), field(11)]
    const name = Buffer.from(archive.subarray(at + 110, at + 110 + nameSize - 1)).toString('latin1')
    const start = Math.ceil((at + 110 + nameSize) / 4) * 4
    if (name === 'TRAILER!!!') break
    found.push([name, mode, Buffer.from(archive.subarray(start, start + size)).toString('latin1')])
    at = Math.ceil((start + size) / 4) * 4
  }
  assert.deepEqual(found, [
    ['bin', 0o040755, ''],
    ['bin/ab', 0o100755, 'hello'],
  ])
})

test('the ELF file of a bzImage is found, and what is none is refused by name', () => {
  const bzImage = (payload: Buffer): Buffer => {
    const image = Buffer.alloc(1024 + 16 + payload.length + 4)
    image[0x1f1] = 1
    image.write('HdrS', 0x202, 'latin1')
    image.writeUInt32LE(16, 0x248)
    image.writeUInt32LE(payload.length + 4, 0x24c)
    payload.copy(image, 1024 + 16)
    return image
  }
  const elf = Buffer.from('\x7fELF and what follows', 'latin1')
  assert.deepEqual(extractVmlinux(bzImage(zstdCompressSync(elf))), elf)
  assert.throws(() => extractVmlinux(bzImage(zstdCompressSync(Buffer.from('text')))), /is no ELF file/)
  assert.throws(() => extractVmlinux(bzImage(Buffer.from('\x1f\x8bgzip', 'latin1'))), /neither XZ nor zstd/)
  assert.throws(() => extractVmlinux(Buffer.from('short')), /HdrS is missing/)
})
