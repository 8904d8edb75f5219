import { ok } from '#core/fault/result.ts'
import type { DerivedKey, DerivedPeer, KeyForm } from '#core/ipsec/pair-derivation.ts'
import { derivePairKeys } from '#core/ipsec/pair-key.ts'
import { wipeCrypto, xfrmCrypto, xfrmFingerprint } from '#core/ipsec/xfrm-crypto.ts'
import type { XfrmCrypto } from '#core/netlink/xfrm-algorithm.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'

export type WantedState = DerivedKey<XfrmCrypto>
export type WantedXfrmPeer = DerivedPeer<XfrmCrypto>

/** What a state of XFRM takes; which algorithms there are says the kernel. */
export const XFRM_KEYS: KeyForm<XfrmCrypto> = {
  require: () => undefined,
  derive: (key, source, destination) => {
    const pair = derivePairKeys(key, source, destination, ipsecHash)
    return pair.ok ? ok(xfrmCrypto(key, pair.value)) : pair
  },
  fingerprint: (crypto) => xfrmFingerprint(crypto, ipsecHash),
  wipe: wipeCrypto,
}
