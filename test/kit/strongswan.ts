import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { fromDebian } from './peers.ts'

/**
 * strongSwan with kernel-libipsec (ESP in UDP, all in user space), from Debian, in a network namespace: IKEv2 with a
 * pre-shared key. It runs in a tree of its own and sees nothing of the machine's configuration.
 *
 * libipsec has no extended sequence numbers (it answers `aes128gcm16-esn` by NO_PROPOSAL_CHOSEN), and our engine has no
 * others: the two can be measured beside each other, not talk to each other.
 */
export interface CharonEnd {
  readonly namespace: string
  /** Its own address and the other end's, as ESP sees them. */
  readonly local: string
  readonly remote: string
  /** What goes through the tunnel: prefixes of either end. The first address of `inside` is put on `lo`. */
  readonly inside: string
  readonly beyond: string
}

export interface CharonOptions {
  /** Any text; the same at both ends. */
  readonly psk: string
  /** In swanctl's words. */
  readonly esp?: string
  /** Begins by itself (`start`), when there is something to send (`trap`), or is begun by the other end (`none`). */
  readonly begin: 'start' | 'trap' | 'none'
}

const CHARON = 'usr/lib/ipsec/charon'
// in the order of their own default list; the first that has an algorithm is asked for it
const PLUGINS =
  'aesni aes sha2 sha1 random nonce openssl curve25519 gcm hmac kdf ' +
  'kernel-libipsec kernel-netlink socket-default vici updown'

const exec = promisify(execFile)

/** Where strongSwan is; built for the first time. */
export const strongswan = async (): Promise<{ tree: string } | { missing: string }> => await fromDebian(CHARON)

export class Charon {
  readonly #child: ChildProcess
  readonly #tree: string
  readonly #end: CharonEnd
  #log = ''

  private constructor(child: ChildProcess, tree: string, end: CharonEnd) {
    this.#child = child
    this.#tree = tree
    this.#end = end
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#log += text
      })
    }
    child.on('error', (error) => {
      this.#log += String(error)
    })
  }

  /** `folder`: private to this end, for its configuration (the key stands in it, 0600). Done when it takes commands. */
  static async start(tree: string, folder: string, end: CharonEnd, options: CharonOptions): Promise<Charon> {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const files = { strongswan: join(folder, 'strongswan.conf'), swanctl: join(folder, 'swanctl.conf') }
    await writeFile(files.strongswan, DAEMON_CONFIG, { mode: 0o600 })
    await writeFile(files.swanctl, connectionConfig(end, options), { mode: 0o600 })
    const address = end.inside.split('/', 1)[0] ?? ''
    await exec('ip', ['-n', end.namespace, 'addr', 'replace', address, 'dev', 'lo'])
    // everything is mounted in a mount namespace that goes with the process
    const script = `set -e
mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; mount -t tmpfs -o mode=755 tmpfs "$1/run"
mount --bind "$2" "$1/etc/strongswan.conf"; mount --bind "$3" "$1/etc/swanctl/swanctl.conf"
exec chroot "$1" /${CHARON}`
    const inside = ['unshare', '-m', 'sh', '-c', script, 'sh', tree, files.strongswan, files.swanctl]
    const child = spawn('ip', ['netns', 'exec', end.namespace, ...inside], { stdio: ['ignore', 'pipe', 'pipe'] })
    const charon = new Charon(child, tree, end)
    try {
      await charon.#until('takes commands', async () => (await charon.swanctl('--stats')) !== '')
      await charon.swanctl('--load-all', '--noprompt')
    } catch (error) {
      await charon.stop()
      throw error
    }
    return charon
  }

  /** Of charon itself. */
  get pid(): number {
    return this.#child.pid ?? 0
  }

  get log(): string {
    return this.#log
  }

  /** Done when there are security associations and the route that leads to them. */
  async established(): Promise<void> {
    await this.#until('has security associations', async () => {
      const { stdout } = await exec('ip', ['-n', this.#end.namespace, 'route', 'show', 'table', '220'])
      return stdout.includes('ipsec0') && (await this.swanctl('--list-sas')).includes('INSTALLED')
    })
  }

  async swanctl(...args: string[]): Promise<string> {
    const enter = ['-t', `${this.pid}`, '-m', '-n', 'chroot', this.#tree, '/usr/sbin/swanctl', ...args]
    return (await exec('nsenter', enter, { timeout: 20_000 })).stdout
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()))
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000)
    await ended
    clearTimeout(timer)
  }

  async #until(what: string, done: () => Promise<boolean>): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const found = await done().catch(() => false)
      if (found) return
      if (attempt > 100 || this.#child.exitCode !== null) {
        throw new Error(
          `charon in ${this.#end.namespace} never ${what}:\n${this.#log.split('\n').slice(-25).join('\n')}`,
        )
      }
      await sleep(100)
    }
  }
}

const DAEMON_CONFIG = `charon {
  load = ${PLUGINS}
  filelog {
    stderr {
      default = 1
      flush_line = yes
    }
  }
}
`

function connectionConfig({ local, remote, inside, beyond }: CharonEnd, options: CharonOptions): string {
  const { psk, esp = 'aes128gcm16', begin } = options
  return `connections {
  peer {
    version = 2
    local_addrs = ${local}
    remote_addrs = ${remote}
    encap = yes
    mobike = no
    proposals = aes128-sha256-x25519
    local {
      auth = psk
      id = ${local}
    }
    remote {
      auth = psk
      id = ${remote}
    }
    children {
      net {
        local_ts = ${inside}
        remote_ts = ${beyond}
        esp_proposals = ${esp}
        start_action = ${begin}
        rekey_time = 0
      }
    }
  }
}
secrets {
  ike {
    secret = 0x${Buffer.from(psk).toString('hex')}
  }
}
`
}
