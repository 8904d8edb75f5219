import { readFileSync, writeFileSync } from 'node:fs'
import { replacePart } from './imports/document.ts'
import { drawGraph } from './imports/graph.ts'
import { listModules, scanModule } from './imports/scan.ts'

// Draws the import graph into ARCHITECTURE.md; `--verify` only says whether it is up to date.
const root = new URL('..', import.meta.url).pathname
const file = `${root}/ARCHITECTURE.md`
const before = readFileSync(file, 'utf8')
const after = replacePart(before, 'imports', drawGraph(listModules(root).map((path) => scanModule(root, path))))
if (process.argv.includes('--verify')) {
  if (after !== before) {
    console.error('ARCHITECTURE.md: the import graph is out of date; run `make fix`')
    process.exit(1)
  }
} else {
  writeFileSync(file, after)
}
