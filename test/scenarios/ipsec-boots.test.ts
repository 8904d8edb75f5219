import assert from 'node:assert/strict'
import { type ChildProcess, execFile } from 'node:child_process'
import { createDecipheriv, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { IpsecDevice, IpsecPeer } from '#core/datapath/datapath.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { IpsecKey } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import { deriveEngineKeys } from '#core/ipsec/userspace.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { IpsecLink } from '#io/userspace/ipsec-link.ts'
import { isIdle } from '#test/kit/idle.ts'
import { eventually } from '#test/kit/lab.ts'
import { missingForTunnels, type Side, TunnelLab } from '#test/kit/tunnel-lab.ts'

// A (key, sequence) is used once, also when a node boots (its memory is gone), its engine is killed, its agent begins
// anew, and a key that was used before comes back: seen in a capture, of which every packet is opened by the key that
// the boot ids of its time give.
const exec = promisify(execFile)
const skip = missingForTunnels('ping', 'tcpdump') ?? false
const HEADERS = 14 + 20 + 8
const ICV = 16

interface Node {
  readonly side: Side
  readonly bootIds: string[]
  supervisor: ChildProcess
  link: IpsecLink
}

interface Packet {
  readonly from: string
  readonly esp: Buffer
}

suite('two nodes of IPsec that boot', { skip, concurrency: 1 }, () => {
  let lab: TunnelLab
  before(async () => {
    lab = await TunnelLab.open('pib')
  })
  after(() => lab?.close())

  test('no sequence number of a key is in the capture twice', { timeout: 600_000 }, async (t) => {
    const [first, second] = [newKey(3), newKey(4)]
    const nodes = [await begin(lab, lab.a), await begin(lab, lab.b)] as const
    const file = join(lab.folder, 'boots.pcap')
    const tcpdump = lab.start(lab.a, 'tcpdump', ['-n', '-U', '-i', 'pibva', '-w', file, 'udp', 'port', '4500'])
    await eventually('tcpdump listens', 60, async () => lab.log(lab.a).includes('listening on') || undefined)
    try {
      await talk(lab, nodes, first)
      await boot(lab, nodes[0])
      await talk(lab, nodes, first)
      await boot(lab, nodes[1])
      await talk(lab, nodes, first)
      await lab.killPart(lab.b, 'engine')
      await talk(lab, nodes, second)
      nodes[0].link.close()
      nodes[0].link = linkOf(lab, lab.a)
      await talk(lab, nodes, first)
      for (const node of nodes) await boot(lab, node)
      await talk(lab, nodes, second)
    } finally {
      for (const { link } of nodes) link.close()
    }
    // the kernel hands over blocks that are full or a second old
    await sleep(1500)
    while (!isIdle(tcpdump.pid ?? 0)) await sleep(20)
    const ended = new Promise((resolve) => tcpdump.once('exit', resolve))
    // ip has become tcpdump by exec
    tcpdump.kill('SIGINT')
    await ended

    const packets = read(file)
    const uses = new Set<string>()
    const bare = new Set<string>()
    for (const { from, esp } of packets) {
      const ends = from === lab.a.outer[4] ? nodes : ([nodes[1], nodes[0]] as const)
      const opened = [first, second].flatMap((key) => keysOf(key, ...ends).filter((derived) => opens(derived, esp)))
      assert.equal(opened.length, 1, `number ${esp.readUInt32BE(4)} from ${from} is by ${opened.length} keys`)
      const use = `${opened[0]?.toString('hex')} ${esp.readUInt32BE(4)}`
      assert.ok(!uses.has(use), `number ${esp.readUInt32BE(4)} from ${from} was used twice`)
      uses.add(use)
      bare.add(`${from} ${esp.readUInt32BE(0)} ${esp.readUInt32BE(4)}`)
    }
    const keys = new Set([...uses].map((use) => use.split(' ')[0]))
    t.diagnostic(`${packets.length} packets by ${keys.size} keys; ${bare.size} times another address, SPI and number`)
    assert.ok(keys.size >= 8 && bare.size < packets.length, 'numbers began again, by other keys')
    assert.deepEqual([nodes[0].bootIds.length, nodes[1].bootIds.length], [3, 3])
  })
})

function newKey(id: number): IpsecKey {
  const parsed = parseKeyTexts(`${id}+ rfc4106(gcm(aes)) ${randomBytes(20).toString('hex')} 128`, ipsecHash)
  assert.ok(parsed.ok)
  return parsed.value[0] as IpsecKey
}

function linkOf(lab: TunnelLab, side: Side): IpsecLink {
  const socket = join(lab.folder, side.namespace, side.device, 'engine.sock')
  return new IpsecLink(side.device, socket, 20_000, () => undefined)
}

async function begin(lab: TunnelLab, side: Side): Promise<Node> {
  const { supervisor } = await lab.startIpsec(side)
  const link = linkOf(lab, side)
  return { side, bootIds: [(await link.open()).bootId], supervisor, link }
}

/** As far as sequence numbers go, a boot is the end of the supervisor, without a word to anybody. */
async function boot(lab: TunnelLab, node: Node): Promise<void> {
  const ended = new Promise((resolve) => node.supervisor.once('exit', resolve))
  node.supervisor.kill('SIGKILL')
  await ended
  node.link.close()
  // its engine ends with it, a moment later, and has the device until then
  const { namespace, device } = node.side
  const there = async () => await exec('ip', ['-n', namespace, 'link', 'show', device]).catch(() => undefined)
  await eventually(`${device} has gone`, 60, async () => ((await there()) === undefined ? true : undefined))
  const { supervisor, link, bootIds } = await begin(lab, node.side)
  node.supervisor = supervisor
  node.link = link
  assert.ok(!node.bootIds.includes(bootIds[0] as string))
  node.bootIds.push(bootIds[0] as string)
}

/** Both have that key alone, under their boot ids of now; packets cross. */
async function talk(lab: TunnelLab, [a, b]: readonly [Node, Node], key: IpsecKey): Promise<void> {
  for (const [own, other] of [
    [a, b],
    [b, a],
  ] as const) {
    // a link whose engine was killed refuses until it has noticed, and has the next one
    await eventually('the keys are there', 60, async () => {
      await own.link.apply(deviceOf(own, other, key))
      return true
    })
  }
  for (let attempt = 0; ; attempt++) {
    const args = ['netns', 'exec', a.side.namespace, 'ping', '-c', '5', '-i', '0.02', '-W', '1', b.side.inner[4]]
    const done = await exec('ip', args).catch(() => undefined)
    if (done !== undefined) return
    assert.ok(attempt < 60, `nothing crosses:\n${lab.log(a.side)}`)
  }
}

function deviceOf(own: Node, other: Node, key: IpsecKey): IpsecDevice {
  const peer: IpsecPeer = {
    node: other.side.namespace,
    bootId: other.bootIds.at(-1) as string,
    source: requireIp(own.side.outer[4], 'test'),
    destination: requireIp(other.side.outer[4], 'test'),
    encapsulation: 'udp',
    allowedIps: [requireCidr(`${other.side.inner[4]}/32`, 'test')],
    receive: [key],
    send: key,
  }
  const device = { name: own.side.device, mtu: 1420, mark: 0, udpPort: 4500 }
  return { ...device, bootId: own.bootIds.at(-1) as string, peers: [peer], keys: [key] }
}

/** Derived for every pair of boot ids that there ever was. */
function keysOf(key: IpsecKey, source: Node, destination: Node): Buffer[] {
  return source.bootIds.flatMap((from) =>
    destination.bootIds.map((to) => {
      const ends = [source, destination].map(({ side }) => requireIp(side.outer[4], 'test'))
      const derived = deriveEngineKeys(
        key,
        { ip: ends[0] as never, bootId: from },
        { ip: ends[1] as never, bootId: to },
        ipsecHash,
      )
      assert.ok(derived.ok)
      return Buffer.from(derived.value.encryption)
    }),
  )
}

/** RFC 4106 with 64-bit numbers, of which the high half is 0 here. */
function opens(key: Buffer, esp: Buffer): boolean {
  const nonce = Buffer.concat([key.subarray(16), esp.subarray(8, 16)])
  const decipher = createDecipheriv('aes-128-gcm', key.subarray(0, 16), nonce)
  decipher.setAAD(Buffer.concat([esp.subarray(0, 4), Buffer.alloc(4), esp.subarray(4, 8)]))
  decipher.setAuthTag(esp.subarray(-ICV))
  decipher.update(esp.subarray(16, -ICV))
  try {
    decipher.final()
    return true
  } catch {
    return false
  }
}

/** pcap-savefile(5). */
function read(file: string): Packet[] {
  const bytes = readFileSync(file)
  const packets: Packet[] = []
  for (let at = 24; at + 16 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8)
    const frame = bytes.subarray(at + 16, at + 16 + length)
    at += 16 + length
    const end = 14 + frame.readUInt16BE(16)
    const from = [...frame.subarray(26, 30)].join('.')
    packets.push(...split(frame.subarray(HEADERS, end)).map((esp) => ({ from, esp })))
  }
  return packets
}

/** What the kernel would still have cut into packets (UDP_SEGMENT): the IV is the number again, so beginnings are found. */
function split(payload: Buffer): Buffer[] {
  const begins = (at: number) =>
    payload.readUInt32BE(at) === payload.readUInt32BE(0) &&
    payload.readBigUInt64BE(at + 8) === BigInt(payload.readUInt32BE(at + 4))
  let size = 4
  while (size + 16 <= payload.length && !begins(size)) size += 4
  if (size + 16 > payload.length) return [payload]
  const count = Math.ceil(payload.length / size)
  return Array.from({ length: count }, (_, i) => payload.subarray(i * size, (i + 1) * size))
}
