import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Fault } from '#core/fault/fault.ts'
import { type GuestImage, guestInitramfs } from './image.ts'

export interface GuestResult {
  /** Exit status of the command. */
  readonly status: number
  readonly stdout: string
  readonly stderr: string
  /** From the kernel's first instruction until the command began, by the guest's clock. */
  readonly bootSeconds: number
}

/** Emulated in software, so that it runs wherever tests run: no /dev/kvm, no privilege. */
const MACHINE =
  '-M q35,usb=off,sata=off,smbus=off,hpet=off,vmport=off -accel tcg,thread=multi,tb-size=512 -cpu qemu64 -smp 2 -nodefaults -no-user-config -display none -no-reboot -monitor none'
const COMMAND_LINE =
  'console=ttyS0 quiet loglevel=4 panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=on apparmor=0 audit=0 net.ifnames=0'

/**
 * Boots the kernel, runs a shell command with this machine's files (changes stay in the guest), and powers off. The guest
 * sees a folder that lasts as `/out`.
 *
 * @throws Fault `guest.died` with the end of its console: no exit status means that the guest itself failed
 */
export async function runInGuest(
  image: GuestImage,
  command: string,
  options: {
    readonly seconds: number
    readonly memoryMegabytes?: number
    /** Gets what is left in `/out`, by name. */
    readonly collect?: (folder: string) => void
  },
): Promise<GuestResult> {
  const out = mkdtempSync(join(tmpdir(), 'pellicle-guest-'))
  try {
    writeFileSync(join(out, 'command'), command)
    writeFileSync(join(out, 'initrd'), guestInitramfs(image, readFileSync(staticBusybox())))
    const share = (id: string, path: string, tag: string, more: string) => [
      '-fsdev',
      `local,id=${id},path=${path},security_model=none${more}`,
      '-device',
      `virtio-9p-pci,fsdev=${id},mount_tag=${tag}`,
    ]
    const args = [
      ...MACHINE.split(' '),
      '-m',
      String(options.memoryMegabytes ?? 2048),
      '-serial',
      `file:${out}/console`,
      '-kernel',
      image.vmlinux,
      '-initrd',
      `${out}/initrd`,
      '-append',
      COMMAND_LINE,
      ...share('f0', '/', 'hostroot', ',readonly=on,multidevs=remap'),
      ...share('f1', image.modules, 'modules', ',readonly=on'),
      ...share('f2', out, 'out', ''),
    ]
    const how = await runQemu(args, options.seconds)
    const read = (name: string) => (existsSync(join(out, name)) ? readFileSync(join(out, name), 'utf8') : '')
    const status = read('status').trim()
    if (!/^\d+$/.test(status)) {
      const console = read('console').split('\n').slice(-25).join('\n')
      throw new Fault(
        'guest.died',
        `the guest ${image.version} ended without a result (${how}):\n${console}\n${read('stdout').slice(-4000)}\n${read('stderr').slice(-4000)}`,
      )
    }
    options.collect?.(out)
    return {
      status: Number(status),
      stdout: read('stdout'),
      stderr: read('stderr'),
      bootSeconds: Number(read('booted')),
    }
  } finally {
    rmSync(out, { recursive: true, force: true })
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** How it ended, in words. A guest never outlives this process, unless that is killed by force. */
async function runQemu(args: readonly string[], seconds: number): Promise<string> {
  const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let words = ''
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-4096)
  })
  const end = (): boolean => child.kill('SIGKILL')
  // without a guest there is no result: "died" is told, and then the program ends by itself
  for (const name of SIGNALS) process.on(name, end)
  let late = false
  const timer = setTimeout(() => {
    late = true
    end()
  }, seconds * 1000)
  process.once('exit', end)
  try {
    return await new Promise<string>((resolve, reject) => {
      child.on('error', (cause) => {
        reject(new Fault('guest.qemu', 'cannot run qemu-system-x86_64', { cause, remedy: 'Install qemu-system-x86' }))
      })
      child.on('close', (code, signal) => {
        resolve(
          late ? `stopped after ${seconds} s` : `qemu ended with ${code ?? signal}${words === '' ? '' : `: ${words}`}`,
        )
      })
    })
  } finally {
    clearTimeout(timer)
    process.off('exit', end)
    for (const name of SIGNALS) process.off(name, end)
  }
}

function staticBusybox(): string {
  const found = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path))
  if (found === undefined) throw new Fault('guest.busybox', 'there is no busybox', { remedy: 'Install busybox-static' })
  return found
}
