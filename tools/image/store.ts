import { execFileSync, spawn } from 'node:child_process'
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { labNames } from '#apps/lab/down.ts'
import { labPaths, stateFolder, storesFolder } from '#apps/lab/paths.ts'
import { run } from '#apps/lab/process/run.ts'
import { readState } from '#apps/lab/state.ts'
import { prepareStateFolder } from '#apps/lab/state-folder.ts'
import { IMAGES_FILE } from '#apps/lab/store/images.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Image } from './images.ts'
import { keyOf } from './layers.ts'
import { type Described, writeArchive, writeLayout } from './oci.ts'

/**
 * Lets a containerd of our own import the images once, into a store that all nodes of all labs are seeded from. An earlier
 * store is the start for the next one, so that only new layers are unpacked. Stores that no lab uses any more go.
 */
export async function makeStore(images: readonly Image[], detail: (text: string) => void): Promise<string> {
  await prepareStateFolder(stateFolder())
  const folder = storesFolder(stateFolder())
  const work = join(folder, `new.${process.pid}`)
  mkdirSync(work, { recursive: true, mode: 0o700 })
  try {
    const described = writeLayout(images, join(work, 'layout'))
    const key = keyOf(described.map(({ name, manifest }) => [name, manifest]))
    const target = join(folder, key)
    const current = join(folder, 'current')
    if (!existsSync(target)) {
      const root = join(work, 'root')
      const from = existsSync(current) ? join(folder, readFileSync(current, 'utf8').trim()) : ''
      if (from !== '' && existsSync(join(from, IMAGES_FILE))) copyStore(from, root)
      else mkdirSync(root)
      detail('images into containerd')
      await importInto(root, work, described)
      writeFileSync(join(root, IMAGES_FILE), JSON.stringify(described, undefined, 2))
      moveUnlessThere(root, target)
    }
    writeFileSync(`${current}.new`, `${key}\n`)
    renameSync(`${current}.new`, current)
    removeUnused(folder, key)
    return target
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Another set-up may have made the same store meanwhile. */
function moveUnlessThere(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if (!existsSync(join(to, IMAGES_FILE))) throw error
  }
}

/** Hard links for everything but the databases. */
function copyStore(from: string, to: string): void {
  execFileSync('cp', ['-al', from, to])
  for (const file of readdirSync(to, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.db') || file.includes('/snapshots/')) continue
    rmSync(join(to, file))
    copyFileSync(join(from, file), join(to, file))
  }
}

async function importInto(root: string, work: string, described: readonly Described[]): Promise<void> {
  const socket = join(work, 'containerd.sock')
  const log = join(work, 'log')
  const config = join(work, 'config.toml')
  writeFileSync(
    config,
    `version = 2
root = "${root}"
state = "${join(work, 'state')}"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "${socket}"
`,
  )
  const out = openSync(log, 'a')
  // in a mount namespace of its own: what it mounts to unpack layers goes with it
  const child = spawn('unshare', ['-m', 'containerd', '--config', config], { stdio: ['ignore', out, out] })
  closeSync(out)
  const ended = new Promise<void>((resolve) => {
    child.on('error', () => resolve())
    child.on('close', () => resolve())
  })
  try {
    for (let attempt = 0; !existsSync(socket); attempt++) {
      if (attempt > 400 || child.exitCode !== null) {
        throw new Fault('image.store', `containerd does not start: ${readFileSync(log, 'utf8').slice(-800)}`)
      }
      await sleep(25)
    }
    const ctr = ['--address', socket, '--namespace', 'k8s.io', 'images']
    const archive = join(work, 'images.tar')
    // containerd takes an archive without the layers that it holds already
    const blobs = join(work, 'layout/blobs/sha256')
    for (const blob of readdirSync(blobs)) {
      if (existsSync(join(root, 'io.containerd.content.v1.content/blobs/sha256', blob))) rmSync(join(blobs, blob))
    }
    await writeArchive(join(work, 'layout'), archive)
    await run('ctr', [...ctr, 'import', archive])
    const there = await run('ctr', [...ctr, 'list', '--quiet'])
    const missing = described.filter(({ name }) => !there.split('\n').includes(name))
    if (missing.length > 0)
      throw new Fault('image.store', `not imported: ${missing.map(({ name }) => name).join(', ')}`)
  } finally {
    child.kill('SIGTERM') // a clean end: the databases are closed
    await ended
  }
}

function removeUnused(folder: string, key: string): void {
  const state = stateFolder()
  const used = new Set(labNames(state).map((name) => readState(labPaths(state, name))?.store))
  for (const entry of readdirSync(folder)) {
    const path = join(folder, entry)
    if (entry === key || entry === 'current' || entry.startsWith('new.') || used.has(path)) continue
    rmSync(path, { recursive: true, force: true })
  }
}
