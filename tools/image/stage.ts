import { chmodSync, copyFileSync, mkdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { packFolder } from './layers.ts'

/** Packs what `fill` puts into a fresh folder. */
export async function staged(folder: string, tar: string, fill: (folder: string) => void): Promise<void> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  try {
    fill(folder)
    await packFolder(folder, tar)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Copies a program to its place. */
export function put(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, to)
  chmodSync(to, 0o755)
}
