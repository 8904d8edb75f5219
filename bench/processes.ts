import { readFile, writeFile } from 'node:fs/promises'

// Linux shows times in these whatever the kernel's own tick is (sysconf(_SC_CLK_TCK), always 100).
const TICKS = 100

/** CPU seconds, user and system, that a process has used so far. */
async function cpuSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8')
  // the name may hold spaces and brackets: fields are counted behind it (proc(5): 14 utime, 15 stime)
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

/** User and system, of all of them together. */
export async function cpuOf(pids: readonly number[]): Promise<number> {
  return sum(await Promise.all(pids.map(cpuSeconds)))
}

/** What is resident now, of all of them together, in MiB. What they share is counted for each. */
export async function residentMib(pids: readonly number[]): Promise<number> {
  return sum(await Promise.all(pids.map(async (pid) => await memoryMib(pid, 'VmRSS'))))
}

/** The most that each had resident since `forgetPeaks`, summed, in MiB. */
export async function peakMib(pids: readonly number[]): Promise<number> {
  return sum(await Promise.all(pids.map(async (pid) => await memoryMib(pid, 'VmHWM'))))
}

/** proc(5), clear_refs: 5 begins VmHWM anew. */
export async function forgetPeaks(pids: readonly number[]): Promise<void> {
  for (const pid of pids) await writeFile(`/proc/${pid}/clear_refs`, '5')
}

async function memoryMib(pid: number, field: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
