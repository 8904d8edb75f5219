import type { Module } from './scan.ts'

/** The import graph between folders (two levels deep, tests left out) as the text of a mermaid diagram. */
export function drawGraph(modules: readonly Module[]): string {
  const edges = new Map<string, Set<string>>()
  for (const module of modules) {
    const from = folderOf(module.path)
    if (from === undefined || module.path.endsWith('.test.ts')) continue
    const targets = edges.get(from) ?? new Set()
    edges.set(from, targets)
    for (const target of module.imports.map(folderOf)) {
      if (target !== undefined && target !== from && !UBIQUITOUS.has(target)) targets.add(target)
    }
  }
  const lines = ['```mermaid', 'flowchart TD']
  for (const layer of ['apps', 'io', 'core']) {
    lines.push(`  subgraph ${layer}`)
    for (const folder of [...edges.keys()].filter((f) => f.startsWith(`${layer}/`)).toSorted()) {
      if (!UBIQUITOUS.has(folder)) lines.push(`    ${folder}[${folder.slice(layer.length + 1)}]`)
    }
    lines.push('  end')
  }
  for (const [from, targets] of [...edges].toSorted(([a], [b]) => a.localeCompare(b))) {
    if (UBIQUITOUS.has(from)) continue
    for (const to of [...targets].toSorted()) lines.push(`  ${from} --> ${to}`)
  }
  return [...lines, '```', ''].join('\n')
}

/** Everything imports these; arrows to them would hide the rest. */
const UBIQUITOUS = new Set(['core/fault', 'core/bytes', 'core/ip'])

function folderOf(path: string): string | undefined {
  const [layer, folder, file] = path.split('/')
  return file !== undefined && ['apps', 'io', 'core'].includes(layer ?? '') ? `${layer}/${folder}` : undefined
}
