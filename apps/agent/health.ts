import { request } from 'node:http'
import { describeFault } from '#core/fault/fault.ts'
import { FAMILIES, type Ip } from '#core/ip/address.ts'
import { type Peer, type PerFamily, type Snapshot } from '#core/plan/snapshot.ts'
import type { HealthStatus } from '#core/status/health.ts'
import type { Log } from '#io/telemetry/log.ts'
import { ApiServer } from './api/server.ts'

/** As Cilium's. */
const HEALTH_PORT = 4240

export interface HealthTimes {
  /** Milliseconds between two rounds; longer where there are many nodes. */
  readonly period: number
  readonly timeout: number
  /** Probes under way at once. */
  readonly atOnce: number
  /** Milliseconds that each node takes of a round at least: 5,000 nodes are asked in 100 s. */
  readonly perNode: number
}

const TIMES: HealthTimes = { period: 15_000, timeout: 5000, atOnce: 16, perNode: 20 }

export interface HealthOptions {
  readonly times?: Partial<HealthTimes>
  readonly ask?: Ask
  /** False: answers nobody (tests). */
  readonly serve?: boolean
}

/** What is asked of a node: its internal IP, by one's own. */
type Ask = (ip: Ip, from: Ip, timeout: number) => Promise<boolean>

/**
 * Asks every other node's agent for a word, internal IP to internal IP and so by whatever encrypts between them, every 15 s
 * or so: a pair that carries nothing else shows that it could. The answers are for `status`; nothing depends on them.
 *
 * Not by WireGuard, whose device is silent while no pod speaks (the lab guide looks for that): there its own handshakes tell
 * who answers.
 */
export class Health {
  readonly #log: Log
  readonly #times: HealthTimes
  readonly #ask: Ask
  readonly #serves: boolean
  readonly #servers = new Map<Ip, ApiServer>()
  /** Where this node cannot answer, which is told once. */
  readonly #unserved = new Set<Ip>()
  readonly #failing = new Map<string, number>()
  #snapshot: Snapshot | undefined
  #timer: NodeJS.Timeout | undefined
  #last: HealthStatus | undefined
  #asks = false
  #closed = false

  constructor(log: Log, options: HealthOptions = {}) {
    this.#serves = options.serve ?? true
    this.#log = log
    this.#times = { ...TIMES, ...options.times }
    this.#ask = options.ask ?? askByHttp
  }

  /** What is in force now: answers at this node's internal IPs, asks at those of its peers. */
  async follow(snapshot: Snapshot, options: { readonly ask: boolean }): Promise<void> {
    if (this.#closed) return
    const first = this.#snapshot === undefined
    this.#snapshot = snapshot
    this.#asks = options.ask
    if (!options.ask) this.#last = undefined
    if (this.#serves) await this.#serve(snapshot.self.internalIps)
    if (first) this.#schedule(1000)
  }

  /** Of the last round; undefined before it has ended. */
  get status(): HealthStatus | undefined {
    return this.#last
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await Promise.all([...this.#servers.values()].map((server) => server.close()))
    this.#servers.clear()
  }

  async #serve(ips: PerFamily<Ip>): Promise<void> {
    const wanted = new Set(FAMILIES.flatMap((family) => ips[family] ?? []))
    for (const [ip, server] of this.#servers) {
      if (wanted.has(ip)) continue
      this.#servers.delete(ip)
      await server.close()
    }
    for (const ip of wanted) {
      if (this.#servers.has(ip)) continue
      const server = new ApiServer({ 'GET /hello': async () => ({}) }, this.#log)
      try {
        await server.listenTcp(ip, HEALTH_PORT)
        this.#servers.set(ip, server)
        this.#unserved.delete(ip)
      } catch (error) {
        // others see this node as unreachable; nothing else comes of it
        if (this.#unserved.has(ip)) continue
        this.#unserved.add(ip)
        this.#log.warn(`other nodes cannot ask this one for its health: ${describeFault(error)}`)
      }
    }
  }

  #schedule(ms: number): void {
    if (this.#closed) return
    this.#timer = setTimeout(() => void this.#round(), ms).unref()
  }

  async #round(): Promise<void> {
    const begun = performance.now()
    const { period, perNode } = this.#times
    if (!this.#asks) return this.#schedule(period)
    const nodes = this.#snapshot?.peers ?? []
    const own = this.#snapshot?.self.internalIps ?? {}
    const queue = nodes.map((peer) => ({ peer, path: pathTo(peer, own) }))
    const reached = new Set<string>()
    const work = async () => {
      for (let next = queue.shift(); next !== undefined && !this.#closed; next = queue.shift()) {
        const { peer, path } = next
        if (path !== undefined && (await this.#ask(path.to, path.from, this.#times.timeout))) reached.add(peer.name)
      }
    }
    await Promise.all(Array.from({ length: this.#times.atOnce }, work))
    if (!this.#asks) return this.#schedule(period)
    const now = Date.now()
    const silent = nodes.filter(({ name }) => !reached.has(name)).map(({ name }) => name)
    for (const name of this.#failing.keys()) if (!silent.includes(name)) this.#failing.delete(name)
    for (const name of silent) if (!this.#failing.has(name)) this.#failing.set(name, now)
    this.#last = {
      // this node too, as Cilium counts
      reachable: nodes.length - silent.length + 1,
      total: nodes.length + 1,
      'probed-at': new Date(now).toISOString(),
      unreachable: silent.map((node) => ({ node, since: new Date(this.#failing.get(node) ?? now).toISOString() })),
    }
    const all = Math.max(period, nodes.length * perNode)
    this.#schedule(Math.max(1000, all - (performance.now() - begun)))
  }
}

function pathTo(peer: Peer, own: PerFamily<Ip>): { readonly to: Ip; readonly from: Ip } | undefined {
  for (const family of FAMILIES) {
    const [to, from] = [peer.internalIps[family], own[family]]
    if (to !== undefined && from !== undefined) return { to, from }
  }
  return undefined
}

function askByHttp(ip: Ip, from: Ip, timeout: number): Promise<boolean> {
  return new Promise((resolve) => {
    const options = { host: ip, port: HEALTH_PORT, path: '/hello', localAddress: from, agent: false, timeout }
    const asked = request(options, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    // also one that answers a byte a minute
    const limit = setTimeout(() => asked.destroy(new Error('no answer in time')), timeout)
    asked.on('timeout', () => asked.destroy(new Error('no answer in time')))
    asked.on('error', () => resolve(false))
    asked.on('close', () => clearTimeout(limit))
    asked.end()
  })
}
