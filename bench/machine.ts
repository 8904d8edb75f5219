import { execFile } from 'node:child_process'
import { cpus, release } from 'node:os'
import { promisify } from 'node:util'

const exec = promisify(execFile)

/** What the figures were taken on; nothing in it names the machine or its owner. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
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
    features: ['avx2', 'avx512f', 'avx512ifma', 'vaes'].filter((name) => flags.has(name)),
    kernel: release(),
    iperf3: iperf3.split(' ')[1] ?? iperf3,
    node: process.version,
    commit: commit?.stdout.trim() ?? 'unknown',
  }
}
