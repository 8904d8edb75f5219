import { execFile } from 'node:child_process'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { promisify } from 'node:util'

const exec = promisify(execFile)

/** What the figures were taken on; nothing in it names the machine or its owner. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryMib: number
  /** What matters to the cipher. */
  readonly features: readonly string[]
  readonly kernel: string
  readonly iperf3: string
  readonly node: string
  readonly commit: string
}

export async function machine(): Promise<Machine> {
  const info = await exec('sh', ['-c', "grep -m1 '^flags' /proc/cpuinfo || true"])
  const flags = new Set(info.stdout.split(/\s+/))
  const iperf3 = (await exec('iperf3', ['--version'])).stdout.split('\n')[0] ?? ''
  const commit = await exec('git', ['describe', '--always', '--dirty'], { cwd: import.meta.dirname }).catch(
    () => undefined,
  )
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryMib: Math.round(totalmem() / 2 ** 20),
    features: ['avx2', 'avx512f', 'avx512ifma', 'vaes'].filter((name) => flags.has(name)),
    kernel: release(),
    iperf3: iperf3.split(' ')[1] ?? iperf3,
    node: process.version,
    commit: commit?.stdout.trim() ?? 'unknown',
  }
}

/** How busy it was: processes that ran or wanted to, on average over 1, 5 and 15 minutes. */
export function load(): readonly number[] {
  return loadavg().map((value) => Math.round(value * 100) / 100)
}
