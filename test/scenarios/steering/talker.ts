import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const TALKER = join(import.meta.dirname, 'talker.py')

/** A program somewhere that talks UDP from one port; it can be silent for long, and then be the first to speak. */
export class Talker implements AsyncDisposable {
  readonly #child: ChildProcess
  #heard: string[] = []

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  /** `namespace`: its whole name. */
  static async start(namespace: string, port: number): Promise<Talker> {
    const args = ['netns', 'exec', namespace, 'python3', TALKER, String(port)]
    const child = spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const talker = new Talker(child)
    const lines = createInterface({ input: child.stdout })
    const [ready] = await Promise.race([once(lines, 'line'), once(child, 'close')])
    if (ready !== 'ready') throw new Error('the talker does not start')
    lines.on('line', (line) => talker.#heard.push(line))
    return talker
  }

  say(ip: string, port: number, text: string): void {
    this.#child.stdin?.write(`${ip} ${port} ${text}\n`)
  }

  /** What it has heard, "IP PORT TEXT" each, as soon as there are that many. */
  async heard(count: number): Promise<readonly string[]> {
    for (let tries = 0; this.#heard.length < count; tries++) {
      if (tries > 500) throw new Error(`heard no more than: ${this.#heard.join(', ')}`)
      await sleep(20)
    }
    return this.#heard
  }

  forget(): void {
    this.#heard = []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const closed = once(this.#child, 'close')
    this.#child.kill('SIGTERM')
    await closed
  }
}

const SERVE = `
import socket, sys
with socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    connection.sendall(bytes(int(sys.argv[2])))
    connection.close()
`
const FETCH = `
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as connection:
    count = 0
    try:
        while data := connection.recv(65536):
            count += len(data)
    except TimeoutError:
        pass
    print(count)
`

/** Sends {@link size} bytes by TCP to the first who connects. */
export class Server implements AsyncDisposable {
  readonly size = 300_000
  readonly #child: ChildProcess

  private constructor(namespace: string, port: number) {
    const args = ['netns', 'exec', namespace, 'python3', '-c', SERVE, String(port), String(this.size)]
    this.#child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  }

  static async start(namespace: string, port: number): Promise<Server> {
    const server = new Server(namespace, port)
    await once(server.#child.stdout as NodeJS.ReadableStream, 'data')
    return server
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const closed = once(this.#child, 'close')
    this.#child.kill('SIGTERM')
    await closed
  }
}

/** How many bytes come from there, until its end or five silent seconds. */
export function fetchAll(namespace: string, ip: string, port: number): number {
  const args = ['netns', 'exec', namespace, 'python3', '-c', FETCH, ip, String(port)]
  return Number(spawnSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).stdout)
}
