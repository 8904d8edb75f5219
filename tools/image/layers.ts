import { createHash } from 'node:crypto'
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { run } from '#apps/lab/process/run.ts'
import { cacheFolder } from '#apps/lab/programs/cache.ts'

/** One layer of an image: an uncompressed tar. The same input gives the same bytes. */
export interface Layer {
  readonly file: string
  /** `sha256:…` of the tar. */
  readonly digest: string
  readonly size: number
}

/** All layers carry this time: a tar of the same files is then the same tar. */
export const EPOCH_SECONDS = 1_767_225_600 // 2026-01-01

function layersFolder(): string {
  return join(cacheFolder(), 'images', 'layers')
}

/** The layer kept under `name` and `key`, made by `make` (which writes a tar to the path it gets) when it is not there. */
export async function keptLayer(name: string, key: string, make: (tar: string) => Promise<void>): Promise<Layer> {
  const folder = layersFolder()
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${name}-${key}.tar`)
  const note = `${file}.sha256`
  if (existsSync(file) && existsSync(note)) {
    return { file, digest: readFileSync(note, 'utf8').trim(), size: statSync(file).size }
  }
  const partial = `${file}.${process.pid}`
  try {
    await make(partial)
    const digest = `sha256:${await hashFile(partial)}`
    renameSync(partial, file)
    writeFileSync(note, `${digest}\n`)
    return { file, digest, size: statSync(file).size }
  } finally {
    rmSync(partial, { force: true })
  }
}

/** A tar of all that is in `folder`, names sorted, owned by root, at one time. */
export async function packFolder(folder: string, tar: string): Promise<void> {
  const same = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', `--mtime=@${EPOCH_SECONDS}`]
  await run('tar', [...same, '--format=posix', '--pax-option=delete=atime,delete=ctime', '-C', folder, '-cf', tar, '.'])
}

export async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** A short key of anything that JSON can say. */
export function keyOf(...parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12)
}
