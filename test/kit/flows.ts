import { once } from 'node:events'
import { json } from 'node:stream/consumers'
import { Capture } from '#test/kit/capture.ts'
import type { Lab } from '#test/kit/lab.ts'
import { findNetns } from '#test/kit/probe/pods.ts'
import type { SayAnswer, SayRequest } from '#test/kit/probe/say.ts'

const program = new URL('probe/say.ts', import.meta.url).pathname

export type Family = 4 | 6

/** Somebody who speaks or listens: a pod, or (without `netns`) a node itself. */
export interface Place {
  readonly name: string
  readonly node: string
  readonly netns?: string
  readonly ips: Readonly<Partial<Record<Family, string>>>
  /** Of a node: its own addresses inside its pod CIDRs. */
  readonly internalIps?: Readonly<Partial<Record<Family, string>>>
}

/** One kind of traffic of one family, with what must be seen of it. */
export interface Flow {
  readonly kind: string
  readonly family: Family
  readonly from: Place
  readonly to: { readonly host: string; readonly port: number }
  /** Whether what is said stands on the underlay for everybody to read. `absent`: encrypted, or it never left the node. */
  readonly wire: 'clear' | 'absent'
  /** The sender's address as the other side must see it. */
  readonly seenAs: string
}

export interface SeenFlow extends Flow {
  readonly protocol: 'tcp' | 'udp'
  readonly answer: SayAnswer
  /** How often the text was on the wire. */
  readonly heard: number
}

/** The places of nodes and pods by name; pods are `default`'s. */
export async function places(lab: Lab, pods: readonly string[]): Promise<Readonly<Record<string, Place>>> {
  const found: Record<string, Place> = {}
  const nodes = JSON.parse(await lab.sh('kubectl get ciliumnodes -o json')) as CiliumNodeList
  for (const { metadata, spec } of nodes.items) {
    const of = (type: string) => byFamily(spec.addresses.filter((address) => address.type === type).map(({ ip }) => ip))
    const name = metadata.name.slice(lab.name.length + 1)
    found[name] = { name, node: metadata.name, ips: of('InternalIP'), internalIps: of('CiliumInternalIP') }
  }
  for (const name of pods) {
    const pod = JSON.parse(await lab.sh(`kubectl get pod ${name} -o json`)) as PodObject
    const [first] = pod.status.podIPs
    const netns = await findNetns(lab, pod.spec.nodeName, first?.ip ?? '')
    found[name] = { name, node: pod.spec.nodeName, netns, ips: byFamily(pod.status.podIPs.map(({ ip }) => ip)) }
  }
  return found
}

/** Answers at a place, on TCP and UDP, until disposed. */
export async function listen(lab: Lab, place: Place, port: number): Promise<AsyncDisposable> {
  const child = lab.startAt(place, process.execPath, program, 'serve', String(port))
  await once(child.stdout as NodeJS.ReadableStream, 'data')
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(child, 'close')
      child.stdin?.end()
      await closed
    },
  }
}

/** Says a text of its own over every flow, by TCP and UDP, while somebody listens on the underlay. */
export async function sayAll(lab: Lab, flows: readonly Flow[]): Promise<readonly SeenFlow[]> {
  const plan = flows.flatMap((flow) => (['tcp', 'udp'] as const).map((protocol) => ({ flow, protocol })))
  const texts = plan.map((_, index) => `MARKER-${String(index).padStart(4, '0')}-${lab.name}`)
  const answers: SayAnswer[] = []
  await using wire = await Capture.start(lab, 'underlay')
  const senders = new Map<Place, number[]>()
  plan.forEach(({ flow }, index) => senders.set(flow.from, [...(senders.get(flow.from) ?? []), index]))
  for (const [from, indices] of senders) {
    const requests: SayRequest[] = indices.map((index) => {
      const { flow, protocol } = plan[index] as (typeof plan)[number]
      return { ...flow.to, protocol, text: texts[index] as string }
    })
    const child = lab.startAt(from, process.execPath, program, 'say', JSON.stringify(requests))
    const output = (await json(child.stdout as NodeJS.ReadableStream)) as SayAnswer[]
    indices.forEach((index, i) => {
      answers[index] = output[i] as SayAnswer
    })
  }
  await wire.stop()
  return await Promise.all(
    plan.map(async ({ flow, protocol }, index) => ({
      ...flow,
      protocol,
      answer: answers[index] as SayAnswer,
      heard: await wire.count(texts[index] as string),
    })),
  )
}

/** What is not as it must be, one line each; empty when all is. */
export function wrong(seen: readonly SeenFlow[]): readonly string[] {
  return seen.flatMap(({ kind, family, protocol, answer, heard, wire, seenAs }) => {
    const name = `IPv${family} ${protocol} ${kind}`
    if (answer.seenAs === undefined) return `${name}: ${answer.error}`
    return [
      ...(answer.seenAs === seenAs ? [] : [`${name}: seen as ${answer.seenAs} instead of ${seenAs}`]),
      ...(heard > 0 === (wire === 'clear') ? [] : [`${name}: heard ${heard} times on the wire, must be ${wire}`]),
    ]
  })
}

function byFamily(ips: readonly string[]): Place['ips'] {
  const [v4, v6] = [ips.find((ip) => !ip.includes(':')), ips.find((ip) => ip.includes(':'))]
  return { ...(v4 === undefined ? {} : { 4: v4 }), ...(v6 === undefined ? {} : { 6: v6 }) }
}

interface CiliumNodeList {
  readonly items: readonly {
    readonly metadata: { readonly name: string }
    readonly spec: { readonly addresses: readonly { readonly type: string; readonly ip: string }[] }
  }[]
}

interface PodObject {
  readonly spec: { readonly nodeName: string }
  readonly status: { readonly podIPs: readonly { readonly ip: string }[] }
}
