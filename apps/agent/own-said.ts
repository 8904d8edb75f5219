import { type CiliumNode, type NodeAnnouncement, readCiliumNode } from '#core/api/cilium-node.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import type { Known } from './view.ts'

export function ownWords(known: Known): Pick<NodeAnnouncement, 'bootId'> & { words: IpsecWords | undefined } {
  const said = ownSaid(known)
  return { bootId: said?.bootId, words: said?.ipsec }
}

/** What this node's CiliumNode says of it. */
export function ownSaid({ node, ciliumNodes }: Known): NodeAnnouncement | undefined {
  const own = ofName(ciliumNodes, node.name)
  return own === undefined ? undefined : readCiliumNode(own)
}

export function ofName(ciliumNodes: readonly CiliumNode[], name: string): CiliumNode | undefined {
  return ciliumNodes.find(({ metadata }) => metadata.name === name)
}
