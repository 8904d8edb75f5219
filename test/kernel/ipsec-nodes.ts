import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { IpsecDevice, IpsecPeer, IpsecSettings } from '#core/datapath/datapath.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { IpsecKey, KeyFingerprint } from '#core/ipsec/key.ts'
import { KernelDatapath } from '#io/kernel/kernel-datapath.ts'

/**
 * Nodes of the kernel's IPsec in namespaces on one bridge: 192.0.2.N and 2001:db8::N, pods 10.244.N.0/24 and fd0N::/64, of
 * which the first address is there. Steering is what it comes down to: a route into the device. What goes between pods on
 * the wire in clear is counted at every node.
 */
export interface IpsecNode {
  readonly number: number
  readonly name: string
  datapath: KernelDatapath
  bootId: string
}

export const DEVICE = 'pellicle_ipsec'
const SWITCH = 'pk-ks-switch'
export const ip = (...args: readonly string[]) => execFileSync('ip', args, { encoding: 'utf8' })
const folder = mkdtempSync(join(tmpdir(), 'pk-ks-'))
export const removeFolder = () => rmSync(folder, { recursive: true })

export type Encapsulation = IpsecPeer['encapsulation']

export async function makeNodes(count: number, mtu = 1400): Promise<readonly IpsecNode[]> {
  removeNamespaces()
  ip('netns', 'add', SWITCH)
  ip('-n', SWITCH, 'link', 'add', 'br0', 'type', 'bridge')
  ip('-n', SWITCH, 'link', 'set', 'br0', 'up')
  const nodes: IpsecNode[] = []
  for (let number = 1; number <= count; number++) {
    const name = `pk-ks-${number}`
    ip('netns', 'add', name)
    ip('link', 'add', 'eth0', 'netns', name, 'type', 'veth', 'peer', 'name', `to${number}`, 'netns', SWITCH)
    ip('-n', SWITCH, 'link', 'set', `to${number}`, 'master', 'br0', 'up')
    batch(name, [
      'link set lo up',
      `addr add 192.0.2.${number}/24 dev eth0`,
      `addr add 2001:db8::${number}/64 dev eth0 nodad`,
      `addr add 10.244.${number}.1/32 dev lo`,
      `addr add fd0${number}::1/128 dev lo nodad`,
      'link set eth0 up',
    ])
    countClear(name)
    const datapath = openDatapath(name)
    const { bootId } = await datapath.openIpsec(settings(mtu))
    batch(name, [`link set ${DEVICE} up`, ...routes(number, count)])
    nodes.push({ number, name, datapath, bootId })
  }
  return nodes
}

export function openDatapath(name: string): KernelDatapath {
  return new KernelDatapath({ namespace: `/run/netns/${name}`, stateFolder: join(folder, name) })
}

export async function removeNodes(nodes: readonly IpsecNode[]): Promise<void> {
  for (const { datapath } of nodes) {
    await datapath.remove(DEVICE)
    await datapath.close()
  }
  removeNamespaces()
}

/** Also those of a test that failed. */
function removeNamespaces(): void {
  const names = ip('netns', 'list').matchAll(/^pk-ks-\w+/gm)
  for (const [name] of names) ip('netns', 'del', name)
}

function routes(number: number, count: number): string[] {
  return Array.from({ length: count }, (_, i) => i + 1)
    .filter((other) => other !== number)
    .flatMap((other) => [
      `route add 10.244.${other}.0/24 dev ${DEVICE} src 10.244.${number}.1`,
      `route add fd0${other}::/64 dev ${DEVICE} src fd0${number}::1`,
    ])
}

function batch(namespace: string, lines: readonly string[]): void {
  execFileSync('ip', ['-n', namespace, '-batch', '-'], { input: `${lines.join('\n')}\n` })
}

function countClear(name: string): void {
  const table = `table inet pk {
    counter clear { }
    chain wire {
      type filter hook prerouting priority raw
      iifname "eth0" ip saddr 10.244.0.0/16 counter name clear
      iifname "eth0" ip6 saddr fd00::/8 counter name clear
    }
  }`
  execFileSync('ip', ['netns', 'exec', name, 'nft', '-f', '-'], { input: table })
}

/** Pods' packets that came by the wire as they are. */
export function arrivedInClear({ name }: IpsecNode): number {
  const text = ip('netns', 'exec', name, 'nft', 'list', 'counter', 'inet', 'pk', 'clear')
  return Number(/packets (\d+)/.exec(text)?.[1] ?? Number.NaN)
}

export function settings(mtu = 1400): IpsecSettings {
  return { name: DEVICE, mtu, mark: 0xe00, udpPort: 4500 }
}

/** What `node` is told when it receives from all `others` by `receive` and sends to each by `send`. */
export function deviceOf(
  node: IpsecNode,
  others: readonly IpsecNode[],
  receive: readonly IpsecKey[],
  send: IpsecKey | undefined,
  outer: { readonly encapsulation: Encapsulation; readonly family: 4 | 6 } = { encapsulation: 'none', family: 4 },
): IpsecDevice {
  const address = ({ number }: IpsecNode) =>
    requireIp(outer.family === 4 ? `192.0.2.${number}` : `2001:db8::${number}`, 'test')
  const peers = others.map(
    (other): IpsecPeer => ({
      node: other.name,
      bootId: other.bootId,
      source: address(node),
      destination: address(other),
      encapsulation: outer.encapsulation,
      allowedIps: [
        requireCidr(`10.244.${other.number}.0/24`, 'test'),
        requireCidr(`fd0${other.number}::/64`, 'test'),
        requireCidr(`10.244.${other.number}.1/32`, 'test'),
      ],
      receive,
      send,
    }),
  )
  return { ...settings(), bootId: node.bootId, peers, keys: [...receive, ...(send === undefined ? [] : [send])] }
}

/** How many were answered; a busy machine may take its time. */
export function ping(from: IpsecNode, to: IpsecNode, count: number, family: 4 | 6 = 4): number {
  return answered(spawnSync('ip', pingArguments(from, to, count, family), { encoding: 'utf8' }).stdout)
}

/** The same of two that nobody should answer: they are sent, and not waited for. `source`: an address of the node's. */
export function unanswered(from: IpsecNode, to: IpsecNode, ...source: readonly string[]): number {
  const more = ['-W', '0.5', ...source.flatMap((address) => ['-I', address])]
  return answered(spawnSync('ip', pingArguments(from, to, 2, 4, ...more), { encoding: 'utf8' }).stdout)
}

export function pingArguments(from: IpsecNode, to: IpsecNode, count: number, family: 4 | 6 = 4, ...more: string[]) {
  const target = family === 4 ? `10.244.${to.number}.1` : `fd0${to.number}::1`
  const how = ['-n', '-q', '-c', String(count), '-i', '0.02', '-W', '30', ...more]
  return ['netns', 'exec', from.name, 'ping', ...how, target]
}

export function answered(stdout: string): number {
  return Number(/ (\d+) received/.exec(stdout)?.[1] ?? Number.NaN)
}

/** AES-GCM with 128 bits. */
export function gcm(id: number, byte: number): IpsecKey {
  return aead(id, byte, 'rfc4106(gcm(aes))', 20)
}

export function aead(id: number, byte: number, encryptionAlgorithm: string, keyBytes: number, icvBytes = 16): IpsecKey {
  return {
    id,
    fingerprint: byte.toString(16).padStart(2, '0').repeat(8) as KeyFingerprint,
    encryptionAlgorithm,
    encryptionKey: new Uint8Array(keyBytes).fill(byte),
    authenticationAlgorithm: undefined,
    authenticationKey: new Uint8Array(0),
    icvBytes,
  }
}

export function hmac(
  id: number,
  byte: number,
  authenticationAlgorithm: string,
  authenticationBytes: number,
  icvBytes: number,
  encryption = { name: 'cbc(aes)', bytes: 16 },
): IpsecKey {
  return {
    ...aead(id, byte, encryption.name, encryption.bytes, icvBytes),
    authenticationAlgorithm,
    authenticationKey: new Uint8Array(authenticationBytes).fill(byte ^ 0xff),
  }
}
