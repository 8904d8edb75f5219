import type { IpsecHash } from './hash.ts'
import type { IpsecKey, KeyFingerprint } from './key.ts'

const LABEL = 'pellicle ipsec key fingerprint v1'

/**
 * Names a key text in public: on the CiliumNode, in logs and status. The first 8 bytes of SHA-256 over a label,
 * algorithm names, ICV and keys, each with its length. The id is left out, so that a key that comes again under another
 * id is seen.
 *
 * It tells nothing of a key with 128 bits of entropy or more (key-text.ts refuses shorter ones): all that can be done with
 * it is to try keys, 2^127 on average, and each try at the wrong key fits by chance with 2^-64, so that not even a hit is
 * certain. Of a key that somebody can guess it is a way to test the guess, as each packet is (SECURITY.md).
 *
 * Being cut, it cannot be extended to the hash of anything longer; being labelled at the front, it is no value of the
 * derivation in pair-key.ts, which has the key there. Two texts that somebody did not make for it have equal fingerprints
 * with 2^-64.
 */
export function keyFingerprint(key: Omit<IpsecKey, 'id' | 'fingerprint'>, hash: IpsecHash): KeyFingerprint {
  const text = new TextEncoder()
  const parts = [LABEL, key.encryptionAlgorithm, key.authenticationAlgorithm ?? ''].map((name) => text.encode(name))
  const digest = hash.sha256(
    ...[...parts, Uint8Array.of(key.icvBytes), key.encryptionKey, key.authenticationKey].flatMap(withLength),
  )
  return digest.subarray(0, 8).toHex() as KeyFingerprint
}

function withLength(part: Uint8Array): Uint8Array[] {
  return [Uint8Array.of(part.length), part]
}
