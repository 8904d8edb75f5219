import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { replacePart } from './document.ts'
import { drawGraph } from './graph.ts'

const root = new URL('../..', import.meta.url).pathname

function tree(files: Record<string, string>): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'pellicle-imports-'))
  execFileSync('git', ['init', '-q'], { cwd: path })
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true })
    writeFileSync(join(path, name), text)
  }
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

function verify(path: string, fewest: number) {
  return spawnSync(process.execPath, [join(root, 'tools/verify-boundaries.ts'), path, String(fewest)], {
    encoding: 'utf8',
  })
}

const lawful = {
  'core/a/a.ts': "import { b } from './b.ts'\n",
  'core/a/b.ts': 'export const b = 1\n',
  'io/c/c.ts': "import { b } from '#core/a/b.ts'\n",
  'apps/d/d.ts': "import { b } from '#core/a/b.ts'\nconst c = await import('../../io/c/c.ts')\n",
}

test('imports that go downwards pass', () => {
  using dir = tree(lawful)
  const run = verify(dir.path, 4)
  assert.equal(run.status, 0, run.stderr)
})

for (const [name, text] of [
  ['an alias', "import { c } from '#io/c/c.ts'\n"],
  ['a relative path', "import { c } from '../../io/c/c.ts'\n"],
  ['a type-only import', "import type { C } from '#io/c/c.ts'\n"],
  ['a dynamic import', "export const c = import('#io/c/c.ts')\n"],
] as const) {
  test(`a planted core → io import by ${name} is seen`, () => {
    using dir = tree({ ...lawful, 'core/a/planted.ts': text })
    const run = verify(dir.path, 4)
    assert.equal(run.status, 1)
    assert.match(run.stderr, /core\/a\/planted\.ts imports io\/c\/c\.ts: core may import only core/)
  })
}

test('a check that saw too few modules fails', () => {
  using dir = tree(lawful)
  const run = verify(dir.path, 50)
  assert.equal(run.status, 1)
  assert.match(run.stderr, /saw only 4 modules/)
})

test('the linter rejects a planted import too, and names the rule', () => {
  using dir = tree({ 'core/a/planted.ts': "import { c } from '#io/c/c.ts'\nimport 'node:fs'\nexport default c\n" })
  writeFileSync(join(dir.path, '.oxlintrc.json'), execFileSync('cat', [join(root, '.oxlintrc.json')]))
  const run = spawnSync(join(root, 'node_modules/.bin/oxlint'), [], { cwd: dir.path, encoding: 'utf8' })
  assert.equal(run.status, 1)
  assert.match(run.stdout, /core is pure and imports only core/)
  assert.match(run.stdout, /core has no sockets/)
})

test('the graph shows folders and leaves tests out', () => {
  const text = drawGraph([
    { path: 'io/c/c.ts', imports: ['core/a/b.ts'] },
    { path: 'io/c/c.test.ts', imports: ['core/z/z.ts'] },
    { path: 'core/a/b.ts', imports: [] },
  ])
  assert.match(text, /io\/c --> core\/a/)
  assert.doesNotMatch(text, /core\/z/)
})

test('a generated part is replaced between its marks, and its absence is an error', () => {
  const document = 'x\n<!-- p: generated -->\nold\n<!-- p: end -->\ny\n'
  assert.equal(replacePart(document, 'p', 'new\n'), 'x\n<!-- p: generated -->\nnew\n<!-- p: end -->\ny\n')
  assert.throws(() => replacePart('x', 'p', 'new'), /no part/)
})
