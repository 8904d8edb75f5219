import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { BASE_PACKAGES } from './base.ts'
import { codeLayer, engineLayer, NODE_FILES, PROGRAMS } from './code.ts'
import { AGENT_CONFIG } from './images.ts'
import { hashFile, packFolder } from './layers.ts'
import { writeLayout } from './oci.ts'

const root = new URL('../..', import.meta.url).pathname

/** The instructions of deploy/Containerfile, their continued lines joined, as words. */
function instructions(name: string): string[][] {
  const text = readFileSync(join(root, 'deploy/Containerfile'), 'utf8').replaceAll(/^#.*\n/gm, '')
  const lines = text.replaceAll('\\\n', ' ').split('\n')
  return lines.filter((line) => line.startsWith(`${name} `)).map((line) => line.split(/\s+/).slice(1))
}

/** Where each file or folder that the Containerfile copies comes to lie; a place that ends in / is a folder to put it in. */
function copied(): Readonly<Record<string, string>> {
  return Object.fromEntries(
    instructions('COPY').flatMap((words) => {
      const to = (words.at(-1) as string).slice(1)
      return words.slice(0, -1).map((from) => [from, to.endsWith('/') ? `${to}${basename(from)}` : to])
    }),
  )
}

test('the Containerfile installs the packages that our own images have', () => {
  const [run = []] = instructions('RUN')
  const list = run.slice(run.indexOf('--no-install-recommends') + 1)
  assert.deepEqual(list.slice(0, list.indexOf('&&')).toSorted(), [...BASE_PACKAGES].toSorted())
})

test('the Containerfile copies what our own images hold, to the same places, and starts as they do', () => {
  const release = 'engine/target/release'
  const programs = Object.entries(PROGRAMS).map(([name, to]) => [`${release}/${name}`, to])
  assert.deepEqual(copied(), { ...NODE_FILES, ...Object.fromEntries(programs), 'build/image/code': '' })
  assert.deepEqual(instructions('WORKDIR'), [[AGENT_CONFIG.WorkingDir]])
  assert.deepEqual(
    instructions('CMD').map((words) => JSON.parse(words.join(' ')) as unknown),
    [AGENT_CONFIG.Cmd],
  )
})

test('what the Containerfile copies is enough for koffi to load', (t) => {
  const image = mkdtempSync(join(tmpdir(), 'pellicle-containerfile-'))
  t.after(() => rmSync(image, { recursive: true }))
  for (const [from, to] of Object.entries(copied())) {
    if (from.includes('/koffi')) cpSync(join(root, from), join(image, to), { recursive: true })
  }
  const home = join(image, 'opt/pellicle')
  writeFileSync(join(home, 'agent.mjs'), "import koffi from 'koffi'\nconsole.log(koffi.sizeof('int'))\n")
  assert.equal(execFileSync(process.execPath, [join(home, 'agent.mjs')], { encoding: 'utf8' }), '4\n')
})

test('the same files give the same layer, whenever and in whatever order they were written', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pellicle-layer-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const make = async (name: string, files: readonly string[], seconds: number): Promise<string> => {
    const root = join(folder, name)
    mkdirSync(join(root, 'etc'), { recursive: true })
    for (const file of files) {
      writeFileSync(join(root, 'etc', file), file)
      utimesSync(join(root, 'etc', file), seconds, seconds)
    }
    const tar = join(folder, `${name}.tar`)
    await packFolder(root, tar)
    return await hashFile(tar)
  }
  const one = await make('one', ['a', 'b'], 1)
  assert.equal(await make('two', ['b', 'a'], 2_000_000_000), one)
  assert.notEqual(await make('three', ['a', 'c'], 1), one)
})

test('an image layout names what it holds by digests that are right', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pellicle-layout-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'layer.tar')
  writeFileSync(file, 'a layer')
  const layer = { file, digest: `sha256:${await hashFile(file)}`, size: 7 }
  const config = { Env: ['A=b'], Cmd: ['/bin/true'] }
  const layout = join(folder, 'layout')
  const [image] = writeLayout([{ name: 'localhost/x:1', layers: [layer], config }], layout)
  assert.ok(image !== undefined)
  const blob = (digest: string): string => join(layout, 'blobs/sha256', digest.replace('sha256:', ''))
  for (const digest of [image.manifest, image.config, ...image.layers]) {
    assert.equal(`sha256:${await hashFile(blob(digest))}`, digest)
  }
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
    manifests: { digest: string; annotations: Record<string, string> }[]
  }
  assert.equal(index.manifests[0]?.digest, image.manifest)
  assert.equal(index.manifests[0]?.annotations['io.containerd.image.name'], 'localhost/x:1')
})

test('an image that would lack a program is not made', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'pellicle-incomplete-'))
  t.after(() => rmSync(root, { recursive: true }))
  const release = join(root, 'engine/target/release')
  mkdirSync(release, { recursive: true })
  writeFileSync(join(release, 'pellicle-engine'), '')
  const incomplete = (what: RegExp) => (error: unknown) =>
    error instanceof Fault && error.code === 'image.incomplete' && what.test(error.message)
  await assert.rejects(engineLayer(root), incomplete(/needs pellicle-cni, /))
  for (const app of ['agent', 'operator', 'dbg']) {
    mkdirSync(join(root, 'apps', app), { recursive: true })
    writeFileSync(join(root, 'apps', app, 'main.ts'), '')
  }
  await assert.rejects(codeLayer(root), incomplete(/apps\/keeper\/main\.ts/))
})
