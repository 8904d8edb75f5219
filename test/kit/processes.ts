import { setTimeout as sleep } from 'node:timers/promises'
import { eventually, type Lab } from '#test/kit/lab.ts'

/**
 * Patterns for pgrep -f in a node. A bracket keeps each from finding the shell that looks for it; the node's own loops
 * (`sh /etc/lab/run`) have other command lines.
 */
const PROCESSES = {
  agent: 'cilium-[a]gent --config',
  keeper: '^node /opt/pellicle/[k]eeper',
  engine: '^/proc/self/exe [e]ngine',
  supervisor: '^pellicle-[e]ngine supervise',
  operator: 'cilium-[o]perator --config',
  containerd: '^[c]ontainerd --config',
  kubelet: '^[k]ubelet --config',
  'kube-apiserver': '^[k]ube-apiserver ',
  etcd: '^[e]tcd --name',
} as const

export type Program = keyof typeof PROCESSES

/** The process ids of a program in a node, ascending. */
export async function processIds(lab: Lab, node: string, program: Program): Promise<number[]> {
  const text = await lab.node(node, `pgrep -f '${PROCESSES[program]}' || true`)
  return text.trim().split(/\s+/).filter(Boolean).map(Number)
}

/** Kills a program with SIGKILL and waits for another to stand in its place; gives the seconds until then. */
export async function killAndWait(lab: Lab, node: string, program: Program): Promise<number> {
  const before = await processIds(lab, node, program)
  if (before.length === 0) throw new Error(`no ${program} runs in ${node}`)
  const started = performance.now()
  await lab.node(node, `kill -9 ${before.join(' ')}`)
  await eventually(`${program} of ${node} is back`, 120, async () => {
    const now = await processIds(lab, node, program)
    return now.some((pid) => !before.includes(pid)) ? true : undefined
  })
  return (performance.now() - started) / 1000
}

/** Resident memory in MiB, and the share of one processor in percent over so many seconds. */
export async function usage(lab: Lab, node: string, program: Program, seconds: number): Promise<string> {
  const pids = await processIds(lab, node, program)
  const files = (name: string) => pids.map((pid) => `/proc/${pid}/${name}`).join(' ')
  // the name of a process, the second field, may hold spaces
  const ticks = `cat ${files('stat')} | sed 's/.*) //' | awk '{n += $12 + $13} END {print n}'`
  const script = `a=$(${ticks}); sleep ${seconds}; b=$(${ticks}); echo $((b - a)) $(awk '/^VmRSS/ {n += $2} END {print n}' ${files('status')})`
  const [used = 0, kib = 0] = (await lab.node(node, script)).trim().split(' ').map(Number)
  return `${program} ${(kib / 1024).toFixed(0)} MiB, ${(used / seconds).toFixed(1)} %`
}

/** Lets traffic run on after something happened, so that its late consequences are counted as well. */
export async function settle(seconds = 2): Promise<void> {
  await sleep(seconds * 1000)
}
