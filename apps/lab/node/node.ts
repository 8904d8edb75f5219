import { spawn } from 'node:child_process'
import { closeSync, copyFileSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Fault } from '#core/fault/fault.ts'
import { type Hierarchies, makeGroup, removeGroups } from '../cgroups.ts'
import type { LabLayout, LabNode } from '../layout.ts'
import type { NodePaths } from '../paths.ts'
import { servicesOf, servicesScript, shellQuote } from './services.ts'

/** Enters the cgroups that come first, then becomes the rest: sh -c ENTER sh COUNT FOLDER... COMMAND... */
export const ENTER =
  'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1/cgroup.procs"; shift; n=$((n-1)); done; exec "$@"'

/** What a node's root and services are made from; all of it is written into the node's own folders before it starts. */
export interface NodeFiles {
  /** Path in the node's root to content; what lies under /var/lib/kubelet and the like goes to the node's disk folders. */
  readonly files: ReadonlyMap<string, string>
  readonly programs: string
  readonly store: string
}

/** From Debian's containernetworking-plugins. */
export const LOOPBACK = '/usr/lib/cni/loopback'

/** Paths of a node that lie on the disk and not on its overlay (see init.sh). */
const ON_DISK = ['/var/lib/kubelet/', '/var/lib/containerd/', '/var/lib/etcd/', '/etc/cni/net.d/', '/opt/cni/bin/']

export function writeNode(
  layout: LabLayout,
  node: LabNode,
  paths: NodePaths,
  hierarchies: Hierarchies,
  input: NodeFiles,
): void {
  for (const folder of [paths.upper, paths.work, paths.root, paths.disk, paths.log])
    mkdirSync(folder, { recursive: true })
  const run = readFileSync(new URL('run.sh', import.meta.url), 'utf8')
  const files = new Map([...input.files, ['/etc/lab/services', servicesScript(layout, node)], ['/etc/lab/run', run]])
  for (const [path, content] of files) {
    const target = join(ON_DISK.some((prefix) => path.startsWith(prefix)) ? paths.disk : paths.upper, path)
    mkdirSync(dirname(target), { recursive: true })
    // keys and kubeconfigs are root's alone, as kubeadm leaves them
    writeFileSync(target, content, { mode: /\.(key|conf)$/.test(path) && path.startsWith('/etc/kub') ? 0o600 : 0o644 })
  }
  // the one CNI plugin that containerd itself calls
  const plugins = join(paths.disk, 'opt/cni/bin')
  mkdirSync(plugins, { recursive: true })
  copyFileSync(LOOPBACK, join(plugins, 'loopback'))
  const env = {
    node: node.name,
    programs: input.programs,
    store: input.store,
    cgroup_version: String(hierarchies.version),
    cgroup_mounts: hierarchies.mounts.map(({ controllers }) => controllers).join(' '),
  }
  const lines = Object.entries(env).map(([name, value]) => `${name}=${shellQuote(value)}`)
  writeFileSync(join(paths.folder, 'node.env'), `${lines.join('\n')}\n`)
}

/** Starts the node; gives the process id of its process 1 once its root stands. Its services wait for their gates. */
export async function startNode(
  lab: string,
  node: LabNode,
  paths: NodePaths,
  hierarchies: Hierarchies,
): Promise<number> {
  const groups = makeGroup(hierarchies, lab, node.name)
  const init = fileURLToPath(new URL('init.sh', import.meta.url))
  const unshare = ['unshare', '-m', '-u', '-n', '-p', '-i', '-C', '--fork', '--kill-child', 'sh', init, paths.folder]
  return await startHolder([...groups], unshare, join(paths.log, 'node.log'), `node ${node.name}`)
}

/**
 * Starts `unshare --fork COMMAND` in `groups`, waits until COMMAND says `ready` on descriptor 3 and gives its process id.
 * Nothing of it hangs on this process.
 */
export async function startHolder(
  groups: readonly string[],
  unshare: readonly string[],
  log: string,
  what: string,
): Promise<number> {
  const out = openSync(log, 'a', 0o600)
  const child = spawn('sh', ['-c', ENTER, 'sh', String(groups.length), ...groups, ...unshare], {
    detached: true,
    stdio: ['ignore', out, out, 'pipe'],
  })
  closeSync(out)
  const pipe = child.stdio[3]
  if (pipe === null || pipe === undefined || !('setEncoding' in pipe)) throw new TypeError('descriptor 3 is no pipe')
  let said = ''
  for await (const chunk of pipe) {
    said += String(chunk)
    if (said.includes('ready')) break
  }
  pipe.destroy()
  child.unref()
  if (!said.includes('ready') || child.pid === undefined) {
    const words = readFileSync(log, 'utf8').trim().split('\n').slice(-5).join('\n')
    throw new Fault('lab.node.start', `${what} did not start: ${words}`, { field: log })
  }
  return firstChild(child.pid)
}

function firstChild(pid: number): number {
  const child = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0])
  if (!Number.isInteger(child) || child <= 0) throw new Fault('lab.node.start', `process ${pid} has no child`)
  return child
}

/** Lets services run that wait; every one of the node's when no name is given. `pid` is the node's process 1. */
export async function openGates(pid: number, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const gate = await open(`/proc/${pid}/root/run/lab/${name}.gate`, 'w')
    await gate.write('go\n')
    await gate.close()
  }
}

export function serviceNames(layout: LabLayout, node: LabNode): string[] {
  return servicesOf(layout, node).map(({ name }) => name)
}

/** Power off: everything of the node ends at once, its disk stays. */
export async function stopNode(lab: string, node: LabNode, hierarchies: Hierarchies): Promise<void> {
  await removeGroups(hierarchies, lab, node.name)
}
