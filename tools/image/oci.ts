import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '#apps/lab/process/run.ts'
import type { Image } from './images.ts'
import { EPOCH_SECONDS } from './layers.ts'

/** The part of an OCI image configuration (image-spec 1.1, config.md) that is ours. */
export interface ImageConfig {
  readonly Env: readonly string[]
  readonly Entrypoint?: readonly string[]
  readonly Cmd?: readonly string[]
  readonly WorkingDir?: string
}

export interface Described {
  readonly name: string
  readonly manifest: string
  readonly config: string
  readonly layers: readonly string[]
}

const MEDIA = 'application/vnd.oci.image'

/** Writes an OCI image layout with these images into an empty folder; layers are symbolic links. */
export function writeLayout(images: readonly Image[], folder: string): Described[] {
  rmSync(folder, { recursive: true, force: true })
  const blobs = join(folder, 'blobs/sha256')
  mkdirSync(blobs, { recursive: true })
  const manifests: object[] = []
  const described: Described[] = []
  const put = (value: object): { digest: string; size: number } => {
    const text = JSON.stringify(value)
    const hex = createHash('sha256').update(text).digest('hex')
    writeFileSync(join(blobs, hex), text)
    return { digest: `sha256:${hex}`, size: Buffer.byteLength(text) }
  }
  for (const { name, layers, config } of images) {
    const settings = put({
      created: new Date(EPOCH_SECONDS * 1000).toISOString(),
      architecture: 'amd64',
      os: 'linux',
      config,
      rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
    })
    for (const { file, digest } of layers) {
      const blob = join(blobs, digest.slice('sha256:'.length))
      if (!existsSync(blob)) symlinkSync(file, blob)
    }
    const manifest = put({
      schemaVersion: 2,
      mediaType: `${MEDIA}.manifest.v1+json`,
      config: { mediaType: `${MEDIA}.config.v1+json`, ...settings },
      layers: layers.map(({ digest, size }) => ({ mediaType: `${MEDIA}.layer.v1.tar`, digest, size })),
    })
    const tag = name.slice(name.lastIndexOf(':') + 1)
    const annotations = { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': tag }
    manifests.push({ mediaType: `${MEDIA}.manifest.v1+json`, ...manifest, annotations })
    described.push({
      name,
      manifest: manifest.digest,
      config: settings.digest,
      layers: layers.map(({ digest }) => digest),
    })
  }
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }))
  return described
}

/** An OCI archive: the layout as a tar. */
export async function writeArchive(layout: string, archive: string): Promise<void> {
  const same = [
    '--sort=name',
    '--owner=0',
    '--group=0',
    '--numeric-owner',
    `--mtime=@${EPOCH_SECONDS}`,
    '--dereference',
    '--hard-dereference',
  ]
  await run('tar', [...same, '-C', layout, '-cf', archive, 'oci-layout', 'index.json', 'blobs'])
}
