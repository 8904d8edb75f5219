import { readFileSync } from 'node:fs'

/** Whether a process waits for something to do, rather than for a processor or a disk; also when it has ended. */
export function isIdle(pid: number): boolean {
  try {
    return !/^State:\s+[RD]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return true
  }
}

/** The processes that one has started itself and that run. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
