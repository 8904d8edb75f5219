import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { type Hierarchies, machineHierarchies } from './cgroups.ts'
import { checkMachine, pickUnderlay } from './check.ts'
import { removeLab } from './down.ts'
import { makeRoomForInotify } from './inotify.ts'
import { create, type LabApi, openApi } from './kubernetes/api.ts'
import { adminRequest, nodeFiles } from './kubernetes/files.ts'
import { nodeObjects, setupObjects } from './kubernetes/objects.ts'
import { apiServerUrl, type IpFamily, type LabLayout, type LabNode, layOut } from './layout.ts'
import { aptFiles } from './node/apt.ts'
import { openGates, startNode, writeNode } from './node/node.ts'
import { type LabPaths, labPaths, nodePaths, stateFolder } from './paths.ts'
import { type Authority, issue, makeAuthority } from './pki/certificate.ts'
import { kubeconfig } from './pki/kubeconfig.ts'
import { startPort } from './port.ts'
import type { Progress } from './progress/progress.ts'
import { isAlive, type LabState, processId, readState, writeState } from './state.ts'
import { prepareStateFolder } from './state-folder.ts'
import { runSteps } from './steps/steps.ts'
import { requireStore, seedNode } from './store/store.ts'
import { plug, startOutside, startUnderlay } from './underlay/underlay.ts'

export interface UpOptions {
  readonly name: string
  readonly nodes: number
  readonly family: IpFamily
  readonly kubernetesBin: string | undefined
  /** Keep what was made when a step fails. */
  readonly retain: boolean
}

export type UpResult = 'made' | 'there'

/** A cluster without a CNI: API server ready, nodes registered and NotReady. A lab that is up is left as it is. */
export async function labUp(options: UpOptions, progress: Progress, signal: AbortSignal): Promise<UpResult> {
  const folder = stateFolder()
  const paths = labPaths(folder, options.name)
  const before = readState(paths)
  if (before?.phase === 'up' && isAlive(before.underlay)) {
    refuseOther(before, options)
    return 'there'
  }
  if (before?.phase === 'starting' && isAlive(before.creator)) {
    throw new Fault('lab.busy', `process ${before.creator.pid} is making the lab ${options.name} just now`, {
      field: '--name',
    })
  }
  if (existsSync(paths.folder)) {
    await progress.step(
      `Removing what is left of an earlier ${options.name}`,
      async () => await removeLab(folder, options.name),
    )
  }
  const maker = new Maker(options, folder, paths, signal, (line) => progress.note(line))
  try {
    await runSteps(maker.steps(), progress, signal)
  } catch (error) {
    if (options.retain)
      progress.note(`kept as it is in ${paths.folder}; \`pellicle lab down --name ${options.name}\` removes it`)
    else if (maker.begun) await progress.step('Undoing', async () => await removeLab(folder, options.name))
    throw error
  } finally {
    maker.close()
  }
  return 'made'
}

/** A lab that is up is not made over: what was asked for must be what it is. */
export function refuseOther(before: Pick<LabState, 'options' | 'programs'>, asked: UpOptions): void {
  const { nodes, family } = before.options
  const otherPrograms = asked.kubernetesBin !== undefined && resolve(asked.kubernetesBin) !== before.programs
  if (nodes === asked.nodes && family === asked.family && !otherPrograms) return
  const programs = otherPrograms ? `, with the programs of ${before.programs}` : ''
  throw new Fault('lab.differs', `the lab ${asked.name} is up with ${nodes} nodes, ${family}${programs}`, {
    field: '--name',
    remedy: 'Run `pellicle lab down` first, or give the new one another --name',
  })
}

/** The steps of `lab up` and what they hand on to each other. */
class Maker {
  begun = false
  readonly #options: UpOptions
  readonly #folder: string
  readonly #paths: LabPaths
  readonly #signal: AbortSignal
  readonly #note: (line: string) => void
  readonly #hierarchies: Hierarchies = machineHierarchies()
  readonly #authority: Authority = makeAuthority({ name: 'kubernetes' }, Date.now())
  #layout: LabLayout
  #state: LabState
  #api: LabApi | undefined

  constructor(options: UpOptions, folder: string, paths: LabPaths, signal: AbortSignal, note: (line: string) => void) {
    this.#signal = signal
    this.#note = note
    this.#options = options
    this.#folder = folder
    this.#paths = paths
    this.#layout = layOut({ ...options, underlay: 18 })
    this.#state = {
      options: this.#layout,
      phase: 'starting',
      creator: processId(process.pid),
      port: 0,
      programs: '',
      store: '',
      underlay: undefined,
      nodes: {},
    }
  }

  steps() {
    const count = this.#layout.nodes
    return [
      { title: 'Checking the machine', work: async () => await this.#check() },
      {
        title: `Making ${count} node${count === 1 ? '' : 's'} and their network`,
        work: async () => await this.#makeNodes(),
      },
      { title: 'Starting the control plane', work: async () => await this.#startControlPlane() },
      {
        title: 'Registering nodes',
        work: async (voice: { detail(text: string): void }) => await this.#register((text) => voice.detail(text)),
      },
    ]
  }

  close(): void {
    this.#api?.close()
  }

  async #check(): Promise<void> {
    const programs = await checkMachine(this.#options.kubernetesBin)
    await prepareStateFolder(this.#folder)
    const store = requireStore(this.#folder)
    const { name, nodes, family } = this.#options
    this.#layout = layOut({ name, nodes, family, underlay: await pickUnderlay() })
    this.begun = true
    mkdirSync(this.#paths.log, { recursive: true, mode: 0o700 })
    const raised = makeRoomForInotify(nodes, this.#folder)
    if (raised !== undefined) this.#note(raised)
    this.#save({ options: { name, nodes, family, underlay: this.#layout.underlay }, programs, store })
  }

  async #makeNodes(): Promise<void> {
    const underlay = await startUnderlay(this.#layout, this.#hierarchies, this.#paths.log)
    this.#save({ underlay: processId(underlay) })
    startOutside(this.#layout, this.#hierarchies, underlay, this.#paths.log)
    const extra = await aptFiles()
    const [port] = await Promise.all([
      startPort(this.#layout, this.#hierarchies, underlay, this.#paths.log, 0),
      ...this.#layout.nodeList.map(async (node) => await this.#makeNode(node, underlay, extra)),
    ])
    this.#save({ port })
    const admin = issue(this.#authority, adminRequest(), Date.now())
    this.#api = openApi({
      port,
      authority: this.#authority.certificate,
      certificate: admin.certificate,
      key: admin.key,
    })
    const server = `https://127.0.0.1:${port}`
    const user = kubeconfig(this.#layout.name, 'admin', server, this.#authority.certificate, admin)
    writeFileSync(this.#paths.kubeconfig, user, { mode: 0o600 })
  }

  async #makeNode(node: LabNode, underlay: number, extra: ReadonlyMap<string, string>): Promise<void> {
    const paths = nodePaths(this.#paths, node.name)
    const files = nodeFiles(this.#layout, node, this.#authority, Date.now(), extra)
    const { programs, store } = this.#state
    writeNode(this.#layout, node, paths, this.#hierarchies, { files, programs, store })
    seedNode(store, paths)
    const pid = await startNode(this.#layout.name, node, paths, this.#hierarchies)
    this.#save({ nodes: { ...this.#state.nodes, [node.name]: processId(pid) } })
    await plug(this.#layout, node, underlay, pid)
    // containerd needs nobody: it is up before the API server is
    await openGates(pid, node.controlPlane ? ['etcd', 'kube-apiserver', 'containerd'] : ['containerd'])
  }

  async #startControlPlane(): Promise<void> {
    const api = this.#requireApi()
    await waitFor(
      120_000,
      `the API server at ${apiServerUrl(this.#layout)}`,
      this.#logOf('kube-apiserver'),
      this.#signal,
      async () => {
        return (await api.call('GET', '/readyz')).status === 200
      },
    )
  }

  async #register(detail: (text: string) => void): Promise<void> {
    const api = this.#requireApi()
    for (const { collection, object } of nodeObjects(this.#layout)) await create(api, collection, object)
    const gates = ['kubelet', 'kube-proxy']
    await Promise.all(
      this.#layout.nodeList.map(async (node) => {
        const cluster = node.controlPlane ? ['kube-controller-manager', 'kube-scheduler'] : []
        await openGates(this.#state.nodes[node.name]?.pid ?? 0, [...cluster, ...gates])
      }),
    )
    await Promise.all(
      setupObjects(this.#layout).map(async ({ collection, object }) => await create(api, collection, object)),
    )
    await waitFor(120_000, 'every node to register', join(this.#paths.folder, 'nodes'), this.#signal, async () => {
      const { status, body } = await api.call('GET', '/api/v1/nodes')
      if (status !== 200) return false
      const items = (JSON.parse(body) as { items: { status: { nodeInfo?: { kubeletVersion?: string } } }[] }).items
      const registered = items.filter((item) => item.status.nodeInfo?.kubeletVersion).length
      detail(`${registered} of ${this.#layout.nodes}`)
      return registered === this.#layout.nodes
    })
    this.#save({ phase: 'up' })
  }

  #requireApi(): LabApi {
    if (this.#api === undefined) throw new TypeError('the nodes come first')
    return this.#api
  }

  #logOf(service: string): string {
    return join(nodePaths(this.#paths, this.#layout.nodeList[0]?.name ?? '').log, `${service}.log`)
  }

  #save(change: Partial<LabState>): void {
    this.#state = { ...this.#state, ...change }
    writeState(this.#paths, this.#state)
  }
}

async function waitFor(
  limit: number,
  what: string,
  log: string,
  signal: AbortSignal,
  done: () => Promise<boolean>,
): Promise<void> {
  const end = performance.now() + limit
  let last: unknown
  while (performance.now() < end) {
    signal.throwIfAborted()
    try {
      if (await done()) return
    } catch (error) {
      last = error
    }
    await sleep(50, undefined, { signal })
  }
  const words =
    existsSync(log) && log.endsWith('.log') ? readFileSync(log, 'utf8').trim().split('\n').slice(-5).join('\n') : ''
  const why = last === undefined ? '' : `: ${describeFault(last)}`
  throw new Fault(
    'lab.timeout',
    `waited ${limit / 1000} s in vain for ${what}${why}${words === '' ? '' : `\n${words}`}`,
    {
      field: log,
      remedy: `Read the logs in ${log}; --retain keeps them`,
    },
  )
}
