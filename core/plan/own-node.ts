import { compareIp, FAMILIES, type Family, type Ip } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, containsCidr, containsIp } from '#core/ip/cidr.ts'
import { CLEAR, RECEIVING } from '#core/transition/level.ts'
import type { EncryptionType } from '#core/transition/mode.ts'
import { CONFIG_OBJECT, nodeObject, type Problem } from './problem.ts'
import { answerMark, encryptionTypes, ipsecShape, type Snapshot, uses } from './snapshot.ts'

/** kube-proxy marks with 0x4000 what it masquerades, kubelet with 0x8000 what it drops (ADR 0004). */
const KUBERNETES_MARKS = 0xc000

/** The families that pods of this node have addresses of. */
export function familiesOf(snapshot: Snapshot): readonly Family[] {
  return FAMILIES.filter((family) => snapshot.self.internalIps[family] !== undefined)
}

/** While anything may come or go encrypted: a device is there. */
export function hasEncryption(snapshot: Pick<Snapshot, 'config' | 'self'>): boolean {
  return encryptionTypes(snapshot.config).some((type) => hasDevice(snapshot, type))
}

export function hasDevice({ config, self }: Pick<Snapshot, 'config' | 'self'>, type: EncryptionType): boolean {
  const able = type === 'ipsec' ? self.ipsec !== undefined : self.publicKey !== undefined
  return uses(config, type) && self.announcement.level >= RECEIVING && able
}

export function ofFamily(cidrs: readonly Cidr[], family: Family): readonly Cidr[] {
  return cidrs.filter((cidr) => cidrFamily(cidr) === family)
}

export function inAny(cidrs: readonly Cidr[], ip: Ip): boolean {
  return cidrs.some((cidr) => containsIp(cidr, ip))
}

/** Why no plan can be made at all; while there is one, what is there stays as it is. */
export function refusals({ config, self }: Snapshot): readonly Problem[] {
  const problems: Problem[] = []
  const own = (code: string, message: string, remedy: string) =>
    problems.push({ code, object: nodeObject(self.name), message, remedy })
  if (config.clusterCidrs.length === 0) {
    problems.push({
      code: 'config.cluster-cidrs.missing',
      object: CONFIG_OBJECT,
      message: 'the cluster CIDRs are not known, so a pod CIDR not seen yet would leave by the default route in clear',
      remedy: 'Set the cluster CIDRs at install (--set pellicle.clusterCIDRs) and restart the agents',
    })
  }
  const { bits, mask } = config.mark
  if (bits === 0 || (bits & ~mask) !== 0 || (mask & KUBERNETES_MARKS) !== 0) {
    problems.push({
      code: 'config.mark.invalid',
      object: CONFIG_OBJECT,
      message: `the mark 0x${bits.toString(16)}/0x${mask.toString(16)} is zero, outside its mask, or touches bits 14 and 15, which belong to kube-proxy and kubelet`,
      remedy: 'Choose a mark such as 0xe00/0xf00',
    })
  }
  // of IPsec's: VXLAN that is to be encrypted, and answers to pods
  const encrypts = config.encryption.enabled || self.announcement.level > CLEAR
  const marks = uses(config, 'ipsec') && (encrypts || ipsecShape(config) === 'vxlan-in-esp')
  if (marks && answerMark(config) === 0) {
    problems.push({
      code: 'config.mark.too-narrow',
      object: CONFIG_OBJECT,
      message: `the mark 0x${bits.toString(16)}/0x${mask.toString(16)} leaves no others for what IPsec is to encrypt`,
      remedy: 'Choose a mask of two bits or more, such as 0xe00/0xf00',
    })
  }
  const nodeIps = [self.nodeIps[4], self.nodeIps[6]].filter((ip) => ip !== undefined).sort(compareIp)
  if (nodeIps.length === 0) {
    own(
      'node.ip.missing',
      `node ${self.name} has no address`,
      `Give node ${self.name} an InternalIP (kubelet --node-ip)`,
    )
  }
  for (const ip of nodeIps) {
    if (!inAny(config.clusterCidrs, ip)) continue
    own(
      'node.ip.in-cluster-cidr',
      `node address ${ip} lies inside the cluster CIDRs ${config.clusterCidrs.join(', ')}, which are for pods alone`,
      'Use pod CIDRs that do not overlap the network of the nodes',
    )
  }
  if (self.podCidrs.length === 0) {
    own(
      'node.pod-cidr.missing',
      `node ${self.name} has no pod CIDR`,
      'Let the controller manager allocate one (--allocate-node-cidrs) or choose another IPAM mode',
    )
  }
  for (const cidr of self.podCidrs) {
    if (config.clusterCidrs.some((outer) => containsCidr(outer, cidr))) continue
    own(
      'node.pod-cidr.outside',
      `pod CIDR ${cidr} of node ${self.name} is not inside the cluster CIDRs ${config.clusterCidrs.join(', ')}`,
      'Add it to the cluster CIDRs and restart the agents',
    )
  }
  for (const family of FAMILIES) {
    const ip = self.internalIps[family]
    if (ip === undefined || inAny(self.podCidrs, ip)) continue
    own(
      'node.internal-ip.outside',
      `internal IP ${ip} of node ${self.name} is not inside its pod CIDRs ${self.podCidrs.join(', ')}`,
      'Remove the persisted address, so that the agent takes another, and restart it',
    )
  }
  if (self.podCidrs.length > 0 && familiesOf({ config, self, peers: [], endpoints: [] }).length === 0) {
    own(
      'node.internal-ip.missing',
      `node ${self.name} has no internal IP`,
      'Free an address in the pod CIDR; the agent takes it by itself',
    )
  }
  return problems
}

/** What is wrong with this node without keeping a plan from being made. */
export function ownProblems({ config, self }: Snapshot): readonly Problem[] {
  if (self.announcement.level === CLEAR) return []
  const missing = (message: string, remedy: string): Problem => ({
    code: 'node.key.missing',
    object: nodeObject(self.name),
    message: `node ${self.name} has no ${message}`,
    remedy,
  })
  const problems: Problem[] = []
  if (uses(config, 'ipsec') && (self.ipsec?.receive.length ?? 0) === 0) {
    problems.push(
      missing(
        'IPsec key, so its pods reach no other node',
        "Create the Secret with the keys; the agent's log says which one it looks for and what is wrong with it",
      ),
    )
  }
  if (uses(config, 'wireguard') && self.publicKey === undefined) {
    problems.push(
      missing(
        'WireGuard key, so its pods reach no other node',
        "See the agent's log for why the key file could not be made or read",
      ),
    )
  }
  return problems
}
