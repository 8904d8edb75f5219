import { buildCommand, buildRouteMap, type Command, type RouteMap } from '@stricli/core'
import { MAX_NODES } from '#apps/lab/layout.ts'
import type { CliContext } from '../../context.ts'
import { count } from '../../flags.ts'
import type { CaptureFlags } from './capture.ts'
import { type LabFlags, nameFlag, parseFamily, parseNodes, text } from './flags.ts'
import type { NodeVerb } from './node.ts'
import type { StatusFlags } from './status.ts'
import type { UpFlags } from './up.ts'

const upCommand = buildCommand<UpFlags, [], CliContext>({
  loader: async () => (await import('./up.ts')).up,
  parameters: {
    flags: {
      name: nameFlag,
      nodes: { kind: 'parsed', parse: parseNodes, brief: `Nodes in all, 1 to ${MAX_NODES}`, default: '4' },
      ipFamily: { kind: 'parsed', parse: parseFamily, brief: 'ipv4, ipv6 or dual', default: 'ipv4' },
      kubernetesBin: { kind: 'parsed', parse: text, brief: 'Folder of the Kubernetes programs to use', optional: true },
      retain: { kind: 'boolean', brief: 'Keep what was made when a step fails', default: false },
    },
  },
  docs: { brief: 'Make the cluster: nodes are registered, and NotReady until a CNI is installed' },
})

const downCommand = buildCommand<LabFlags, [], CliContext>({
  loader: async () => (await import('./down.ts')).down,
  parameters: {
    flags: { name: nameFlag },
  },
  docs: { brief: 'Remove the cluster and everything of it, also after a crash' },
})

const statusCommand = buildCommand<StatusFlags, [], CliContext>({
  loader: async () => (await import('./status.ts')).status,
  parameters: {
    flags: {
      name: nameFlag,
      output: { kind: 'enum', values: ['text', 'json'], brief: 'Form of the output', default: 'text' },
    },
    aliases: { o: 'output' },
  },
  docs: { brief: 'Show what the lab consists of; exit code 1 when it is not up' },
})

const shellCommand = buildCommand<LabFlags, [], CliContext>({
  loader: async () => (await import('./shell.ts')).shell,
  parameters: { flags: { name: nameFlag } },
  docs: { brief: 'Open bash in examples/ with kubectl, cilium and pellicle set up for the lab' },
})

const envCommand = buildCommand<LabFlags, [], CliContext>({
  loader: async () => (await import('./env.ts')).env,
  parameters: { flags: { name: nameFlag } },
  docs: { brief: 'Print PATH and KUBECONFIG for a shell: eval "$(pellicle lab env)"' },
})

const execCommand = buildCommand<LabFlags, string[], CliContext>({
  loader: async () => (await import('./exec.ts')).exec,
  parameters: {
    flags: { name: nameFlag },
    positional: {
      kind: 'array',
      parameter: { parse: text, brief: 'Node, then --, then the command', placeholder: 'NODE|CMD' },
      minimum: 1,
    },
  },
  docs: { brief: 'Run a command in a node: pellicle lab exec kind-worker -- ip route' },
})

const captureCommand = buildCommand<CaptureFlags, string[], CliContext>({
  loader: async () => (await import('./capture.ts')).capture,
  parameters: {
    flags: {
      name: nameFlag,
      interface: { kind: 'parsed', parse: text, brief: 'Device to listen on', optional: true },
      count: { kind: 'parsed', parse: count, brief: 'Stop after so many packets', optional: true },
      write: { kind: 'parsed', parse: text, brief: 'Write a pcap file instead of text', optional: true },
    },
    aliases: { i: 'interface', c: 'count', w: 'write' },
    positional: {
      kind: 'array',
      parameter: { parse: text, brief: 'Node, or underlay; then a tcpdump filter', placeholder: 'NODE|FILTER' },
      minimum: 1,
    },
  },
  docs: { brief: 'Run tcpdump in a node, or on the bridge between the nodes (underlay)' },
})

const loadCommand = buildCommand<LabFlags, [], CliContext>({
  loader: async () => (await import('./load.ts')).load,
  parameters: { flags: { name: nameFlag } },
  docs: { brief: 'Give the nodes the images that `make setup` made since; pods take them when they start next' },
})

const nodeCommand = (verb: NodeVerb, brief: string): Command<CliContext> =>
  buildCommand<LabFlags, [string], CliContext>({
    loader: async () => (await import('./node.ts')).nodeCommands[verb],
    parameters: {
      flags: { name: nameFlag },
      positional: { kind: 'tuple', parameters: [{ parse: text, brief: 'Name of the node', placeholder: 'NODE' }] },
    },
    docs: { brief },
  })

/** The commands of `pellicle lab`, each loading its implementation when it is called. */
export const labRoutes: Record<string, Command<CliContext> | RouteMap<CliContext>> = {
  up: upCommand,
  down: downCommand,
  status: statusCommand,
  shell: shellCommand,
  env: envCommand,
  exec: execCommand,
  capture: captureCommand,
  load: loadCommand,
  node: buildRouteMap({
    routes: {
      start: nodeCommand('start', 'Switch a stopped node on'),
      stop: nodeCommand('stop', 'Shut a node down: what runs in it is asked to end first'),
      kill: nodeCommand('kill', 'Cut a node off as a power cut would'),
    },
    docs: { brief: 'Switch nodes off and on' },
  }),
}
