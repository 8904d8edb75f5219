import { run } from '../process/run.ts'

/** Settings of the machine's apt without which packages could not be fetched from a pod: proxies, and clocks that are off. */
const CARRIED = /^Acquire::(?:[\w:.-]*::Proxy(?:::[\w.-]+)?|Check-Valid-Until|Check-Date) "[^"]+";$/

/** Lines of an apt.conf, or undefined where the machine has none of them or no apt. */
async function machineAptSettings(): Promise<string | undefined> {
  const dump = await run('apt-config', ['dump']).catch(() => '')
  return carriedSettings(dump)
}

export function carriedSettings(dump: string): string | undefined {
  const lines = dump.split('\n').filter((line) => CARRIED.test(line))
  return lines.length === 0 ? undefined : `${lines.join('\n')}\n`
}

/**
 * The specification that containerd begins every container with, plus one mount: the machine's settings of apt. So they are
 * in the lab's containers and in no image. `base` is what `ctr oci spec` prints.
 */
function containerSpec(base: string): string {
  const spec = JSON.parse(base) as { process: { rlimits?: unknown }; mounts: unknown[] }
  delete spec.process.rlimits // containers have the limits of their node
  spec.mounts.push({
    destination: '/etc/apt/apt.conf.d/99machine',
    type: 'bind',
    source: '/etc/lab/apt.conf',
    options: ['bind', 'ro'],
  })
  return JSON.stringify(spec)
}

/** Files of a node that bring the settings into its containers; none where there is nothing to bring. */
export async function aptFiles(): Promise<Map<string, string>> {
  const settings = await machineAptSettings()
  if (settings === undefined) return new Map()
  return new Map([
    ['/etc/lab/apt.conf', settings],
    [BASE_SPEC, containerSpec(await run('ctr', ['oci', 'spec']))],
  ])
}

export const BASE_SPEC = '/etc/containerd/lab-base.json'
