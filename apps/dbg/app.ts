import {
  type Application,
  buildApplication,
  buildCommand,
  buildRouteMap,
  ExitCode,
  type FlagParametersForType,
  numberParser,
  run,
  text_en,
} from '@stricli/core'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { CleanupFlags } from './commands/cleanup.ts'
import type { DumpFlags } from './commands/dump-xfrm.ts'
import type { FlushFlags } from './commands/encrypt-flush.ts'
import type { StatusFlags } from './commands/status.ts'
import type { DbgContext } from './context.ts'
import { OUTPUT_BRIEF, type OutputFlags, parseOutput } from './output.ts'

const outputFlags: FlagParametersForType<OutputFlags, DbgContext> = {
  output: { kind: 'parsed', parse: parseOutput, brief: OUTPUT_BRIEF, optional: true },
}

const statusCommand = buildCommand<StatusFlags, [], DbgContext>({
  loader: async () => (await import('./commands/status.ts')).status,
  parameters: {
    flags: {
      ...outputFlags,
      verbose: { kind: 'boolean', brief: 'All addresses, controllers and nodes', default: false, withNegated: false },
      brief: { kind: 'boolean', brief: 'One word: OK, or what is wrong', default: false, withNegated: false },
    },
    aliases: { o: 'output' },
  },
  docs: { brief: 'What the agent of this node does' },
})

const encryptStatusCommand = buildCommand<OutputFlags, [], DbgContext>({
  loader: async () => (await import('./commands/encrypt-status.ts')).encryptStatus,
  parameters: { flags: outputFlags, aliases: { o: 'output' } },
  docs: { brief: 'How traffic of this node is encrypted' },
})

const dumpCommand = buildCommand<DumpFlags, [], DbgContext>({
  loader: async () => (await import('./commands/dump-xfrm.ts')).dumpXfrm,
  parameters: {
    flags: {
      ...outputFlags,
      showKeys: { kind: 'boolean', brief: 'The keys themselves as well', default: false, withNegated: false },
    },
    aliases: { o: 'output' },
  },
  docs: { brief: 'The IPsec associations of this node; keys as fingerprints' },
})

const flushCommand = buildCommand<FlushFlags, [], DbgContext>({
  loader: async () => (await import('./commands/encrypt-flush.ts')).encryptFlush,
  parameters: {
    flags: {
      force: { kind: 'boolean', brief: 'Without asking', default: false, withNegated: false },
      spi: { kind: 'parsed', parse: numberParser, brief: 'Only of this key id', optional: true },
      nodeId: { kind: 'parsed', parse: String, brief: 'As in Cilium; here nodes have names', optional: true },
      node: { kind: 'parsed', parse: String, brief: 'Only those with this node', optional: true },
    },
    aliases: { f: 'force' },
  },
  docs: { brief: 'Remove the IPsec associations of this node; the agent makes them again at once' },
})

const endpointListCommand = buildCommand<OutputFlags, [], DbgContext>({
  loader: async () => (await import('./commands/endpoint-list.ts')).endpointList,
  parameters: { flags: outputFlags, aliases: { o: 'output' } },
  docs: { brief: 'The pods of this node that have a network' },
})

const versionCommand = buildCommand<OutputFlags, [], DbgContext>({
  loader: async () => (await import('./commands/version.ts')).version,
  parameters: { flags: outputFlags, aliases: { o: 'output' } },
  docs: { brief: 'The version of this program and of the agent' },
})

const debuginfoCommand = buildCommand<OutputFlags, [], DbgContext>({
  loader: async () => (await import('./commands/debuginfo.ts')).debuginfo,
  parameters: { flags: outputFlags, aliases: { o: 'output' } },
  docs: { brief: 'Everything the agent knows, without keys' },
})

const cleanupCommand = buildCommand<CleanupFlags, [], DbgContext>({
  loader: async () => (await import('./commands/cleanup.ts')).cleanup,
  parameters: {
    flags: {
      force: {
        kind: 'boolean',
        brief: 'Do it: pods of this node lose their network',
        default: false,
        withNegated: false,
      },
    },
    aliases: { f: 'force' },
  },
  docs: { brief: 'Remove devices, routes, rules, tables, keys and CNI configuration of this node' },
})

const routes = buildRouteMap<string, DbgContext>({
  routes: {
    status: statusCommand,
    encrypt: buildRouteMap<string, DbgContext>({
      routes: { status: encryptStatusCommand, flush: flushCommand, 'dump-xfrm': dumpCommand },
      docs: { brief: 'Transparent encryption' },
    }),
    endpoint: buildRouteMap<string, DbgContext>({
      routes: { list: endpointListCommand },
      docs: { brief: 'Pods of this node' },
    }),
    version: versionCommand,
    debuginfo: debuginfoCommand,
    cleanup: cleanupCommand,
  },
  docs: { brief: 'The tool of the agent on this node' },
})

function buildDbg(program: string): Application<DbgContext> {
  const failure = (error: unknown): string =>
    `Error: ${describeFault(error)}${error instanceof Error && !(error instanceof Fault) ? `\n${error.stack ?? ''}` : ''}`
  return buildApplication<DbgContext>(routes, {
    name: program,
    scanner: {
      caseStyle: 'allow-kebab-for-camel',
      // a word with a third of its letters wrong is still recognised
      distanceOptions: { threshold: 4, weights: { insertion: 1, deletion: 1, substitution: 1, transposition: 1 } },
    },
    documentation: { caseStyle: 'convert-camel-to-kebab', disableAnsiColor: true },
    localization: {
      text: {
        ...text_en,
        exceptionWhileRunningCommand: failure,
        commandErrorResult: failure,
        exceptionWhileLoadingCommandFunction: failure,
      },
    },
    determineExitCode: () => 1,
  })
}

/** Exit code: 0 done, 1 failed, 2 not understood. */
export async function runDbg(inputs: readonly string[], context: DbgContext): Promise<void> {
  await run(buildDbg(context.program), inputs, context)
  const code = context.process.exitCode
  if (code === ExitCode.InvalidArgument || code === ExitCode.UnknownCommand) context.process.exitCode = 2
  else if (typeof code === 'number' && code < 0) context.process.exitCode = 1
}
