import { type CiliumNode, type OwnAnnouncement, readCiliumNode } from '#core/api/cilium-node.ts'
import type { AgentConfig } from '#core/api/config.ts'
import { ANNOTATION } from '#core/api/names.ts'
import type { NodeFacts } from '#core/api/node.ts'
import type { Datapath } from '#core/datapath/datapath.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { OwnIpsec } from '#core/plan/snapshot.ts'
import { parseReading } from '#core/transition/greeting.ts'
import { type Announcement, CLEAR, sameAnnouncement } from '#core/transition/level.ts'
import { firstAnnouncement, nextLevel, type Transition } from '#core/transition/next-level.ts'
import { VERSION } from '#core/version/version.ts'
import type { Log } from '#io/telemetry/log.ts'
import type { Endpoints } from './endpoints.ts'
import { IpsecPart } from './ipsec-part.ts'
import { ipsecSettings, unsendable } from './ipsec-snapshot.ts'
import type { KeyReading } from './key-source.ts'
import { ModePart } from './mode-part.ts'
import { type Applied, type FlushFilter, Network } from './network.ts'
import type { NodeAddresses } from './node-addresses.ts'
import type { NodeStateStore } from './node-state.ts'
import type { OwnKey } from './own-key.ts'
import { ofName, ownSaid, ownWords } from './own-said.ts'
import type { EncryptionMode } from './plan-config.ts'
import { ownPodCidrs, requestPodCidrs } from './pod-cidrs.ts'
import type { HostNetwork } from './ports.ts'
import { type Registry, saysAll } from './publisher.ts'
import { type Known, ownSnapshot, perFamily, View } from './view.ts'
import { type Timers, Worker, type WorkerState } from './worker.ts'

/** The cluster as the watches show it now; undefined until it was seen once. */
export interface ClusterView {
  readonly config: AgentConfig | undefined
  readonly node: NodeFacts | undefined
  /** All, by name: what Kubernetes grants each; undefined until the list is complete. */
  readonly nodes: ReadonlyMap<string, NodeFacts> | undefined
  /** All, one's own included; undefined until the list is complete. */
  readonly ciliumNodes: readonly CiliumNode[] | undefined
  /** Up to which `ciliumNodes` is complete: `metadata.resourceVersion` of the watch. */
  readonly version?: string | undefined
}

export interface AgentDeps {
  readonly nodeName: string
  readonly bootId: string
  readonly registry: Registry
  readonly host: HostNetwork
  readonly datapath: Datapath
  readonly endpoints: Endpoints
  readonly state: NodeStateStore
  readonly log: Log
  readonly timers?: Timers
  view(): ClusterView
  loadKey(): Promise<OwnKey>
  /** What is known of the cluster's IPsec keys. */
  ipsecKeys(): KeyReading
  readonly addresses: NodeAddresses
  /** Called after each successful apply; whatever must wait for a programmed node. */
  onProgrammed(): Promise<void>
  /** Milliseconds since the epoch. */
  now(): number
}

/**
 * The loop of ARCHITECTURE.md, as two workers: `network` turns what is known into a plan and applies it; `publish`
 * tells the cluster what is in force and takes the next step of a transition. The first never waits for the API server.
 *
 * Order, for each level: persisted, applied, acknowledged by the datapath, published.
 */
export class Agent {
  readonly #deps: AgentDeps
  readonly #view = new View()
  readonly #network: Network
  readonly #ipsec: IpsecPart
  readonly #mode: ModePart
  readonly #applyWorker: Worker
  readonly #publishWorker: Worker
  #key: OwnKey | undefined
  #waitingFor: string | undefined = 'the agent is starting'
  #transition: Transition | undefined
  /** What this node's CiliumNode said in the view that the plan in force was made of. */
  #ownSeen: Announcement | undefined
  /** The same of the mode. */
  #modeSeen: Announcement | undefined
  #paused: string | undefined
  readonly #flushes: {
    readonly only: FlushFilter
    readonly resolve: (removed: number) => void
    readonly reject: (error: unknown) => void
  }[] = []

  constructor(deps: AgentDeps) {
    this.#deps = deps
    this.#network = new Network(deps.host, deps.datapath, deps.log)
    this.#ipsec = new IpsecPart({ ...deps, wake: () => this.nudge() })
    this.#mode = new ModePart({ ...deps, wake: () => this.#publishWorker.nudge() })
    const options = {
      log: deps.log,
      ...(deps.timers === undefined ? {} : { timers: deps.timers }),
      times: { debounce: 10 },
    }
    this.#applyWorker = new Worker('programming this node', () => this.#apply(), options)
    this.#publishWorker = new Worker('publishing this node', () => this.#publish(), options)
  }

  /** Whatever is known has changed. */
  nudge(): void {
    this.#applyWorker.nudge()
    // peers' words count for the transition also when the plan stays the same
    this.#publishWorker.nudge()
  }

  /** Compares everything with the plan, the datapath too: something may have been changed behind our back. */
  resync(): void {
    this.#network.forget()
    this.#ipsec.forget()
    this.nudge()
  }

  /** Resolves when the node is programmed with what is known now. */
  async programmed(): Promise<void> {
    await this.#applyWorker.settled()
    const reason = this.notReady()
    if (reason !== undefined) throw notReady(reason)
  }

  /** Why pods cannot be served; undefined: they can. */
  notReady(): string | undefined {
    return this.#paused ?? this.#waitingFor
  }

  /**
   * Removes associations of IPsec (of that key id, with that node) and brings the plan about again at once. Resolves to how
   * many there were. Packets wait or are dropped meanwhile, never sent in clear.
   */
  async flush(only: FlushFilter): Promise<number> {
    if (this.#paused !== undefined) throw notReady(this.#paused)
    const flushed = new Promise<number>((resolve, reject) => this.#flushes.push({ only, resolve, reject }))
    this.#applyWorker.nudge()
    return await flushed
  }

  /** What is in force; undefined before the first success. */
  get applied() {
    return this.#network.applied
  }

  /** Of the level, or, when that is where it is to be, of the mode. */
  get transition(): Transition | undefined {
    const [level, mode] = [this.#transition, this.#mode.change]
    if (level?.phase !== 'on' || mode?.changing !== true) return level
    return { ...level, text: mode.text, waitingFor: mode.waitingFor }
  }

  /** Of IPsec keys: what this node holds, and who is waited for. */
  get ipsec(): IpsecPart {
    return this.#ipsec
  }

  get publicKey(): string | undefined {
    return this.#key?.publicKey
  }

  get workers(): readonly ({ readonly name: string } & WorkerState)[] {
    return [
      { name: 'apply', ...this.#applyWorker.state },
      { name: 'publish', ...this.#publishWorker.state },
    ]
  }

  /** Ends both workers after their present run; the network stays as it is. */
  async close(): Promise<void> {
    await Promise.all([this.#applyWorker.close(), this.#publishWorker.close()])
    this.#mode.close()
  }

  /** Nothing is applied or published any more until the process ends; resolves when no run is under way. */
  async pause(reason: string): Promise<void> {
    this.#paused = reason
    await this.close()
  }

  async #apply(): Promise<void> {
    const known = await this.#gather()
    if (typeof known === 'string') {
      this.#wait(known)
      // whoever asked would wait for as long
      for (const { reject } of this.#flushes.splice(0)) reject(notReady(known))
      return
    }
    try {
      if (!(await this.#bringAbout(known))) return
    } catch (error) {
      this.#network.forget()
      this.#ipsec.forget()
      throw error
    }
    const said = ownSaid(known)
    this.#ownSeen = said?.announcement
    this.#modeSeen = said?.mode
    this.#waitingFor = undefined
    await this.#deps.onProgrammed()
    this.#publishWorker.nudge()
  }

  /** Everything a snapshot needs, or a sentence on what is not known yet. */
  async #gather(): Promise<Known | string> {
    const { state, host, endpoints, addresses } = this.#deps
    const { config, node, nodes, ciliumNodes, version } = this.#deps.view()
    if (config === undefined) return 'the configuration has not been read yet'
    if (node === undefined) return `the API server has not told about Node ${this.#deps.nodeName} yet`
    if (nodes === undefined || ciliumNodes === undefined) return 'the API server has not told about the other nodes yet'
    const podCidrs = ownPodCidrs(config, node, ofName(ciliumNodes, node.name))
    if (typeof podCidrs === 'string') return podCidrs
    const now = this.#deps.now()
    const internalIps = addresses.use(podCidrs, state.value.internalIps, endpoints.all(), now)
    await state.change({ internalIps })
    if (state.value.announcement === undefined) await this.#begin(config, node.name, ciliumNodes)
    const announcement = state.value.announcement ?? { level: CLEAR, epoch: 0 }
    const { mode, stage } = await this.#mode.current(config, announcement, node.name, ciliumNodes)
    if (this.#key === undefined && has(mode, 'wireguard')) this.#key = await this.#deps.loadKey()
    const nodeIp = node.internalIps[0]
    const known: Known = {
      config,
      node,
      nodes,
      ciliumNodes,
      version,
      endpoints: endpoints.all(),
      podCidrs,
      internalIps: perFamily(internalIps),
      underlay: nodeIp === undefined ? undefined : await host.underlay(nodeIp),
      publicKey: has(mode, 'wireguard') ? this.#key?.publicKey : undefined,
      ipsec: undefined,
      mode,
      stage,
      announcement,
      byKernel: this.#deps.datapath.kind === 'kernel',
    }
    return known
  }

  /** False: something is missing, and is told. */
  async #bringAbout(known: Known): Promise<boolean> {
    const { config, mode, announcement, version } = known
    const apply = async (ipsec: OwnIpsec | undefined) => {
      const keys = { privateKey: this.#key?.privateKey, ipsecKeys: this.#ipsec.keys }
      await this.#network.apply(this.#view.snapshot({ ...known, ipsec }), keys)
    }
    if (!has(mode, 'ipsec') || announcement.level === CLEAR) {
      // beside WireGuard it is the mode that waits for it, not the node
      const alone = mode?.type === 'ipsec' && mode.second === undefined
      const missing = alone && config.encryption === 'ipsec' ? this.#ipsec.missing() : undefined
      for (const { resolve } of this.#flushes.splice(0)) resolve(0)
      if (missing !== undefined) return this.#wait(missing)
      await apply(undefined)
      this.#ipsec.end()
      return true
    }
    const peers = this.#view.peers(known)
    for (const { only, resolve, reject } of this.#flushes.splice(0)) {
      await this.#network.flush(only, this.#ipsec.keys).then(resolve, reject)
    }
    // each step changes what the next one is decided by; a few, and the others' words are looked at again
    for (let steps = 0; steps < MOST_STEPS; steps++) {
      const settings = () => ipsecSettings(ownSnapshot(known))
      const ipsec = await this.#ipsec.decide(peers, settings, ownWords(known), {
        ciliumNodes: known.ciliumNodes,
        version,
      })
      if (typeof ipsec === 'string') return this.#wait(ipsec)
      await apply(ipsec)
      const received = this.#network.applied?.plan.ipsec?.peers ?? []
      if (!(await this.#ipsec.inForce(peers, received))) return true
    }
    this.#applyWorker.nudge()
    return true
  }

  #wait(sentence: string): false {
    if (sentence !== this.#waitingFor) this.#deps.log.info(`waiting: ${sentence}`)
    this.#waitingFor = sentence
    return false
  }

  /** A node without a memory of its own begins so that it fits to the others, and to what it said itself before a boot. */
  async #begin(config: AgentConfig, name: string, ciliumNodes: readonly CiliumNode[]): Promise<void> {
    const said = ciliumNodes.map((node) => readCiliumNode(node))
    const peers = said.filter((node) => node.name !== name)
    const own = said.find((node) => node.name === name)?.announcement
    const announcement = firstAnnouncement(config.encryption !== 'none', peers, own)
    await this.#deps.state.change({ announcement, since: this.#deps.now() })
    this.#deps.log.info('this node begins', { level: announcement.level, epoch: announcement.epoch })
  }

  async #publish(): Promise<void> {
    const { registry, state, log } = this.#deps
    // together, before anything is waited for: a newer view may show this node's own step beside peers that changed since
    const [applied, seen, modeSeen] = [this.#network.applied, this.#ownSeen, this.#modeSeen]
    const { config, node, ciliumNodes } = this.#deps.view()
    const { announcement, stage } = state.value
    if (config === undefined || node === undefined) return
    const ownsCidrs = { podCidrs: config.ipam === 'kubernetes' }
    if (applied === undefined || announcement === undefined) {
      // with cluster-pool it is by its CiliumNode that the operator knows a node
      if (ownsCidrs.podCidrs || ciliumNodes === undefined || ofName(ciliumNodes, node.name) !== undefined) return
      await registry.announce(requestPodCidrs(node, this.#deps.bootId), ownsCidrs)
      return
    }
    const { self } = applied.snapshot
    // a step that is decided but not yet in force is not told
    if (!sameAnnouncement(self.announcement, announcement) || !sameAnnouncement(self.mode, stage)) return
    // what the plan says of IPsec was decided before it was in force
    const words = applied.plan.announce.ipsec === undefined ? undefined : this.#ipsec.words
    const own: OwnAnnouncement = {
      name: node.name,
      nodeUid: node.uid,
      ...applied.plan.announce,
      ipsec: words,
      mode: this.#mode.wordsOf(applied.plan.announce.mode),
      bootId: applied.plan.announce.bootId ?? this.#deps.bootId,
      annotations: {
        [ANNOTATION.agentVersion]: VERSION,
        [ANNOTATION.datapath]: this.#deps.datapath.kind,
        ...(ownsCidrs.podCidrs ? {} : { [ANNOTATION.guards]: applied.snapshot.config.clusterCidrs.join(' ') }),
      },
    }
    const actual = ofName(ciliumNodes ?? [], node.name)
    let { resourceVersion } = actual?.metadata ?? {}
    const reading = this.#ipsec.reading
    // how far it has read changes with each event: it is written with other things, or when somebody waits for it
    let ipsecRead = parseReading(actual?.metadata.annotations?.[ANNOTATION.ipsecRead])
    if (ipsecRead === undefined || reading.isNews) ipsecRead = reading.now
    if (words === undefined) ipsecRead = undefined
    if (words !== undefined) this.#ipsec.tell(words)
    if (!saysAll(actual, { ...own, ipsecRead }, ownsCidrs)) {
      if (words !== undefined) ipsecRead = reading.now
      resourceVersion = await registry.announce({ ...own, ipsecRead }, ownsCidrs)
    }
    if (words !== undefined && this.#ipsec.told(words, ipsecRead, resourceVersion)) this.#applyWorker.nudge()

    const wanted = config.encryption !== 'none'
    this.#transition = nextLevel({
      wanted,
      own: announcement,
      ownSeen: seen,
      receiving: announcement.level !== CLEAR || !wanted || (await this.#datapathIsThere()),
      peers: applied.snapshot.peers,
      unsendable: unsendable(applied.snapshot),
    })
    const { next, text } = this.#transition
    const change = await this.#mode.decide({
      config,
      own: stage,
      ownSeen: modeSeen,
      applied,
      missing: () => this.#noIpsec(applied),
    })
    const steps = !sameAnnouncement(next, announcement)
    const moves = change !== undefined && !sameAnnouncement(change.next, stage)
    if (!steps && !moves) return
    await state.change({
      ...(steps ? { announcement: next, since: this.#deps.now() } : {}),
      ...(moves ? { stage: change.next, since: this.#deps.now() } : {}),
    })
    if (steps) log.info(`encryption: ${text}`, { level: next.level, epoch: next.epoch })
    if (moves) log.info(`encryption: ${change.text}`, { stage: change.next.level, epoch: change.next.epoch })
    this.#applyWorker.nudge()
  }

  /** Beside WireGuard; at level 0 there is no device of either. */
  async #noIpsec({ snapshot }: Applied): Promise<string | undefined> {
    const missing = this.#ipsec.missing()
    if (missing !== undefined || snapshot.self.announcement.level === CLEAR) return missing
    try {
      await this.#deps.datapath.openIpsec(ipsecSettings(snapshot))
      return undefined
    } catch (error) {
      return describeFault(error)
    }
  }

  /** Before the first step up; rejects when not, so that it is told and tried again. */
  async #datapathIsThere(): Promise<true> {
    const probe = await this.#deps.datapath.probe()
    if (probe.usable) return true
    throw new Fault('datapath.unusable', `encryption cannot begin: ${probe.missing}`, { remedy: probe.remedy })
  }
}

function notReady(reason: string): Fault {
  return new Fault('agent.not-ready', `this node is not programmed: ${reason}`)
}

function has(mode: EncryptionMode | undefined, type: EncryptionMode['type']): boolean {
  return mode !== undefined && (mode.type === type || mode.second === type)
}

/** More than a rotation takes. */
const MOST_STEPS = 4
