import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import ts from 'typescript'

/** One module of the tree and the modules of the tree that it imports, as paths from the root. */
export interface Module {
  readonly path: string
  readonly imports: readonly string[]
}

/** All TypeScript files that git tracks or would track below `root`. */
export function listModules(root: string): string[] {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard', '*.ts']
  return execFileSync('git', args, { cwd: root, encoding: 'utf8' })
    .split('\n')
    .filter((path) => path !== '' && existsSync(join(root, path)))
    .toSorted()
}

/** Reads static, dynamic and type-only imports. */
export function scanModule(root: string, path: string): Module {
  const { importedFiles } = ts.preProcessFile(readFileSync(join(root, path), 'utf8'), true, true)
  const inside = importedFiles
    .map((file) => file.fileName)
    .filter((name) => name.startsWith('#') || name.startsWith('.'))
    .map((name) => (name.startsWith('#') ? name.slice(1) : normalize(join(dirname(path), name))))
  return { path, imports: [...new Set(inside)].toSorted() }
}
