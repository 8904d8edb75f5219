import { readFile } from 'node:fs/promises'

// Linux shows times in these whatever the kernel's own tick is (sysconf(_SC_CLK_TCK), always 100).
const TICKS = 100

/** CPU seconds, user and system, that a process has used so far. */
async function cpuSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8')
  // the name may hold spaces and brackets: fields are counted behind it (proc(5): 14 utime, 15 stime)
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

export async function cpuOf(pids: readonly number[]): Promise<number> {
  return (await Promise.all(pids.map(cpuSeconds))).reduce((sum, value) => sum + value, 0)
}

/** The most memory that a process ever had resident, in MiB. */
export async function peakMib(pid: number): Promise<number> {
  return Number(/VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}
