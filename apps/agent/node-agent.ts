import { access, mkdir } from 'node:fs/promises'
import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { ANNOTATION, CLEANUP } from '#core/api/names.ts'
import type { NodeFacts } from '#core/api/node.ts'
import type { Datapath, IpsecState, WireguardState } from '#core/datapath/datapath.ts'
import { describeFault } from '#core/fault/fault.ts'
import { IPSEC_DEVICE, WIREGUARD_DEVICE } from '#core/plan/names.ts'
import { podNetwork } from '#core/plan/pod-network.ts'
import type { StateMessage } from '#core/status/agent-status.ts'
import { receivesBy } from '#core/transition/mode.ts'
import { VERSION } from '#core/version/version.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { EventRecorder } from '#io/kube/events.ts'
import { Informer } from '#io/kube/informer.ts'
import { readSmallFile } from '#io/store/file.ts'
import { JsonFile } from '#io/store/json-file.ts'
import { watchFolder } from '#io/store/watch-folder.ts'
import type { Log } from '#io/telemetry/log.ts'
import { Agent } from './agent.ts'
import { agentRoutes, healthRoutes, metricsRoutes } from './api/routes.ts'
import { ApiServer, type Routes } from './api/server.ts'
import { type CleanupDeps, cleanUp, cleanUpOnRequest } from './cleanup.ts'
import { CleanupRequest } from './cleanup-request.ts'
import { CNI_CONFLIST, installCni, removeCni } from './cni/install.ts'
import { Pods } from './cni/pods.ts'
import { DeleteQueue } from './cni/queue.ts'
import { CniServer } from './cni/server.ts'
import { ConfigWatch } from './config-watch.ts'
import { missingInterface } from './encrypt-interface.ts'
import { type Endpoint, Endpoints, endpointsSchema } from './endpoints.ts'
import { Health } from './health.ts'
import { KeySource } from './key-source.ts'
import { NodeAddresses } from './node-addresses.ts'
import { NodeStateStore, nodeStateSchema } from './node-state.ts'
import { NodeWatch } from './node-watch.ts'
import { loadOwnKey } from './own-key.ts'
import { saidOfPaths } from './path-mtu.ts'
import type { AgentPaths } from './paths.ts'
import { modeOf } from './plan-config.ts'
import type { HostNetwork, HostObservation, PodDevices } from './ports.ts'
import { KubeRegistry } from './publisher.ts'
import type { StatusInputs } from './status.ts'
import { perFamily } from './view.ts'

export interface NodeAgentOptions {
  readonly nodeName: string
  /** Ours: where the Secret of IPsec keys is. */
  readonly namespace: string
  readonly paths: AgentPaths
  readonly log: Log
  readonly client: KubeClient
  readonly host: HostNetwork
  readonly devices: PodDevices
  readonly datapath: Datapath
  /** Why it is this one. */
  readonly datapathReason?: string
  /** `127.0.0.1`; undefined: no health port (tests). */
  readonly healthPort: number | undefined
  /** Empty: all addresses of the node. Undefined: this node's own 127.0.0.1. */
  readonly metricsAddress?: string | undefined
  readonly metricsPort: number | undefined
  /** Ends this process, to be started again. */
  end(): void
}

/** Also when nobody tells of a change, what is there is compared with the plan: somebody may have deleted a route. */
const RESYNC_MS = 60_000
/** Between two lines that say the same about the API server. */
const TELL_AGAIN_MS = 60_000

/**
 * One node's agent: all parts, wired.
 *
 * Longer than other files: each part has a file of its own, and this is the one place that knows them all.
 */
export class NodeAgent {
  readonly #options: NodeAgentOptions
  readonly #config: ConfigWatch
  readonly #nodes: NodeWatch
  readonly #ciliumNodes
  readonly #endpoints: Endpoints
  readonly #state: NodeStateStore
  readonly #addresses = new NodeAddresses()
  readonly #keys: KeySource
  readonly #health: Health
  readonly #events: EventRecorder
  readonly #pods: Pods
  readonly #cni: CniServer
  readonly #queue: DeleteQueue
  readonly #api: ApiServer
  readonly #closing: (() => Promise<unknown> | void)[] = []
  #agent: Agent | undefined
  #facts: NodeFacts | undefined
  #cniFile: StateMessage = { state: 'Warning', msg: 'not written yet: this node is not programmed' }
  #podsUp = false
  /** The last sentence about `encryption.ipsec.interface`: said once while it holds. */
  #toldInterface: string | undefined
  readonly #cleanup: CleanupRequest

  constructor(options: NodeAgentOptions) {
    const { paths, log, client, nodeName } = options
    this.#options = options
    this.#config = new ConfigWatch(paths.configDir, log, () => {
      void this.#followKeys()
      this.#agent?.nudge()
    })
    this.#keys = new KeySource(client, log, () => {
      this.#tellKeyProblem()
      this.#agent?.nudge()
    })
    this.#health = new Health(log.with({ subsys: 'health' }))
    this.#events = new EventRecorder(client, 'pellicle.io/agent', (error) =>
      log.debug(`an event could not be written: ${describeFault(error)}`),
    )
    const told = new Map<string, number>()
    const onFailure = (error: unknown) => {
      const sentence = `the API server does not answer as it should: ${describeFault(error)}`
      // status tells for how long it has been so; the log tells once in a while
      const now = performance.now()
      if (now - (told.get(sentence) ?? Number.NEGATIVE_INFINITY) < TELL_AGAIN_MS) return
      if (told.size > 100) told.clear()
      told.set(sentence, now)
      log.warn(sentence)
    }
    this.#nodes = new NodeWatch(client, () => this.#agent?.nudge(), onFailure)
    this.#ciliumNodes = new Informer(client, CILIUM_NODES, {
      onFailure,
      onSynced: () => this.#agent?.nudge(),
      onChange: ({ object }) => {
        if (object.metadata.name === nodeName) this.#lookForCleanup()
        this.#agent?.nudge()
      },
    })
    this.#endpoints = new Endpoints(new JsonFile(paths.endpoints, endpointsSchema))
    this.#state = new NodeStateStore(new JsonFile(paths.nodeState, nodeStateSchema))
    this.#pods = new Pods({
      endpoints: this.#endpoints,
      devices: options.devices,
      log: log.with({ subsys: 'cni' }),
      release: (owner) => this.#release(owner),
      notReady: () => (this.#agent === undefined ? 'the agent is starting' : this.#agent.notReady()),
      programmed: async () => await this.#agent?.programmed(),
      namespaceExists: (path) => exists(path),
      settings: () => {
        const snapshot = this.#agent?.applied?.snapshot
        if (snapshot === undefined) return undefined
        return {
          allocate: (owner) => this.#addresses.allocate(owner, Date.now()),
          network: (endpoint: Endpoint) =>
            podNetwork(snapshot, {
              device: endpoint.ifname,
              hostMac: endpoint.hostMac,
              ips: perFamily(endpoint.ips.map(({ ip }) => ip)),
            }),
        }
      },
    })
    this.#cni = new CniServer(this.#pods, log.with({ subsys: 'cni' }))
    this.#queue = new DeleteQueue(paths.deleteQueue, (line) => this.#cni.answer(line), log.with({ subsys: 'cni' }))
    this.#cleanup = new CleanupRequest({
      log,
      clean: () => cleanUpOnRequest(this.#cleanupDeps()),
      forget: () => this.#annotateCleanup(undefined),
      end: () => options.end(),
    })
    const routes = agentRoutes({
      status: () => this.#statusInputs(),
      endpoints: () => this.#endpoints.all(),
      agent: () => this.#agent,
      observeIpsec: (device) => options.datapath.observeIpsec(device),
      cleanUp: () => cleanUp(this.#cleanupDeps()),
    })
    this.#api = new ApiServer(routes, log.with({ subsys: 'api' }))
  }

  /** Resolves when everything runs; the node may still have to be programmed. Rejects when it cannot run at all. */
  async start(): Promise<void> {
    const { paths, log, nodeName, datapath, healthPort, metricsPort } = this.#options
    if (healthPort !== undefined) {
      const routes = healthRoutes(() => this.#unhealthy())
      await this.#listen(routes, '127.0.0.1', healthPort)
    }
    if (metricsPort !== undefined) {
      const routes = await metricsRoutes(() => this.#statusInputs())
      await this.#listen(routes, this.#options.metricsAddress ?? '127.0.0.1', metricsPort)
    }
    await this.#api.listenUnix(paths.apiSocket)
    this.#closing.push(() => this.#api.close())
    await this.#config.start()
    this.#closing.push(() => this.#config.close())
    await this.#endpoints.load()
    await this.#state.load()
    if (this.#state.value.ipam !== undefined) this.#addresses.remember(this.#state.value.ipam)
    await this.#pods.reclaim()
    const bootId = new TextDecoder().decode(await readSmallFile(paths.bootId)).trim()
    this.#agent = new Agent({
      nodeName,
      bootId,
      registry: new KubeRegistry(this.#options.client),
      host: this.#options.host,
      datapath,
      endpoints: this.#endpoints,
      state: this.#state,
      addresses: this.#addresses,
      log,
      view: () => ({
        config: this.#config.config,
        node: this.#ownFacts(),
        nodes: this.#nodes.nodes,
        ciliumNodes: this.#ciliumNodes.health().synced ? this.#ciliumNodes.list() : undefined,
        version: this.#ciliumNodes.health().resourceVersion,
      }),
      loadKey: () => loadOwnKey(paths.keyFile),
      ipsecKeys: () => this.#keys.reading,
      onProgrammed: () => this.#afterProgramming(),
      now: () => Date.now(),
    })
    await this.#followKeys()
    this.#closing.push(
      () => this.#keys.close(),
      () => this.#health.close(),
    )
    this.#nodes.start()
    this.#ciliumNodes.start()
    this.#closing.push(() => Promise.all([this.#nodes.stop(), this.#ciliumNodes.stop()]))
    await this.#cni.listen(paths.cniSocket)
    this.#closing.push(() => this.#cni.close())
    await this.#queue.start()
    this.#closing.push(() => this.#queue.close())
    this.#closing.push(await watchRunFolder(paths.runFolder, () => this.#agent?.resync()))
    const resync = setInterval(() => {
      // they are not needed any more when encryption has been turned off
      void this.#followKeys()
      this.#agent?.resync()
    }, RESYNC_MS)
    this.#closing.push(() => clearInterval(resync))
    this.#agent.nudge()
    log.info('the agent runs', { version: VERSION, node: nodeName, datapath: datapath.kind })
  }

  /** Something of ours was changed by somebody else, or a device came or went. */
  resync(): void {
    this.#agent?.resync()
  }

  /** Ends; the node's network stays as it is. */
  async close(): Promise<void> {
    await this.#agent?.close()
    for (const end of this.#closing.splice(0).reverse()) await end()
    await this.#options.datapath.close()
    await this.#options.host.close()
  }

  /** Keys are looked for while IPsec is asked for or still in force. */
  async #followKeys(): Promise<void> {
    const { config } = this.#config
    if (config === undefined) return
    // while it is being turned off, or changed to WireGuard, the configuration does not say it any more
    const { mode, stage } = this.#state.value
    const uses = stage === undefined ? mode?.type === 'ipsec' : receivesBy(stage.level).includes('ipsec')
    if (modeOf(config)?.type !== 'ipsec' && !uses) return await this.#keys.close()
    const { secret, keyFile, keyWatcher, interface: device } = config.ipsec
    const missing = device === undefined ? undefined : await missingInterface(device)
    if (missing !== undefined && missing.message !== this.#toldInterface) {
      this.#options.log.warn(missing.message, { setting: missing.field, remedy: missing.remedy })
    }
    this.#toldInterface = missing?.message
    const { namespace } = this.#options
    await this.#keys.follow({ namespace, secret: secret.name, field: secret.field, file: keyFile, watched: keyWatcher })
  }

  /** Where kubectl looks: at the Secret, or at the Node when there is none. */
  #tellKeyProblem(): void {
    const { problem, complete } = this.#keys.reading
    const { names } = this.#keys
    if (problem === undefined || !complete || names === undefined) return
    void this.#events.record({
      regarding: { apiVersion: 'v1', kind: 'Secret', name: names.secret, namespace: names.namespace },
      type: 'Warning',
      reason: problem.code === 'ipsec.key.missing' ? 'IPsecKeyMissing' : 'IPsecKeyInvalid',
      action: 'ReadKey',
      note: `node ${this.#options.nodeName}: ${describeFault(problem)}`,
    })
  }

  /** Also after its Node was deleted: the pods here run on. */
  #ownFacts(): NodeFacts | undefined {
    this.#facts = this.#nodes.nodes?.get(this.#options.nodeName) ?? this.#facts
    return this.#facts
  }

  /** The address rests, also over a restart of this agent. */
  #release(owner: string): void {
    this.#addresses.release(owner, Date.now())
    // nothing is known yet, or the state was just removed for good
    if (this.#agent === undefined || this.#agent.notReady() !== undefined) return
    this.#state.change({ ipam: this.#addresses.remembered() }).catch((error: unknown) => {
      this.#options.log.warn(`a restart of this agent would give just freed addresses away: ${describeFault(error)}`)
    })
  }

  /** From now on pods may start. */
  async #afterProgramming(): Promise<void> {
    const { paths, devices } = this.#options
    if (!this.#podsUp) {
      // a removal took them down; what keeps them from leaking is in force again
      await devices.setUp(
        this.#endpoints.all().map(({ device }) => device),
        true,
      )
      this.#podsUp = true
    }
    const applied = this.#agent?.applied
    if (applied !== undefined)
      await this.#health.follow(applied.snapshot, { ask: applied.plan.wireguard === undefined })
    await installCni(paths.cni)
    this.#cniFile = { state: 'Ok', msg: `${paths.cni.configFolder}/${CNI_CONFLIST}` }
  }

  #lookForCleanup(): void {
    const own = this.#ciliumNodes.get(this.#options.nodeName)
    if (own !== undefined && this.#agent !== undefined)
      this.#cleanup.look(own.metadata.annotations?.[ANNOTATION.cleanup])
  }

  #cleanupDeps(): CleanupDeps {
    const { host, datapath, devices, log, paths } = this.#options
    return {
      host,
      datapath,
      devices,
      log,
      stateFolder: paths.stateFolder,
      pause: async () => {
        await this.#agent?.pause('this node is being cleaned up')
      },
      runFolder: paths.runFolder,
      deleteQueue: paths.deleteQueue,
      drainDeletions: async () => {
        await this.#queue.drain()
        this.#queue.close()
      },
      removeCniConfig: async () => {
        await removeCni(paths.cni)
        this.#cniFile = { state: 'Disabled', msg: 'removed' }
      },
      acknowledge: async (value) => {
        // what this node said of its encryption is not true any more: nobody may build on it
        const gone =
          value === CLEANUP.done
            ? {
                [ANNOTATION.publicKey]: undefined,
                [ANNOTATION.ipsecKeys]: undefined,
                [ANNOTATION.ipsecRead]: undefined,
                [ANNOTATION.level]: undefined,
                [ANNOTATION.mode]: undefined,
                [ANNOTATION.nodeEncryption]: undefined,
              }
            : {}
        const registry = new KubeRegistry(this.#options.client)
        await registry.annotate(this.#options.nodeName, { ...gone, [ANNOTATION.cleanup]: value })
      },
    }
  }

  async #annotateCleanup(value: string | undefined): Promise<void> {
    await new KubeRegistry(this.#options.client).annotate(this.#options.nodeName, { [ANNOTATION.cleanup]: value })
  }

  /** A node that was cleaned is well: nobody should start its agent again. */
  #unhealthy(): string | undefined {
    if (this.#cleanup.active) return undefined
    if (this.#agent === undefined) return 'the agent is starting'
    if (this.#agent.applied === undefined) return this.#agent.notReady() ?? 'this node is not programmed yet'
    const failing = this.#agent.workers.find(({ name, failures }) => name === 'apply' && failures > 4)
    return failing === undefined ? undefined : describeFault(failing.lastError)
  }

  async #listen(routes: Routes, host: string, port: number): Promise<void> {
    const server = new ApiServer(routes, this.#options.log.with({ subsys: 'api' }))
    await server.listenTcp(host, port)
    this.#closing.push(() => server.close())
  }

  async #statusInputs(): Promise<StatusInputs> {
    const agent = this.#agent
    return {
      nodeName: this.#options.nodeName,
      config: this.#config.config,
      applied: agent?.applied,
      transition: agent?.transition,
      notReady: agent === undefined ? 'the agent is starting' : agent.notReady(),
      workers: agent?.workers ?? [],
      endpoints: this.#endpoints.all(),
      host: await this.#host(),
      paths: await saidOfPaths(this.#options.host, agent?.applied),
      counters: await this.#counters(),
      now: Date.now(),
      levelSince: this.#state.value.since,
      usage: this.#addresses.usage(),
      device: await this.#device(),
      ipsecDevice: await this.#ipsecDevice(),
      ipsecKeys: this.#keys.names === undefined ? undefined : this.#keys.reading,
      rotation: agent?.ipsec.rotation,
      health: this.#health.status,
      datapath: this.#options.datapath.kind,
      datapathReason: this.#options.datapathReason,
      kubernetes: this.#kubernetes(),
      cniFile: this.#cniFile,
    }
  }

  /** A status is told also while the kernel cannot be asked. */
  async #host(): Promise<HostObservation> {
    try {
      return await this.#options.host.observe()
    } catch (error) {
      this.#options.log.debug(`the drop counters cannot be read: ${describeFault(error)}`)
      return { drops: {}, upkeep: undefined }
    }
  }

  async #counters(): Promise<Readonly<Record<string, number>>> {
    const plan = this.#agent?.applied?.plan
    const type = this.#agent?.applied?.snapshot.config.encryption.type
    const device = type === 'ipsec' ? plan?.ipsec : plan?.wireguard
    if (device === undefined) return {}
    try {
      return await this.#options.datapath.counters(device.name)
    } catch {
      // what #device gives says why
      return {}
    }
  }

  async #device(): Promise<WireguardState | undefined | Error> {
    if (this.#agent?.applied?.plan.wireguard === undefined) return undefined
    return await orError(() => this.#options.datapath.observe(WIREGUARD_DEVICE))
  }

  async #ipsecDevice(): Promise<IpsecState | undefined | Error> {
    if (this.#agent?.applied?.plan.ipsec === undefined) return undefined
    return await orError(() => this.#options.datapath.observeIpsec(IPSEC_DEVICE))
  }

  #kubernetes(): StateMessage {
    const { staleMs, synced, lastFailure } = this.#ciliumNodes.health()
    if (staleMs === 0 && synced) return { state: 'Ok', msg: this.#options.client.server }
    const why = lastFailure === undefined ? 'not reached yet' : describeFault(lastFailure)
    return {
      state: 'Warning',
      msg: synced ? `away for ${Math.round(staleMs / 1000)} s, going on with what is known: ${why}` : why,
    }
  }
}

/** What cannot be asked is told as such. */
async function orError<T>(ask: () => Promise<T>): Promise<T | Error> {
  try {
    return await ask()
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch {
    return false
  }
}

/** The supervisor's socket lies there: when it comes, or comes again, whatever waited for it goes on at once. */
async function watchRunFolder(folder: string, onChange: () => void): Promise<() => void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const watcher = watchFolder(folder, onChange, () => undefined)
  return () => watcher.close()
}
