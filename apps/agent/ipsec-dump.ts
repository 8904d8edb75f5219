import type { IpsecAssociation, IpsecState } from '#core/datapath/datapath.ts'
import type { IpsecKey } from '#core/ipsec/key.ts'
import { derivePairKeys } from '#core/ipsec/pair-key.ts'
import { xfrmCrypto, xfrmFingerprint } from '#core/ipsec/xfrm-crypto.ts'
import type { IpsecPlan } from '#core/plan/plan.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'

/** `cilium-dbg encrypt dump-xfrm`: one association. */
export interface DumpedState {
  readonly direction: 'in' | 'out'
  readonly node?: string
  readonly source: string
  readonly destination: string
  readonly spi: number
  readonly encapsulation: 'udp' | 'none'
  readonly algorithm: string
  /** Of the derived key: the same at both ends. */
  readonly fingerprint: string
  readonly sequence: string
  readonly packets: string
  readonly bytes: string
  /** Hexadecimal; only when asked for, and only where this agent can derive it again. */
  readonly key?: string
  readonly 'authentication-key'?: string
}

/** `derive`: with which the keys are shown as well. */
export function describeAssociations(
  state: IpsecState | undefined,
  derive: { readonly ipsec: IpsecPlan; readonly keys: readonly IpsecKey[] } | undefined,
): readonly DumpedState[] {
  return (state?.associations ?? []).map((one) => ({
    direction: one.direction,
    ...(one.node === undefined ? {} : { node: one.node }),
    source: one.source,
    destination: one.destination,
    spi: one.spi,
    encapsulation: one.encapsulation,
    algorithm: one.algorithm,
    fingerprint: one.fingerprint,
    sequence: one.sequence.toString(),
    packets: one.packets.toString(),
    bytes: one.bytes.toString(),
    ...(derive === undefined ? {} : keysOf(one, derive)),
  }))
}

function keysOf(
  { direction, node, source, destination, spi, fingerprint }: IpsecAssociation,
  { ipsec, keys }: { readonly ipsec: IpsecPlan; readonly keys: readonly IpsecKey[] },
): Partial<DumpedState> {
  const theirs = ipsec.peers.find((peer) => peer.node === node)?.bootId ?? ''
  const [from, to] = direction === 'out' ? [ipsec.bootId, theirs] : [theirs, ipsec.bootId]
  for (const key of keys.filter(({ id }) => id === spi)) {
    const derived = derivePairKeys(key, { ip: source, bootId: from }, { ip: destination, bootId: to }, ipsecHash)
    if (!derived.ok || xfrmFingerprint(xfrmCrypto(key, derived.value), ipsecHash) !== fingerprint) continue
    const { encryptionKey, authenticationKey } = derived.value
    return {
      key: Buffer.from(encryptionKey).toString('hex'),
      ...(authenticationKey.length === 0
        ? {}
        : { 'authentication-key': Buffer.from(authenticationKey).toString('hex') }),
    }
  }
  return {}
}
