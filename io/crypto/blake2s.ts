/**
 * BLAKE2s (RFC 7693), keyed or not, and the HKDF of the Noise specification (4.3) with HMAC-BLAKE2s: node:crypto has
 * neither a keyed BLAKE2s nor an HMAC that is cheap to begin, and a handshake takes about a hundred compressions
 * (docs/adr/0010-handshakes.md has the figures). No branch and no address depends on what is hashed.
 *
 * One hash at a time is under way, in the scratch space of this module, which is overwritten at the end of each call.
 */

const BLAKE2S_BYTES = 32
const BLOCK = 64

const IV = Int32Array.of(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19)

/** RFC 7693, 2.7: which words of the block each round takes, in hexadecimal. */
const S = Uint8Array.from(
  '0123456789abcdef' +
    'ea489fd61c02b753' +
    'b8c052fdae367194' +
    '7931dcbe265a40f8' +
    '905724afe1bc683d' +
    '2c6a0b834d75fe19' +
    'c51fed4a0763928b' +
    'db7ec13950f4862a' +
    '6fe9b308c2d714a5' +
    'a2847615fb9e3cd0',
  (digit) => Number.parseInt(digit, 16),
)

const h = new Int32Array(8)
/** As bytes: this machine is little endian, as all are that Node runs on. */
const words = new Uint8Array(h.buffer)
const m = new Int32Array(16)
const block = new Uint8Array(m.buffer)
/** Bytes in the block, and bytes in all. */
let filled = 0
let total = 0

/** BLAKE2s of the parts, one after the other; with a key of 1 to 32 bytes the keyed hash. `length`: 1 to 32. */
export function blake2s(parts: readonly Uint8Array[], length = BLAKE2S_BYTES, key?: Uint8Array): Uint8Array {
  begin(length, key?.length ?? 0)
  if (key !== undefined) {
    absorb(key)
    block.fill(0, filled)
    filled = BLOCK
    total = BLOCK
  }
  for (const part of parts) absorb(part)
  const digest = finish(length)
  clean()
  return digest
}

/** HKDF(chainingKey, input): `count` outputs of 32 bytes. */
export function hkdf(chainingKey: Uint8Array, input: Uint8Array, count: number): Uint8Array[] {
  pad(chainingKey, input.length === 0)
  const temporary = hmac(input)
  pad(temporary, false)
  temporary.fill(0)
  const outputs: Uint8Array[] = []
  for (let i = 1; i <= count; i++) outputs.push(hmac(outputs.at(-1) ?? NOTHING, i))
  inner.fill(0)
  outer.fill(0)
  clean()
  return outputs
}

const NOTHING = new Uint8Array(0)
/** HMAC's states after its two pads, of the key that was padded last. */
const inner = new Int32Array(8)
const outer = new Int32Array(8)

/** `key`: at most a block. `alone`: no text follows, so the inner pad is the last block. */
function pad(key: Uint8Array, alone: boolean): void {
  fold(key, 0x36, alone, inner)
  fold(key, 0x5c, false, outer)
}

function fold(key: Uint8Array, byte: number, alone: boolean, state: Int32Array): void {
  begin(BLAKE2S_BYTES, 0)
  block.fill(byte)
  for (let i = 0; i < key.length; i++) block[i] = (key[i] as number) ^ byte
  compress(BLOCK, alone ? -1 : 0)
  state.set(h)
}

/** Of `data`, and of one more byte if there is one; of nothing only after a pad that is `alone`. */
function hmac(data: Uint8Array, byte?: number): Uint8Array {
  resume(inner)
  absorb(data)
  if (byte !== undefined) append(byte)
  const digest = total === BLOCK ? result(BLAKE2S_BYTES) : finish(BLAKE2S_BYTES)
  resume(outer)
  absorb(digest)
  digest.fill(0)
  return finish(BLAKE2S_BYTES)
}

function begin(length: number, keyLength: number): void {
  h.set(IV)
  h[0] = (IV[0] as number) ^ 0x01010000 ^ (keyLength << 8) ^ length
  filled = 0
  total = 0
}

function resume(state: Int32Array): void {
  h.set(state)
  filled = 0
  total = BLOCK
}

/** The last block waits: only the end tells that it is the last. */
function absorb(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    if (filled === BLOCK) next()
    const count = Math.min(BLOCK - filled, bytes.length - at)
    for (let i = 0; i < count; i++) block[filled + i] = bytes[at + i] as number
    at += count
    filled += count
    total += count
  }
}

function append(byte: number): void {
  if (filled === BLOCK) next()
  block[filled++] = byte
  total++
}

function next(): void {
  compress(total, 0)
  filled = 0
}

function finish(length: number): Uint8Array {
  block.fill(0, filled)
  compress(total, -1)
  return result(length)
}

function result(length: number): Uint8Array {
  return words.slice(0, length)
}

function clean(): void {
  h.fill(0)
  m.fill(0)
}

/** `bytes`: in all so far, below 2^31; `last`: −1 for the last block. */
function compress(bytes: number, last: number): void {
  let v0 = h[0] as number
  let v1 = h[1] as number
  let v2 = h[2] as number
  let v3 = h[3] as number
  let v4 = h[4] as number
  let v5 = h[5] as number
  let v6 = h[6] as number
  let v7 = h[7] as number
  let v8 = IV[0] as number
  let v9 = IV[1] as number
  let va = IV[2] as number
  let vb = IV[3] as number
  let vc = (IV[4] as number) ^ bytes
  let vd = IV[5] as number
  let ve = (IV[6] as number) ^ last
  let vf = IV[7] as number
  // biome-ignore format: a line is half a mixing step
  for (let r = 0; r < 160; r += 16) {
    v0 = (v0 + v4 + (m[S[r] as number] as number)) | 0; vc ^= v0; vc = (vc >>> 16) | (vc << 16); v8 = (v8 + vc) | 0; v4 ^= v8; v4 = (v4 >>> 12) | (v4 << 20)
    v0 = (v0 + v4 + (m[S[r + 1] as number] as number)) | 0; vc ^= v0; vc = (vc >>> 8) | (vc << 24); v8 = (v8 + vc) | 0; v4 ^= v8; v4 = (v4 >>> 7) | (v4 << 25)
    v1 = (v1 + v5 + (m[S[r + 2] as number] as number)) | 0; vd ^= v1; vd = (vd >>> 16) | (vd << 16); v9 = (v9 + vd) | 0; v5 ^= v9; v5 = (v5 >>> 12) | (v5 << 20)
    v1 = (v1 + v5 + (m[S[r + 3] as number] as number)) | 0; vd ^= v1; vd = (vd >>> 8) | (vd << 24); v9 = (v9 + vd) | 0; v5 ^= v9; v5 = (v5 >>> 7) | (v5 << 25)
    v2 = (v2 + v6 + (m[S[r + 4] as number] as number)) | 0; ve ^= v2; ve = (ve >>> 16) | (ve << 16); va = (va + ve) | 0; v6 ^= va; v6 = (v6 >>> 12) | (v6 << 20)
    v2 = (v2 + v6 + (m[S[r + 5] as number] as number)) | 0; ve ^= v2; ve = (ve >>> 8) | (ve << 24); va = (va + ve) | 0; v6 ^= va; v6 = (v6 >>> 7) | (v6 << 25)
    v3 = (v3 + v7 + (m[S[r + 6] as number] as number)) | 0; vf ^= v3; vf = (vf >>> 16) | (vf << 16); vb = (vb + vf) | 0; v7 ^= vb; v7 = (v7 >>> 12) | (v7 << 20)
    v3 = (v3 + v7 + (m[S[r + 7] as number] as number)) | 0; vf ^= v3; vf = (vf >>> 8) | (vf << 24); vb = (vb + vf) | 0; v7 ^= vb; v7 = (v7 >>> 7) | (v7 << 25)
    v0 = (v0 + v5 + (m[S[r + 8] as number] as number)) | 0; vf ^= v0; vf = (vf >>> 16) | (vf << 16); va = (va + vf) | 0; v5 ^= va; v5 = (v5 >>> 12) | (v5 << 20)
    v0 = (v0 + v5 + (m[S[r + 9] as number] as number)) | 0; vf ^= v0; vf = (vf >>> 8) | (vf << 24); va = (va + vf) | 0; v5 ^= va; v5 = (v5 >>> 7) | (v5 << 25)
    v1 = (v1 + v6 + (m[S[r + 10] as number] as number)) | 0; vc ^= v1; vc = (vc >>> 16) | (vc << 16); vb = (vb + vc) | 0; v6 ^= vb; v6 = (v6 >>> 12) | (v6 << 20)
    v1 = (v1 + v6 + (m[S[r + 11] as number] as number)) | 0; vc ^= v1; vc = (vc >>> 8) | (vc << 24); vb = (vb + vc) | 0; v6 ^= vb; v6 = (v6 >>> 7) | (v6 << 25)
    v2 = (v2 + v7 + (m[S[r + 12] as number] as number)) | 0; vd ^= v2; vd = (vd >>> 16) | (vd << 16); v8 = (v8 + vd) | 0; v7 ^= v8; v7 = (v7 >>> 12) | (v7 << 20)
    v2 = (v2 + v7 + (m[S[r + 13] as number] as number)) | 0; vd ^= v2; vd = (vd >>> 8) | (vd << 24); v8 = (v8 + vd) | 0; v7 ^= v8; v7 = (v7 >>> 7) | (v7 << 25)
    v3 = (v3 + v4 + (m[S[r + 14] as number] as number)) | 0; ve ^= v3; ve = (ve >>> 16) | (ve << 16); v9 = (v9 + ve) | 0; v4 ^= v9; v4 = (v4 >>> 12) | (v4 << 20)
    v3 = (v3 + v4 + (m[S[r + 15] as number] as number)) | 0; ve ^= v3; ve = (ve >>> 8) | (ve << 24); v9 = (v9 + ve) | 0; v4 ^= v9; v4 = (v4 >>> 7) | (v4 << 25)
  }
  h[0] = (h[0] as number) ^ v0 ^ v8
  h[1] = (h[1] as number) ^ v1 ^ v9
  h[2] = (h[2] as number) ^ v2 ^ va
  h[3] = (h[3] as number) ^ v3 ^ vb
  h[4] = (h[4] as number) ^ v4 ^ vc
  h[5] = (h[5] as number) ^ v5 ^ vd
  h[6] = (h[6] as number) ^ v6 ^ ve
  h[7] = (h[7] as number) ^ v7 ^ vf
}
