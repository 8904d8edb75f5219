import assert from 'node:assert/strict'
import { watch } from 'node:fs'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { watchFolder } from './watch-folder.ts'

for (const used of [false, true]) {
  test(`a new file is noticed ${used ? 'also when inotify is used up' : 'at once'}`, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'pellicle-watch-'))
    t.after(() => rm(folder, { recursive: true }))
    const said: string[] = []
    let noticed: () => void = () => undefined
    const change = new Promise<void>((resolve) => {
      noticed = resolve
    })
    if (used) {
      const original = watch
      const fs = await import('node:fs')
      const { syncBuiltinESMExports } = await import('node:module')
      const refuse = (): never => {
        throw Object.assign(new Error('EMFILE: too many open files, watch'), { code: 'EMFILE' })
      }
      fs.default.watch = refuse
      syncBuiltinESMExports()
      t.after(() => {
        fs.default.watch = original
        syncBuiltinESMExports()
      })
    }
    const watched = watchFolder(folder, noticed, (error) => said.push(error.message))
    t.after(() => watched.close())
    // the way kubelet changes a mounted ConfigMap
    await writeFile(join(folder, 'draft'), '1')
    await rename(join(folder, 'draft'), join(folder, 'data'))
    await change
    // without it the machine itself may have none left
    if (used) assert.deepEqual(said, ['EMFILE: too many open files, watch'])
  })
}
