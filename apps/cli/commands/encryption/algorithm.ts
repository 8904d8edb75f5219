import { nearest } from '#core/api/nearest.ts'
import { Fault } from '#core/fault/fault.ts'
import { NEW_KEY_ALGORITHMS, type NewKeyAlgorithm } from '#core/ipsec/new-key-text.ts'

/** What `rotate-key` called them before `create-key` was there (cilium-cli up to 1.18, `encrypt/ipsec_key_rotator.go`). */
const OLDER_NAMES: Readonly<Record<string, NewKeyAlgorithm>> = {
  'gcm-aes': 'rfc4106-gcm-aes',
  'hmac-sha256': 'cbc-aes-sha256',
  'hmac-sha512': 'cbc-aes-sha512',
}

/** Of `rotate-key`. @returns undefined: as before. @throws Fault as the next */
export function requestedAlgorithm(name: string | undefined): NewKeyAlgorithm | undefined {
  if (name === undefined || name === '') return undefined
  return Object.hasOwn(OLDER_NAMES, name) ? OLDER_NAMES[name] : requireAlgorithm(name)
}

/** @throws Fault with Cilium's sentence */
export function requireAlgorithm(name: string): NewKeyAlgorithm {
  const known = NEW_KEY_ALGORITHMS.find((algorithm) => algorithm === name)
  if (known !== undefined) return known
  const close = nearest(name, NEW_KEY_ALGORITHMS)
  throw new Fault(
    'encryption.auth-algo',
    `Input params are invalid: auth-algo has invalid value: ${/^[\w().,-]{1,40}$/.test(name) ? name : '(not shown)'}`,
    {
      field: '--auth-algo',
      remedy: close === undefined ? `There are ${NEW_KEY_ALGORITHMS.join(', ')}` : `Did you mean ${close}?`,
    },
  )
}
