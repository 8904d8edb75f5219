import { type Application, buildApplication, ExitCode, FlagNotFoundError, run, text_en } from '@stricli/core'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { CliContext, ProgramName } from './context.ts'
import { Exit } from './exit.ts'
import { rootRoutes } from './routes.ts'
import { kebab, withNearestFlag } from './unknown-flag.ts'

/** `inputs`: the command line that it is to run, for what is said of an unknown flag. */
export function buildCli(program: ProgramName, inputs: readonly string[], verbose = false): Application<CliContext> {
  const failure = (error: unknown): string => {
    if (error instanceof Exit) return ''
    const stack = error instanceof Error && (verbose || !(error instanceof Fault)) ? `\n${error.stack ?? ''}` : ''
    return `Error: ${describeFault(error)}${stack}`
  }
  return buildApplication(rootRoutes, {
    name: program,
    scanner: { caseStyle: 'allow-kebab-for-camel', allowArgumentEscapeSequence: true },
    documentation: { caseStyle: 'convert-camel-to-kebab', disableAnsiColor: true },
    completion: { includeAliases: false },
    localization: {
      text: {
        ...text_en,
        exceptionWhileParsingArguments: (error, colour) => {
          const told = error instanceof FlagNotFoundError ? withNearestFlag(error, rootRoutes, inputs) : error
          return asTyped(text_en.exceptionWhileParsingArguments(told, colour))
        },
        exceptionWhileRunningCommand: failure,
        commandErrorResult: failure,
        exceptionWhileLoadingCommandFunction: failure,
      },
    },
    determineExitCode: (error) => (error instanceof Exit ? error.code : 1),
  })
}

/** Stricli suggests `--chartDirectory`; everybody types `--chart-directory`. */
function asTyped(message: string): string {
  return message.replaceAll(/--[a-z]+[A-Za-z]+/g, kebab)
}

/** Runs one command line and sets the exit code: 0 done, 1 failed, 2 not understood. */
export async function runCli(inputs: readonly string[], context: CliContext): Promise<void> {
  const app = buildCli(context.program, inputs, context.env['PELLICLE_VERBOSE'] !== undefined)
  await run(app, inputs, context)
  const code = context.process.exitCode
  if (code === ExitCode.InvalidArgument || code === ExitCode.UnknownCommand) context.process.exitCode = 2
  else if (typeof code === 'number' && code < 0) context.process.exitCode = 1
}
