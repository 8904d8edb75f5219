import { findViolations } from './imports/layers.ts'
import { listModules, scanModule } from './imports/scan.ts'

// Imports only downwards: apps → io → core. A check that saw next to nothing has checked nothing.
const FEWEST_MODULES = 500

const root = process.argv[2] ?? new URL('..', import.meta.url).pathname
const fewest = Number(process.argv[3] ?? FEWEST_MODULES)
const modules = listModules(root).map((path) => scanModule(root, path))
const arrows = modules.reduce((sum, module) => sum + module.imports.length, 0)
const violations = findViolations(modules)
for (const { module, imports, reason } of violations) console.error(`${module} imports ${imports}: ${reason}`)
if (modules.length < fewest || arrows < fewest) {
  console.error(
    `saw only ${modules.length} modules and ${arrows} imports, expected at least ${fewest}: the check itself is broken`,
  )
  process.exit(1)
}
if (violations.length > 0) process.exit(1)
console.log(`${modules.length} modules, ${arrows} imports, all downwards`)
