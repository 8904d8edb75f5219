import type { EngineKeys } from '#core/engine/association.ts'
import { Fault } from '#core/fault/fault.ts'
import type { KeyForm } from '#core/ipsec/pair-derivation.ts'
import { deriveEngineKeys, engineFingerprint, supportedInUserspace } from '#core/ipsec/userspace.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'

/** What SET_SENDING and SET_RECEIVING take, of the algorithms that the engine has. */
export const ENGINE_KEYS: KeyForm<EngineKeys> = {
  require: (key) => {
    const support = supportedInUserspace(key)
    if (support.supported) return
    throw new Fault('datapath.algorithm', support.missing, { field: `key id ${key.id}`, remedy: support.remedy })
  },
  derive: (key, source, destination) => deriveEngineKeys(key, source, destination, ipsecHash),
  fingerprint: (keys) => engineFingerprint(keys, ipsecHash),
  wipe: ({ encryption, authentication }) => {
    encryption.fill(0)
    authentication.fill(0)
  },
}
