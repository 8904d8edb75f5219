import { IPSEC_WORDS_ANNOTATION } from '#core/ipsec/words.ts'
import { READING_ANNOTATION } from '#core/transition/greeting.ts'
import { LEVEL_ANNOTATION } from '#core/transition/level.ts'
import { MODE_ANNOTATION } from '#core/transition/mode.ts'

/** Names that other programs see: Cilium's where Cilium has one (the guides use them), ours under `pellicle.io/`. */

export const NAMESPACE = 'kube-system'
export const CONFIG_MAP = 'cilium-config'
export const AGENT_DAEMONSET = 'cilium'
export const AGENT_CONTAINER = 'cilium-agent'
export const OPERATOR_DEPLOYMENT = 'cilium-operator'
export const OPERATOR_LEASE = 'cilium-operator-resource-lock'
export const KEEPER_DAEMONSET = 'pellicle-keeper'

export const CONTROL_PLANE_LABEL = 'node-role.kubernetes.io/control-plane'

export const ANNOTATION = {
  /** On CiliumNode: the node's public key, base64. */
  publicKey: 'network.cilium.io/wg-pub-key',
  /** Read where the other is missing; never written. */
  publicKeyAlias: 'io.cilium.network.wg-pub-key',
  /** On CiliumNode, written by its agent: how far this node is on the way from clear to closed. */
  level: LEVEL_ANNOTATION,
  /** On CiliumNode, written by its agent: where this node is between WireGuard and IPsec. */
  mode: MODE_ANNOTATION,
  /**
   * On CiliumNode, written by its agent: `on` from when this node sends nothing in clear to other nodes' own addresses
   * (`nodeEncryption`, and not opted out), else `off`.
   */
  nodeEncryption: 'pellicle.io/node-encryption',
  /** On CiliumNode, written by its agent: what it says of its IPsec keys. */
  ipsecKeys: IPSEC_WORDS_ANNOTATION,
  /** On CiliumNode, written by its agent beside {@link ipsecKeys}: up to where it receives from all others. */
  ipsecRead: READING_ANNOTATION,
  /** On CiliumNode: `requested` (written by the CLI's uninstall), then `done` or `failed: WHY` (written by the agent). */
  cleanup: 'pellicle.io/cleanup',
  /**
   * On CiliumNode, written by its agent with `ipam: cluster-pool`: the prefixes of which nothing leaves here by another way
   * than to the node that has it. The operator gives nobody a pod CIDR outside of what all guard.
   */
  guards: 'pellicle.io/guarded-cidrs',
  /** On CiliumNode, written by its agent: version of the agent. */
  agentVersion: 'pellicle.io/agent-version',
  /** On CiliumNode, written by its agent: which datapath encrypts. */
  datapath: 'pellicle.io/datapath',
} as const

/** Values of {@link ANNOTATION.cleanup}. */
export const CLEANUP = { requested: 'requested', done: 'done', failed: 'failed: ' } as const
