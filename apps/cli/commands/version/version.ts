import { readFileSync } from 'node:fs'
import type { CliContext } from '../../context.ts'
import type { VersionFlags } from './command.ts'

export async function version(this: CliContext, _flags: VersionFlags): Promise<void> {
  this.process.stdout.write(`${this.program}-cli: v${packageVersion(this.home)}\n`)
}

/** The version of this release, from its package.json. */
export function packageVersion(home: string): string {
  return (JSON.parse(readFileSync(`${home}/package.json`, 'utf8')) as { version: string }).version
}
