import { nearest } from '#core/api/nearest.ts'
import { Fault } from '#core/fault/fault.ts'
import { NEW_KEY_ALGORITHMS, type NewKeyAlgorithm } from '#core/ipsec/new-key-text.ts'

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
