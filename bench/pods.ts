import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { describeFault } from '#core/fault/fault.ts'
import { wireguardGo } from '#test/interop/wireguard-go.ts'
import { eventually, Lab } from '#test/kit/lab.ts'
import { findPod, type Pod, type ProbePlace } from '#test/kit/probe/pods.ts'
import { runPods } from '#test/kit/traffic.ts'
import { type Comparison, type Effort, rounds } from './compare.ts'
import { type Contestant, GSO_MAX_SIZE, type Wire, wireFeatures } from './contestant.ts'
import type { Ends } from './ends.ts'

/*
 * Two nodes of a real cluster with encryption on. Ours is what every user has: pods, whose packets go through cilium_wg0.
 * The others have a stand-in for a pod on each node: a namespace behind a veth as the pods' are, with addresses outside
 * the cluster's networks, which our own rules let alone:
 *
 *   bnx-a ── veth ── bench-control-plane ── underlay ── bench-worker ── veth ── bnx-b
 *
 * once straight over the underlay, once (bny-…) through wireguard-go in both nodes.
 */
const NAME = 'bench'
const NODES = [`${NAME}-control-plane`, `${NAME}-worker`] as const
const TUNNEL_MTU = 1420
const UNDERLAY_MTU = 1500
const PORT = 51899

const exec = promisify(execFile)

/** Pod to pod: no tunnel, wireguard-go and us. A machine that has no lab gets a note. */
export async function comparePods(effort: Effort): Promise<Comparison> {
  const notes: string[] = []
  try {
    effort.say('pods: a lab of two nodes')
    await using lab = await Lab.up(NAME, ['--nodes', '2'])
    await lab.sh(
      'cilium install --set encryption.enabled=true --set encryption.type=wireguard && cilium status --wait',
      300,
    )
    const opened: Contestant[] = []
    try {
      opened.push(await openStandIns(lab, 'no tunnel', 'bnx'))
      const go = await wireguardGo()
      if ('missing' in go) notes.push(`wireguard-go is missing here: ${go.missing}`)
      else opened.push(await openStandIns(lab, 'wireguard-go', 'bny', go.program))
      opened.push(await openPods(lab))
      return { results: await rounds('pods', opened, effort), notes }
    } finally {
      for (const contestant of opened) await contestant.close()
    }
  } catch (error) {
    return { results: [], notes: [...notes, `pod to pod was not measured: ${describeFault(error)}`] }
  }
}

async function openPods(lab: Lab): Promise<Contestant> {
  await runPods(lab, { 'end-a': NODES[0], 'end-b': NODES[1] })
  const [a, b] = [await findPod(lab, 'end-a'), await findPod(lab, 'end-b')]
  const places: Record<'a' | 'b', Pod> = { a, b }
  const ends: Ends = {
    to: b.ip,
    start: (end, program, args) => lab.startAt(places[end], program, ...args),
    run: async (end, program, ...args) => await output(lab, places[end], program, ...args),
  }
  await eventually('the pods hear each other', 30, async () => await ends.run('a', 'ping', '-c1', '-W1', ends.to))
  return {
    name: 'pellicle',
    kind: 'wireguard',
    ours: true,
    ends,
    mtu: TUNNEL_MTU,
    processes: async () => [{}, {}],
    setWire: async (wire) => await setWire(lab, wire),
    close: async () => undefined,
  }
}

/** `program`: a tunnel that speaks WireGuard's control protocol; without it the stand-ins talk in clear. */
async function openStandIns(lab: Lab, name: string, prefix: string, program?: string): Promise<Contestant> {
  const subnet = program === undefined ? 98 : 99
  const of = [0, 1].map((index) => ({
    node: { node: NODES[index] ?? '' },
    space: `${prefix}-${'ab'[index]}`,
    veth: `${prefix}v${'ab'[index]}`,
    device: `${prefix}wg${'ab'[index]}`,
    net: `10.${subnet}.${index + 1}`,
    children: [] as ReturnType<typeof spawn>[],
  })) as [StandIn, StandIn]
  const close = async () => {
    for (const { space, children } of of) {
      for (const child of children) {
        const ended = once(child, 'close')
        child.kill('SIGTERM')
        await ended
      }
      await exec('ip', ['netns', 'del', space]).catch(() => undefined)
    }
  }
  try {
    for (const end of of) await addStandIn(lab, end, program !== undefined)
    for (const [end, other] of [of, of.toReversed()] as [StandIn, StandIn][]) {
      const underlay = await underlayOf(lab, other.node.node)
      const route = ['route', 'add', `${other.net}.0/24`]
      if (program === undefined) await output(lab, end.node, 'ip', ...route, 'via', underlay)
      else {
        await startTunnel(lab, end, program)
        await output(lab, end.node, 'ip', ...route, 'dev', end.device)
      }
    }
    if (program !== undefined) await introduce(lab, of)
    const spaces = { a: of[0].space, b: of[1].space }
    const ends: Ends = {
      to: `${of[1].net}.2`,
      start: (end, what, args) => spawn('ip', ['netns', 'exec', spaces[end], what, ...args]),
      run: async (end, what, ...args) =>
        (await exec('ip', ['netns', 'exec', spaces[end], what, ...args], { maxBuffer: 1 << 24 })).stdout,
    }
    await eventually(`${name} is through`, 20, async () => await ends.run('a', 'ping', '-c1', '-W1', ends.to))
    return {
      name,
      kind: program === undefined ? 'none' : 'wireguard',
      ours: false,
      ends,
      mtu: program === undefined ? UNDERLAY_MTU : TUNNEL_MTU,
      processes: async () => [{}, {}],
      setWire: async (wire) => await setWire(lab, wire),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

interface StandIn {
  readonly node: ProbePlace
  readonly space: string
  readonly veth: string
  readonly device: string
  readonly net: string
  readonly children: ReturnType<typeof spawn>[]
}

/** MTU and gso_max_size as our CNI gives them to pods (without a tunnel there is nothing to leave room for). */
async function addStandIn(lab: Lab, { node, space, veth, net }: StandIn, tunnel: boolean): Promise<void> {
  const limits = tunnel ? ['mtu', `${TUNNEL_MTU}`, 'gso_max_size', `${GSO_MAX_SIZE}`] : []
  await exec('ip', ['netns', 'add', space])
  await output(lab, node, 'ip', 'link', 'add', veth, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space)
  await output(lab, node, 'ip', 'link', 'set', veth, 'up', ...limits)
  await output(lab, node, 'ip', 'addr', 'add', `${net}.1/24`, 'dev', veth)
  for (const command of [
    `link set eth0 up ${limits.join(' ')}`,
    `addr add ${net}.2/24 dev eth0`,
    `route add default via ${net}.1`,
  ])
    await exec('ip', ['-n', space, ...command.trim().split(' ')])
}

async function startTunnel(lab: Lab, { node, device, children }: StandIn, program: string): Promise<void> {
  const child = lab.startAt(node, program, '-f', device)
  children.push(child)
  await eventually(`${device} answers`, 10, async () => (await exec('wg', ['show', device])).stdout)
  await output(lab, node, 'ip', 'link', 'set', device, 'up', 'mtu', `${TUNNEL_MTU}`, 'gso_max_size', `${GSO_MAX_SIZE}`)
}

async function introduce(lab: Lab, of: readonly [StandIn, StandIn]): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-keys-'))
  try {
    const keys = await Promise.all(
      of.map(async ({ device }) => {
        const secret = (await exec('wg', ['genkey'])).stdout
        const file = join(folder, device)
        await writeFile(file, secret, { mode: 0o600 })
        return { file, open: (await piped(secret, 'wg', 'pubkey')).trim() }
      }),
    )
    for (const index of [0, 1] as const) {
      const other = of[1 - index] as StandIn
      const own = ['listen-port', `${PORT}`, 'private-key', keys[index]?.file ?? '']
      const endpoint = `${await underlayOf(lab, other.node.node)}:${PORT}`
      const peer = ['peer', keys[1 - index]?.open ?? '', 'allowed-ips', `${other.net}.0/24`, 'endpoint', endpoint]
      await exec('wg', ['set', of[index].device, ...own, ...peer])
    }
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function underlayOf(lab: Lab, node: string): Promise<string> {
  const [link] = JSON.parse(await output(lab, { node }, 'ip', '-json', '-4', 'addr', 'show', 'eth0')) as AddressOf[]
  return link?.addr_info[0]?.local ?? ''
}

interface AddressOf {
  readonly addr_info: readonly { readonly local: string }[]
}

/** On the nodes' devices of the underlay, so for everybody. */
async function setWire(lab: Lab, wire: Wire): Promise<void> {
  for (const node of NODES) await output(lab, { node }, 'ethtool', '-K', 'eth0', ...wireFeatures(wire))
}

/** Runs a program of the machine in the network of a node or pod. */
async function output(lab: Lab, place: ProbePlace, ...command: string[]): Promise<string> {
  const child = lab.startAt(place, ...command)
  child.stdin?.end()
  const ended = once(child, 'close')
  const [said, errors] = await Promise.all([read(child.stdout), read(child.stderr)])
  const [code] = (await ended) as [number | null]
  if (code !== 0) throw new Error(`${command.join(' ')} at ${place.node} ended with ${code}: ${errors}${said}`)
  return said
}

async function read(stream: Readable | null): Promise<string> {
  return stream === null ? '' : await text(stream)
}

async function piped(input: string, program: string, ...args: string[]): Promise<string> {
  const child = exec(program, args)
  child.child.stdin?.end(input)
  return (await child).stdout
}
