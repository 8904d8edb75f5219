import { Fault } from '#core/fault/fault.ts'
import { type ActualLink, OUR_LINK_ALIAS } from './host-actual.ts'
import type { LinkPlan } from './host-plan.ts'
import type { CreatedLink, HostStep, LinkChange } from './host-step.ts'

export interface LinkDiff {
  readonly steps: readonly HostStep[]
  /** Devices that the steps make: whatever stood on an older one of that name is gone. */
  readonly created: ReadonlySet<string>
  /** Given devices that are not there yet. */
  readonly missing: readonly string[]
  /** Names that are taken by something else. */
  readonly blocked: ReadonlySet<string>
  readonly faults: readonly Fault[]
}

/** A link of the right kind and name is adopted; one of another kind is left alone and named. */
export function diffLinks(desired: readonly LinkPlan[], actual: readonly ActualLink[]): LinkDiff {
  const there = new Map(actual.map((link) => [link.name, link]))
  const steps: HostStep[] = []
  const created = new Set<string>()
  const blocked = new Set<string>()
  const missing: string[] = []
  const faults: Fault[] = []

  for (const link of desired) {
    const found = there.get(link.name)
    if (link.kind === 'given') {
      if (found === undefined) missing.push(link.name)
      else steps.push(...change(found, link, false))
      continue
    }
    const wrong = found !== undefined && found.kind !== link.kind ? found : strangePeer(link, found, there)
    if (wrong !== undefined) {
      blocked.add(link.name)
      if (link.kind === 'veth') blocked.add(link.peer)
      faults.push(taken(link, wrong))
      continue
    }
    if (found !== undefined && isSame(link, found)) {
      steps.push(...change(found, link, true))
      const peer = link.kind === 'veth' ? there.get(link.peer) : undefined
      if (peer !== undefined) steps.push(...change(peer, { name: peer.name, mtu: link.mtu }, true))
      continue
    }
    // must be gone before their successor comes: the one deletion that is not in the last phase
    const replaces = (link.kind === 'veth' ? [link.name, link.peer] : [link.name]).filter((name) => there.has(name))
    steps.push({ do: 'create link', link, replaces })
    created.add(link.name)
    if (link.kind === 'veth') created.add(link.peer)
  }

  const wanted = new Set(desired.flatMap((link) => (link.kind === 'veth' ? [link.name, link.peer] : [link.name])))
  const deleted = new Set<string>()
  for (const link of actual) {
    if (link.alias !== OUR_LINK_ALIAS || wanted.has(link.name) || deleted.has(link.name)) continue
    steps.push({ do: 'delete link', name: link.name })
    // its peer goes with it
    if (link.peer !== undefined) deleted.add(link.peer)
  }
  return { steps, created, missing, blocked, faults }
}

/** For what cannot be changed on a living device. */
function isSame(link: CreatedLink, found: ActualLink): boolean {
  if (link.kind === 'veth') return found.peer === link.peer
  const { vxlan } = found
  return (
    vxlan !== undefined &&
    vxlan.vni === link.vni &&
    vxlan.port === link.port &&
    vxlan.local === link.local &&
    !vxlan.learning
  )
}

/** What has the name of our veth's other end without being it. */
function strangePeer(
  link: CreatedLink,
  found: ActualLink | undefined,
  there: ReadonlyMap<string, ActualLink>,
): ActualLink | undefined {
  if (link.kind !== 'veth' || found?.peer === link.peer) return undefined
  const peer = there.get(link.peer)
  // a left-over end of ours may go together with its pair
  return peer === undefined || peer.alias === OUR_LINK_ALIAS ? undefined : peer
}

function taken(link: CreatedLink, wrong: ActualLink): Fault {
  return new Fault('host.link.taken', `the name ${wrong.name} is taken by a link of kind ${wrong.kind}`, {
    field: `link/${wrong.name}`,
    remedy: `Pellicle needs it for ${link.kind === 'veth' ? 'a veth pair' : 'its VXLAN device'}: remove or rename it`,
  })
}

function change(
  found: ActualLink,
  link: { readonly name: string } & Pick<LinkPlan, 'mtu' | 'mac' | 'gsoMaxSize'>,
  ours: boolean,
): HostStep[] {
  const wanted: LinkChange = {
    ...(found.mtu === link.mtu ? {} : { mtu: link.mtu }),
    ...(link.mac === undefined || found.mac === link.mac ? {} : { mac: link.mac }),
    ...(link.gsoMaxSize === undefined || found.gsoMaxSize === link.gsoMaxSize ? {} : { gsoMaxSize: link.gsoMaxSize }),
    ...(found.silent === false ? { silent: true } : {}),
    ...(ours && found.alias !== OUR_LINK_ALIAS ? { alias: OUR_LINK_ALIAS } : {}),
    ...(found.up ? {} : { up: true }),
  }
  return Object.keys(wanted).length === 0 ? [] : [{ do: 'set link', name: link.name, change: wanted }]
}
