import { CLOSED, SENDING } from '#core/transition/level.ts'
import { encryptionMtu } from './mtu.ts'
import { both, each, hex, ownOf } from './nft-parts.ts'
import { drop, nftChain, within } from './nft-text.ts'
import { answerMark, encryptionDevices, encryptionTypes, hostLevelOf, otherMark, type Snapshot } from './snapshot.ts'

/**
 * With IPsec. Pods ask other nodes' own addresses as their node, in clear and encrypted, so that connections outlive a change. So only
 * the way by which a question came tells the pod's, whose answer is to be encrypted, from its node's own. Connection tracking
 * remembers it for the answers, in bits of the configured mask of its own mark:
 *
 * | mark | it was asked | the answer goes |
 * |---|---|---|
 * | `bits` | encrypted: a pod's for good, whatever somebody says in clear on the same ports | encrypted, or nowhere when closed |
 * | the other one | in clear since this node is closed: by the node itself | as everything of the node's own |
 * | neither | not since: an older connection that is quiet | before this node is closed in clear, then as the first; harmless where it is the node's |
 *
 * What was asked in clear counts only when closed: before that it may have been a pod of a node that steps down, and both
 * may be closed again before it says anything more (transition.test.ts).
 *
 * Nodes' own connections never need the tunnel for longer than until they say something: what repairs a key goes by them.
 */
export function answers(snapshot: Snapshot): string[] {
  const { config } = snapshot
  if (!answersByIpsec(snapshot)) return []
  const { bits, mask } = config.mark
  const rest = hex(~mask >>> 0)
  const devices = `{ ${encryptionDevices(config)
    .map((name) => `"${name}"`)
    .join(', ')} }`
  const asked = (mark: number) => `ct mark set ct mark & ${rest} | ${hex(mark)}`
  const encrypted = `meta mark set meta mark & ${rest} | ${hex(answerMark(config))}`
  return [
    nftChain('asked', 'type filter hook prerouting priority mangle; policy accept;', [
      // with `nodeEncryption` what comes encrypted may be the node's own
      ...both((ip, n) => `iifname ${devices} ct direction original ${ip} saddr @asking${n} ${asked(bits)}`),
      // on from here too: a NodePort's endpoint may be a third node
      ...both((ip, n) => `iifname ${devices} ${ip} saddr @answered${n} ${encrypted}`),
      ...(isClosed(snapshot)
        ? both(
            (ip, n) =>
              `iifname != ${devices} ct direction original ${ip} saddr @answered${n} ct mark & ${hex(mask)} != ${hex(bits)} ${asked(otherMark(config))}`,
          )
        : []),
      // those of pods to a NodePort of this node
      ...both((ip, n) => `${isAnswer(snapshot, ip, n)} ${encrypted}`),
    ]),
    // before what finds hosts' own way anew
    nftChain('answer', 'type route hook output priority mangle - 1; policy accept;', [
      `meta mark & ${hex(mask)} == ${hex(bits)} accept`,
      ...both((ip, n) => `${isAnswer(snapshot, ip, n)} ${encrypted}`),
      // where a socket of the node's own, not known yet, may send more than fits: it is cut (IPv6 has to be told)
      `meta mark & ${hex(mask)} == ${hex(answerMark(config))} meta length > ${leastMtu(snapshot)} ip frag-off & 0x4000 != 0 ip frag-off set 0`,
    ]),
  ]
}

/** There are such answers, or there may be at any moment. */
export function answersByIpsec(snapshot: Snapshot): boolean {
  return hostLevel(snapshot) >= SENDING
}

/** Nothing of that kind goes in clear: with a node that is closed and has nothing but IPsec. */
function isClosed(snapshot: Snapshot): boolean {
  return hostLevel(snapshot) === CLOSED
}

function hostLevel({ config, self }: Snapshot): number {
  return hostLevelOf(config, self.announcement.level)
}

function leastMtu(snapshot: Snapshot): number {
  return Math.min(...encryptionTypes(snapshot.config).map((type) => encryptionMtu(snapshot, type)))
}

/**
 * A host's socket knows the way in clear alone. Where a pod's connection promised it larger packets than fit encrypted, it
 * would be told of a lower MTU, and with it all that goes to that node.
 */
export function fittingAnswers(snapshot: Snapshot): string[] {
  if (!answersByIpsec(snapshot)) return []
  const mtu = leastMtu(snapshot)
  return both((ip, n) => {
    // IP's header and TCP's
    const size = mtu - (n === 4 ? 40 : 60)
    return `${ip} daddr @nodes${n} tcp flags & (syn | rst) == syn tcp option maxseg size > ${size} tcp option maxseg size set ${size}`
  })
}

function isAnswer(snapshot: Snapshot, ip: 'ip' | 'ip6', family: 4 | 6): string {
  const { bits, mask } = snapshot.config.mark
  const whose = isClosed(snapshot) ? `!= ${hex(otherMark(snapshot.config))}` : `== ${hex(bits)}`
  return `ct direction reply ct original ${ip} saddr @answered${family} ct mark & ${hex(mask)} ${whose}`
}

/** Closed, the last look: between pods and other nodes' own addresses nothing goes in clear. */
export function podsToHosts(snapshot: Snapshot): string[] {
  if (!isClosed(snapshot)) return []
  const { bits, mask } = snapshot.config.mark
  const refused = drop('would_leave_in_clear')
  return [
    // by now they have this node's address
    ...each(ownOf(snapshot), (ip, own, n) =>
      within(`ct original ${ip} saddr`, own).map((from) => `${from} ${ip} daddr @guarded${n} ${refused}`),
    ),
    ...both((ip, n) => `ct mark & ${hex(mask)} == ${hex(bits)} ${ip} daddr @guarded${n} ${refused}`),
    ...both((ip, n) => `meta mark & ${hex(mask)} != ${hex(bits)} ${isAnswer(snapshot, ip, n)} ${refused}`),
    // Of what comes from the encryption device and leaves by it again (a NodePort with its endpoint on a third node) the
    // kernel tells the sender a shorter way: in clear, with the packet in it. Connection tracking knows nothing of that.
    'icmp type redirect ip daddr @nodes4 drop',
    'icmpv6 type nd-redirect ip6 daddr @nodes6 drop',
  ]
}
