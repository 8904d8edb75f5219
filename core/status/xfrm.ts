/**
 * The kernel's counters of failed IPsec packets (Documentation/networking/xfrm_proc.rst), which the engine counts by as well:
 * what each means, what to do, and what Cilium's metric calls it (`cilium_ipsec_xfrm_error{type,error}`).
 */
export interface XfrmMeaning {
  readonly type: 'inbound' | 'outbound'
  readonly error: string
  readonly means: string
  readonly todo: string
}

const ROTATE = 'cilium encryption rotate-key gives all nodes a new key'

export const XFRM: Readonly<Record<string, XfrmMeaning>> = {
  XfrmInError: {
    ...inbound('other'),
    means: 'decrypted, but it could not be handed on (no memory, or no route for it)',
    todo: 'A few while pods end are usual; many: is pellicle_ipsec up (ip link)?',
  },
  XfrmInHdrError: {
    ...inbound('header'),
    means: 'no ESP packet, or a damaged one',
    todo: 'Damaged on the way, or something else sends to the port or protocol of ESP',
  },
  XfrmInNoStates: {
    ...inbound('no_state'),
    means: 'for a key that this node does not receive by, or from a node that it does not know',
    todo: 'A few while a node boots are usual; many: compare the keys of both nodes (pellicle encryption status)',
  },
  XfrmInStateProtoError: {
    ...inbound('state_protocol'),
    means: 'not encrypted by the key that this node has under that id',
    todo: `The key text was changed without a new id, or somebody forges; ${ROTATE}`,
  },
  XfrmInStateModeError: {
    ...inbound('state_mode'),
    means: 'decrypted, but no IP packet',
    todo: 'The peer is of another release, or misbehaves',
  },
  XfrmInStateSeqError: {
    ...inbound('state_sequence'),
    means: 'a number that was there already, or is too old',
    todo: 'Duplicated or much reordered on the way, or somebody replays',
  },
  XfrmInTmplMismatch: {
    ...inbound('template_mismatched'),
    means: 'decrypted, but its source is no address of that node',
    todo: 'Compare the CiliumNodes of both ends (kubectl get ciliumnodes -o yaml)',
  },
  XfrmOutNoStates: {
    ...outbound('no_state'),
    means: 'for a node that has no key in common with this one',
    todo: 'See Problem in cilium-dbg status for the node and what its key is',
  },
  XfrmOutStateSeqError: {
    ...outbound('state_sequence'),
    means: 'the key has used all its numbers',
    todo: ROTATE,
  },
  XfrmOutError: {
    ...outbound('other'),
    means: 'the kernel did not take the encrypted packet',
    todo: 'Is there a route to the node, and does a firewall of this node let ESP or UDP 4500 out?',
  },
}

/** Of the kernel datapath alone. */
export const XFRM_OF_KERNEL: Readonly<Record<string, XfrmMeaning>> = {
  XfrmOutPolBlock: {
    ...outbound('policy_blocked'),
    means: 'for a node that there is no key to send to by yet, or for no node',
    todo: 'A few while a node boots are usual; many: see Problem in cilium-dbg status for the node and what its key is',
  },
  XfrmInPolBlock: {
    ...inbound('policy_blocked'),
    means: 'decrypted, but its source is no address of any node',
    todo: 'Compare the CiliumNodes of both ends (kubectl get ciliumnodes -o yaml)',
  },
  XfrmInNoPols: {
    ...inbound('no_policy'),
    means: 'decrypted, but somebody removed the policies that would let it in',
    todo: 'The agent puts them back; its log says when: look for what else uses ip xfrm on this node',
  },
  XfrmInStateMismatch: {
    ...inbound('state_mismatched'),
    means: 'in UDP, though the node was to send it without, or the other way round',
    todo: 'A few while udpEncapsulation is changed are usual; many: do both agents have the same configuration?',
  },
  XfrmInStateInvalid: {
    ...inbound('state_invalid'),
    means: 'for a key that was just removed',
    todo: 'A few during a rotation are usual',
  },
  XfrmAcquireError: {
    ...outbound('acquire'),
    means: 'wanted a key from an IKE daemon, and there is none',
    todo: 'Keys come from the agent here; somebody else has policies of his own (ip xfrm policy)',
  },
}

/** What it means, and what to do. */
export function xfrmSentence(name: string): string {
  const meaning = meaningOf(name)
  if (meaning !== undefined) return `${meaning.means}. ${meaning.todo}`
  return 'of another release, or see xfrm_proc in the documentation of the kernel'
}

/** Those that are not zero, by name. */
export function xfrmErrors(counters: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  const found = Object.entries(counters).filter(([name, count]) => name.startsWith('Xfrm') && count > 0)
  return Object.fromEntries(found.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Also of a counter that is not in {@link XFRM}: a newer engine's. */
export function xfrmMetric(name: string): { readonly type: 'inbound' | 'outbound'; readonly error: string } {
  const { type, error } = XFRM[name] ?? (name.startsWith('XfrmOut') ? outbound('other') : inbound('other'))
  return { type, error }
}

function meaningOf(name: string): XfrmMeaning | undefined {
  if (Object.hasOwn(XFRM, name)) return XFRM[name]
  return Object.hasOwn(XFRM_OF_KERNEL, name) ? XFRM_OF_KERNEL[name] : undefined
}

function inbound(error: string): { readonly type: 'inbound'; readonly error: string } {
  return { type: 'inbound', error }
}

function outbound(error: string): { readonly type: 'outbound'; readonly error: string } {
  return { type: 'outbound', error }
}
