import type { Module } from './scan.ts'

/** Which folders each layer may import; imports go only downwards. */
const LAYERS: Record<string, readonly string[]> = {
  core: ['core'],
  io: ['io', 'core'],
  apps: ['apps', 'io', 'core'],
  test: ['test', 'apps', 'io', 'core', 'tools'],
  bench: ['bench', 'test', 'apps', 'io', 'core', 'tools'],
  // the demo shows what scenarios prove, by the same kit
  tools: ['tools', 'test', 'apps', 'io', 'core'],
}

export interface Violation {
  readonly module: string
  readonly imports: string
  readonly reason: string
}

/** Test files stand beside the code but may reach for the kit and for real adapters; everything else follows the layers. */
export function findViolations(modules: readonly Module[]): Violation[] {
  return modules.flatMap((module) =>
    module.imports.flatMap((target): Violation[] => {
      const from = layerOf(module.path)
      const allowed = LAYERS[from]
      if (allowed === undefined) return [{ module: module.path, imports: target, reason: `no layer is called ${from}` }]
      if (allowed.includes(layerOf(target)) || module.path.endsWith('.test.ts')) return []
      return [{ module: module.path, imports: target, reason: `${from} may import only ${allowed.join(', ')}` }]
    }),
  )
}

function layerOf(path: string): string {
  return path.slice(0, Math.max(0, path.indexOf('/')))
}
