import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Lies in a store beside containerd's own folders: what was imported. */
export const IMAGES_FILE = 'images.json'

export interface StoredImage {
  readonly name: string
  /** Digests, `sha256:…`. */
  readonly manifest: string
  readonly config: string
  readonly layers: readonly string[]
}

export function storedImages(store: string): StoredImage[] {
  return JSON.parse(readFileSync(join(store, IMAGES_FILE), 'utf8')) as StoredImage[]
}
