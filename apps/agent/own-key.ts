import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { Fault } from '#core/fault/fault.ts'
import { KEY_BYTES, type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'
import { readSmallFile, writeFileAtomic } from '#io/store/file.ts'

/** This node's WireGuard key pair. The private half is never logged, and never replaced because it looks wrong. */
export interface OwnKey {
  readonly privateKey: Uint8Array
  readonly publicKey: PublicKey
}

/**
 * Reads the key file (32 raw bytes, mode 0600: as Cilium's), or makes it when there is none.
 * Rejects with Fault `key.length` or `key.mode`: whoever meets that decides, since a new key cuts off every peer that
 * still has the old one.
 */
export async function loadOwnKey(path: string): Promise<OwnKey> {
  const found = await readSmallFile(path)
  if (found !== undefined) {
    await checkFile(path, found)
    return keyPair(found)
  }
  const made = clamp(new Uint8Array(randomBytes(KEY_BYTES)))
  await writeFileAtomic(path, made, 0o600)
  return keyPair(made)
}

async function checkFile(path: string, content: Uint8Array): Promise<void> {
  const remedy = `Restore the 32 bytes, or move ${path} away and restart the agent: it then makes a new key and tells its peers.`
  if (content.length !== KEY_BYTES) {
    const message = `the key file ${path} has ${content.length} bytes, not ${KEY_BYTES}`
    throw new Fault('key.length', message, { field: path, remedy })
  }
  if (content.every((byte) => byte === 0)) {
    throw new Fault('key.zero', `the key file ${path} holds only zeros`, { field: path, remedy })
  }
  const { mode, uid } = await stat(path)
  if ((mode & 0o077) !== 0) {
    throw new Fault('key.mode', `the key file ${path} may be read by others (mode ${(mode & 0o777).toString(8)})`, {
      field: path,
      remedy: `chmod 600 ${path} if nobody else has read it; otherwise remove it, and the agent makes a new key.`,
    })
  }
  if (uid !== process.getuid?.()) {
    throw new Fault('key.owner', `the key file ${path} belongs to user ${uid}`, {
      field: path,
      remedy: `chown ${process.getuid?.() ?? 0} ${path} if it is this node's key; otherwise remove it.`,
    })
  }
}

function keyPair(privateKey: Uint8Array): OwnKey {
  const key = createPrivateKey({ key: privateKey, format: 'raw-private', asymmetricKeyType: 'x25519' })
  const raw = createPublicKey(key).export({ format: 'raw-public' })
  return { privateKey, publicKey: publicKeyOf(new Uint8Array(raw)) }
}

/** RFC 7748 section 5: as `wg genkey` writes them, so that every tool shows the same bytes. */
function clamp(bytes: Uint8Array): Uint8Array {
  bytes[0] = (bytes[0] ?? 0) & 248
  bytes[31] = ((bytes[31] ?? 0) & 127) | 64
  return bytes
}
