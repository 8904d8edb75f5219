import { mkdir } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { FakeIpsecEngine } from './fake-ipsec-engine.ts'

/**
 * A supervisor and its keepers in this process, for tests of what talks to them: the supervisor's protocol
 * (docs/protocol/supervisor.md) and the WireGuard control protocol with the kernel's semantics, over real Unix sockets.
 */
export class FakeNodeRuntime {
  readonly supervisorSocket: string
  readonly controlFolder: string
  readonly devices = new Map<string, FakeDevice>()
  /** Of devices of IPsec. */
  readonly engines = new Map<string, FakeIpsecEngine>()
  /** Every `set=1` as it came. */
  readonly sets: string[] = []
  /** Ports that somebody else has. */
  readonly takenPorts = new Set<number>()
  /** False: a supervisor of a release that knows no `device.renew`. */
  renews = true
  /** Called when a device is made and removed: a test with a real network puts a real one there. */
  onDevice: (name: string, there: boolean) => void = () => undefined
  readonly #servers = new Map<string, Server>()
  readonly #sockets = new Set<Socket>()
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
    this.supervisorSocket = join(folder, 'supervisor.sock')
    this.controlFolder = join(folder, 'wireguard')
  }

  async start(): Promise<void> {
    await mkdir(this.controlFolder, { recursive: true })
    await this.#serve('', this.supervisorSocket, async (text) => {
      const line = text.split('\n', 1)[0] ?? ''
      return text.includes('\n')
        ? `${JSON.stringify(await this.#supervise(JSON.parse(line) as Question))}\n`
        : undefined
    })
  }

  async stop(): Promise<void> {
    for (const engine of this.engines.values()) engine.restart()
    await Promise.all(Array.from(this.#servers.keys(), (name) => this.#end(name)))
  }

  /** A supervisor that is killed and started again at once: all that engines had is gone, and their instance is another. */
  loseMemory(name: string): void {
    const before = this.engines.get(name)
    this.engines.set(name, new FakeIpsecEngine())
    before?.restart()
  }

  async #supervise(question: Question): Promise<object> {
    const { id, op } = question
    const refuse = (code: string, message: string) => ({ id, ok: false, code, message, remedy: 'try another' })
    switch (op) {
      case 'status':
        return {
          id,
          ok: true,
          version: 'fake',
          pid: process.pid,
          devices: [...this.devices.values()].map(({ name, kind }) => ({ name, kind })),
        }
      case 'device.add': {
        const { name, kind, listenPort, mark, mtu } = question.device as FakeDevice
        if (this.takenPorts.has(listenPort)) return refuse('port.taken', `UDP port ${listenPort} is in use`)
        const before = this.devices.get(name)
        if (before === undefined) {
          this.devices.set(name, { name, kind, listenPort, mark, mtu, privateKey: '', peers: new Map() })
          this.onDevice(name, true)
          if (kind === 'ipsec') await this.#serveEngine(name)
          else
            await this.#serve(name, join(this.controlFolder, `${name}.sock`), async (text) =>
              text.endsWith('\n\n') ? this.#control(name, text) : undefined,
            )
        } else Object.assign(before, { listenPort, mark, mtu })
        return { id, ok: true }
      }
      case 'device.remove':
        if (!this.devices.delete(question.name ?? '')) return refuse('device.unknown', 'no such device')
        this.engines.get(question.name ?? '')?.restart()
        this.engines.delete(question.name ?? '')
        await this.#end(question.name ?? '')
        this.onDevice(question.name ?? '', false)
        return { id, ok: true }
      case 'device.renew':
        if (!this.renews) return refuse('request.unknown', 'no such operation')
        this.loseMemory(question.name ?? '')
        return { id, ok: true }
      default:
        return refuse('request.unknown', 'no such operation')
    }
  }

  #control(name: string, text: string): string {
    const device = this.devices.get(name)
    if (device === undefined) return 'errno=19\n\n'
    const lines = text.trim().split('\n')
    if (lines[0] === 'get=1') return describe(device)
    if (lines[0] === 'pellicle=1') return 'counter_dropNoPeer=0\nerrno=0\n\n'
    this.sets.push(text)
    let peer: FakePeer | undefined
    for (const line of lines.slice(1)) {
      const at = line.indexOf('=')
      const [key, value] = [line.slice(0, at), line.slice(at + 1)]
      if (key === 'private_key') device.privateKey = value
      else if (key === 'listen_port') device.listenPort = Number(value)
      else if (key === 'fwmark') device.mark = Number(value)
      else if (key === 'public_key') {
        peer = device.peers.get(value) ?? { endpoint: '', keepalive: '0', allowed: new Set() }
        device.peers.set(value, peer)
      } else if (peer === undefined) return 'errno=22\n\n'
      else if (key === 'remove') removePeer(device, peer)
      else if (key === 'endpoint') peer.endpoint = value
      else if (key === 'persistent_keepalive_interval') peer.keepalive = value
      else if (key === 'allowed_ip' && value.startsWith('-')) peer.allowed.delete(value.slice(1))
      else if (key === 'allowed_ip') {
        for (const other of device.peers.values()) other.allowed.delete(value)
        peer.allowed.add(value)
      } else if (key !== 'update_only' && key !== 'pellicle_greet') return 'errno=22\n\n'
    }
    return 'errno=0\n\n'
  }

  async #serveEngine(name: string): Promise<void> {
    this.engines.set(name, new FakeIpsecEngine())
    await mkdir(join(this.#folder, name), { recursive: true })
    const server = createServer((socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
      this.engines.get(name)?.accept(socket)
    })
    this.#servers.set(name, server)
    await new Promise<void>((resolve) => server.listen(join(this.#folder, name, 'engine.sock'), resolve))
  }

  async #serve(name: string, path: string, answer: (text: string) => Promise<string | undefined>): Promise<void> {
    const server = createServer((socket) => {
      let text = ''
      this.#sockets.add(socket)
      socket.setEncoding('utf8')
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('error', () => undefined)
      socket.on('data', (chunk: string) => {
        text += chunk
        void answer(text).then((reply) => reply !== undefined && socket.end(reply))
      })
    })
    this.#servers.set(name, server)
    await new Promise<void>((resolve) => server.listen(path, resolve))
  }

  async #end(name: string): Promise<void> {
    const server = this.#servers.get(name)
    this.#servers.delete(name)
    await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)))
  }
}

export interface FakeDevice {
  name: string
  kind: 'wireguard' | 'ipsec'
  listenPort: number
  mark: number
  mtu: number
  privateKey: string
  peers: Map<string, FakePeer>
}

interface FakePeer {
  endpoint: string
  keepalive: string
  allowed: Set<string>
}

interface Question {
  readonly id: number
  readonly op: string
  readonly device?: unknown
  readonly name?: string
}

function removePeer(device: FakeDevice, peer: FakePeer): void {
  for (const [hex, one] of device.peers) if (one === peer) device.peers.delete(hex)
}

function describe(device: FakeDevice): string {
  const lines = [`private_key=${device.privateKey}`, `listen_port=${device.listenPort}`, `fwmark=${device.mark}`]
  for (const [hex, { endpoint, keepalive, allowed }] of device.peers) {
    lines.push(`public_key=${hex}`, 'protocol_version=1')
    if (endpoint !== '') lines.push(`endpoint=${endpoint}`)
    lines.push('last_handshake_time_sec=0', 'last_handshake_time_nsec=0', 'tx_bytes=0', 'rx_bytes=0')
    lines.push(`persistent_keepalive_interval=${keepalive}`, ...[...allowed].map((cidr) => `allowed_ip=${cidr}`))
  }
  return `${lines.filter((line) => line !== 'private_key=').join('\n')}\nerrno=0\n\n`
}
