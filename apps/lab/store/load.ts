import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LabNode } from '../layout.ts'
import { type LabPaths, nodePaths } from '../paths.ts'
import { run } from '../process/run.ts'
import { type StoredImage, storedImages } from './images.ts'

const BLOBS = 'io.containerd.content.v1.content/blobs/sha256'

export interface Loaded {
  readonly node: string
  /** Names of the images that the node did not have in this form. */
  readonly images: readonly string[]
  /** Bytes that it had to be given. */
  readonly bytes: number
}

/** Gives a running node the images of a store; only the layers that it lacks are moved, so a change of our code is small. */
export async function loadImages(store: string, lab: LabPaths, node: LabNode, pid: number): Promise<Loaded> {
  const paths = nodePaths(lab, node.name)
  const has = (digest: string): boolean => existsSync(join(paths.disk, 'var/lib/containerd', BLOBS, hex(digest)))
  const ctr = ['-t', String(pid), '-m', '-n', '-p', '-C', '-r', '-w', 'ctr', '-n', 'k8s.io', 'images']
  const names = await run('nsenter', [...ctr, 'list'])
  const wanted = storedImages(store).filter(({ name, manifest }) => {
    return !names.split('\n').some((line) => line.startsWith(`${name} `) && line.includes(manifest))
  })
  if (wanted.length === 0) return { node: node.name, images: [], bytes: 0 }
  const work = mkdtempSync(join(paths.folder, 'load-'))
  try {
    const bytes = writeThinLayout(wanted, store, work, has)
    await run('tar', ['-C', work, '--dereference', '-cf', join(paths.disk, 'var/lib/containerd/load.tar'), '.'])
    await run('nsenter', [...ctr, 'import', '/var/lib/containerd/load.tar'])
    return { node: node.name, images: wanted.map(({ name }) => name), bytes }
  } finally {
    rmSync(work, { recursive: true, force: true })
    rmSync(join(paths.disk, 'var/lib/containerd/load.tar'), { force: true })
  }
}

/** An OCI image layout with what is not there yet; containerd takes the rest from its own store. Gives its bytes. */
function writeThinLayout(
  images: readonly StoredImage[],
  store: string,
  folder: string,
  has: (digest: string) => boolean,
): number {
  const blobs = join(folder, 'blobs/sha256')
  mkdirSync(blobs, { recursive: true })
  let bytes = 0
  const manifests = images.map((image) => {
    // containerd reads manifest and configuration from the archive in any case
    const needed = [image.manifest, image.config, ...image.layers.filter((layer) => !has(layer))]
    for (const digest of new Set(needed)) {
      const from = join(store, BLOBS, hex(digest))
      const to = join(blobs, hex(digest))
      if (existsSync(to)) continue
      symlinkSync(from, to) // a hard link would change the file's times, which tar takes for a change
      bytes += statSync(to).size
    }
    return {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: image.manifest,
      size: statSync(join(store, BLOBS, hex(image.manifest))).size,
      annotations: {
        'io.containerd.image.name': image.name,
        'org.opencontainers.image.ref.name': image.name.slice(image.name.lastIndexOf(':') + 1),
      },
    }
  })
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }))
  return bytes
}

function hex(digest: string): string {
  return digest.slice('sha256:'.length)
}
