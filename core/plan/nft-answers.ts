import { SENDING } from '#core/transition/level.ts'
import { both, each, hex, isClosed, ownOf } from './nft-parts.ts'
import { drop, nftChain, within } from './nft-text.ts'
import { answerMark, encryptionDevices, otherMark, type Snapshot } from './snapshot.ts'

/**
 * Pods ask other nodes' own addresses as their node, in clear and encrypted, so that connections outlive a change. So only
 * the way by which a question came tells the pod's, whose answer is to be encrypted, from its node's own. Connection tracking
 * remembers it for the answers, in bits of the configured mask of its own mark:
 *
 * | mark | it was asked | the answer goes |
 * |---|---|---|
 * | `bits` | encrypted: a pod's for good, whatever somebody says in clear on the same ports | encrypted, or nowhere when closed |
 * | another, by level | in clear, at that level: closed, by the node itself | as everything of the node's own |
 * | any else | not at this level: an older connection that is quiet | as the first; harmless where it is the node's |
 *
 * By level, since before a node is closed, one that steps down may ask it for its pods in clear (transition.test.ts).
 * Nodes' own connections never need the tunnel for longer than until they say something: what repairs a key goes by them.
 */
export function answers(snapshot: Snapshot): string[] {
  const { config, self } = snapshot
  if (self.announcement.level < SENDING) return []
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
      ...both(
        (ip, n) =>
          `iifname != ${devices} ct direction original ${ip} saddr @answered${n} ct mark & ${hex(mask)} != ${hex(bits)} ${asked(clearMark(snapshot))}`,
      ),
      // those of pods to a NodePort of this node
      ...both((ip, n) => `${isAnswer(snapshot, ip, n)} ${encrypted}`),
    ]),
    // before what finds hosts' own way anew
    nftChain('answer', 'type route hook output priority mangle - 1; policy accept;', [
      `meta mark & ${hex(mask)} == ${hex(bits)} accept`,
      ...both((ip, n) => `${isAnswer(snapshot, ip, n)} ${encrypted}`),
    ]),
  ]
}

function clearMark(snapshot: Snapshot): number {
  return isClosed(snapshot) ? otherMark(snapshot.config) : answerMark(snapshot.config)
}

function isAnswer(snapshot: Snapshot, ip: 'ip' | 'ip6', family: 4 | 6): string {
  const notClear = `ct mark & ${hex(snapshot.config.mark.mask)} != ${hex(clearMark(snapshot))}`
  return `ct direction reply ct original ${ip} saddr @answered${family} ${notClear}`
}

/** Closed, the last look: between pods and other nodes' own addresses nothing goes in clear. */
export function podsToHosts(snapshot: Snapshot): string[] {
  const { bits, mask } = snapshot.config.mark
  const refused = drop('would_leave_in_clear')
  return [
    // by now they have this node's address
    ...each(ownOf(snapshot), (ip, own, n) =>
      within(`ct original ${ip} saddr`, own).map((from) => `${from} ${ip} daddr @guarded${n} ${refused}`),
    ),
    ...both((ip, n) => `ct mark & ${hex(mask)} == ${hex(bits)} ${ip} daddr @guarded${n} ${refused}`),
    ...both((ip, n) => `meta mark & ${hex(mask)} != ${hex(bits)} ${isAnswer(snapshot, ip, n)} ${refused}`),
  ]
}
