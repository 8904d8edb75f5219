import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { unwrap } from '#core/fault/result.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { IPPROTO_ESP } from '#core/netlink/xfrm.ts'
import type { XfrmPolicy } from '#core/netlink/xfrm-policy.ts'
import { parseXfrmStat } from '#core/netlink/xfrm-stat.ts'
import { XFRM_STATE_ESN, type XfrmState } from '#core/netlink/xfrm-state.ts'
import { inNetworkNamespace } from '#io/kernel/network-namespace.ts'
import { XfrmClient } from '#io/kernel/xfrm-client.ts'
import { openNftables } from '#io/sys/libc.ts'

/**
 * A node of IPsec in a namespace: 192.0.2.N, pods 10.244.N.0/24. States that receive are told apart by a mark that
 * nftables takes from the source of what arrives, since the kernel looks at destination, SPI, protocol and mark alone.
 */
export interface TunnelNode {
  readonly number: number
  readonly name: string
  readonly xfrm: XfrmClient
}

export const ip = (...args: readonly string[]) => execFileSync('ip', args, { encoding: 'utf8' })
const outer = (number: number) => requireIp(`192.0.2.${number}`, 'test')
const pods = (number: number) => requireCidr(`10.244.${number}.0/24`, 'test')
const inside = <T>(name: string, run: () => T) => inNetworkNamespace(`/run/netns/${name}`, run)

/** Node 1 is wired to each of the others; what arrives in clear is counted. */
export function makeNodes(prefix: string, count: number): readonly TunnelNode[] {
  const nodes = Array.from({ length: count }, (_, i): TunnelNode => {
    const [number, name] = [i + 1, `${prefix}${i + 1}`]
    ip('netns', 'add', name)
    ip('-n', name, 'link', 'set', 'lo', 'up')
    ip('-n', name, 'addr', 'add', `10.244.${number}.1/32`, 'dev', 'lo')
    return { number, name, xfrm: inside(name, () => new XfrmClient()) }
  })
  const [hub, ...others] = nodes
  for (const other of others) {
    if (hub === undefined) break
    const [near, far] = [`eth${other.number}`, 'eth1']
    ip('link', 'add', near, 'netns', hub.name, 'type', 'veth', 'peer', 'name', far, 'netns', other.name)
    wire(hub, near, other)
    wire(other, far, hub)
  }
  for (const node of nodes) inside(node.name, () => markByPeer(nodes.filter((one) => one !== node)))
  return nodes
}

export function removeNodes(nodes: readonly TunnelNode[]): void {
  for (const { name, xfrm } of nodes) {
    xfrm.close()
    ip('netns', 'del', name)
  }
}

function wire(node: TunnelNode, device: string, peer: TunnelNode): void {
  const own = outer(node.number)
  ip('-n', node.name, 'addr', 'add', own, 'peer', `${outer(peer.number)}/32`, 'dev', device)
  ip('-n', node.name, 'link', 'set', device, 'up')
  ip(
    '-n',
    node.name,
    'route',
    'add',
    pods(peer.number),
    'via',
    outer(peer.number),
    'dev',
    device,
    'src',
    `10.244.${node.number}.1`,
  )
}

function markByPeer(peers: readonly TunnelNode[]): void {
  const nft = openNftables()
  const marks = peers.map(({ number }) => `${outer(number)} : ${decryptMark(number)}`)
  nft.run(`table inet pk {
    map marks { type ipv4_addr : mark; elements = { ${marks.join(', ')} } }
    counter clear { }
    chain arriving {
      type filter hook prerouting priority mangle;
      ip protocol esp meta mark set ip saddr map @marks
      ip saddr 10.244.0.0/16 iifname "eth*" meta ipsec missing counter name clear
    }
  }`)
  nft.close()
}

/** As Cilium's: 0xD00 | node id << 16. */
function decryptMark(number: number): number {
  return 0xd00 | (number << 16)
}

/** Packets from pods that arrived unencrypted. */
export function arrivedInClear({ name }: TunnelNode): number {
  const text = execFileSync('ip', ['netns', 'exec', name, 'nft', 'list', 'counter', 'inet', 'pk', 'clear'], {
    encoding: 'utf8',
  })
  return Number(/packets (\d+)/.exec(text)?.[1] ?? Number.NaN)
}

/** Of the node's namespace, without those that are 0. */
export function drops({ name }: Pick<TunnelNode, 'name'>): Record<string, number> {
  const all = unwrap(parseXfrmStat(inside(name, () => readFileSync('/proc/thread-self/net/xfrm_stat', 'utf8'))))
  return Object.fromEntries(Object.entries(all).filter(([, count]) => count > 0))
}

/** How `from` sends to `to`, at either of the two: the receiver's differs by its marks. */
export function stateOf(from: TunnelNode, to: TunnelNode, at: TunnelNode, spi: number, keyByte: number): XfrmState {
  const receives = at === to
  return {
    source: outer(from.number),
    destination: outer(to.number),
    spi,
    protocol: IPPROTO_ESP,
    mode: 'tunnel',
    reqid: 1,
    crypto: { aead: { name: 'rfc4106(gcm(aes))', key: new Uint8Array(20).fill(keyByte + from.number), icvBytes: 16 } },
    flags: XFRM_STATE_ESN,
    replay: { sent: 0n, received: 0n, window: 1024 },
    outputMark: receives ? { value: 0xd00, mask: 0xffff0f00 } : { value: 0xe00, mask: 0xf00 },
    ...(receives ? { mark: { value: decryptMark(from.number), mask: 0xffff0f00 } } : {}),
  }
}

/** `out` by that SPI; `in` and `fwd` take any state of the pair. */
export function policyOf(
  from: TunnelNode,
  to: TunnelNode,
  direction: XfrmPolicy['direction'],
  spi: number,
): XfrmPolicy {
  return {
    selector: { source: pods(from.number), destination: pods(to.number) },
    direction,
    priority: 100,
    action: 'allow',
    templates: [
      {
        source: outer(from.number),
        destination: outer(to.number),
        protocol: IPPROTO_ESP,
        mode: 'tunnel',
        reqid: 1,
        spi: direction === 'out' ? spi : 0,
      },
    ],
  }
}

/** Both ends of both directions of a pair, receiving first. */
export function connect(one: TunnelNode, two: TunnelNode, spi: number, keyByte: number): void {
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const) {
    to.xfrm.change({ do: 'add state', state: stateOf(from, to, to, spi, keyByte) })
    from.xfrm.change({ do: 'add state', state: stateOf(from, to, from, spi, keyByte) })
    for (const direction of ['in', 'fwd'] as const) {
      to.xfrm.change({ do: 'set policy', policy: policyOf(from, to, direction, spi) })
    }
    from.xfrm.change({ do: 'set policy', policy: policyOf(from, to, 'out', spi) })
  }
}
