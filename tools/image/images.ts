import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PAUSE_IMAGE } from '#apps/lab/node/config.ts'
import { programPath } from '#apps/lab/programs/cache.ts'
import { COREDNS_VERSION, PROGRAMS, type ProgramPin } from '#apps/lab/programs/pins.ts'
import { baseLayer } from './base.ts'
import { codeLayer, engineLayer, nodeLayer } from './code.ts'
import { keptLayer, keyOf, type Layer } from './layers.ts'
import type { ImageConfig } from './oci.ts'
import { put, staged } from './stage.ts'

export interface Image {
  /** With tag, e.g. `localhost/pellicle:0.1.0`. */
  readonly name: string
  /** Lowest first. */
  readonly layers: readonly Layer[]
  readonly config: ImageConfig
}

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** As in deploy/Containerfile; a test compares them. */
export const AGENT_CONFIG: ImageConfig = { Env: [PATH], Cmd: ['/bin/bash'], WorkingDir: '/home/cilium' }

/** The images of the lab: agent, operator and keeper are one; nothing comes from a registry. */
export async function makeImages(root: string, say: (line: string) => void): Promise<Image[]> {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const base = await baseLayer((line) => say(`Debian: ${line}`))
  say('layers')
  const node = await nodeLayer(root)
  const engine = await engineLayer(root)
  const code = await codeLayer(root)
  return [
    {
      name: `localhost/pellicle:${version}`,
      layers: [base, node, engine, code],
      config: AGENT_CONFIG,
    },
    {
      name: `localhost/pellicle-examples:${version}`,
      layers: [base, node, await examplesLayer(root)],
      config: { Env: [PATH], Cmd: ['/usr/local/bin/web'], WorkingDir: '/' },
    },
    await programImage(`localhost/coredns:${COREDNS_VERSION}`, 'coredns', { Entrypoint: ['/coredns'], Env: [PATH] }),
    await programImage(PAUSE_IMAGE, 'pause', { Entrypoint: ['/pause'], Env: [PATH] }),
  ]
}

async function examplesLayer(root: string): Promise<Layer> {
  const web = join(root, 'examples/web.js')
  return await keptLayer('examples', keyOf(1, readFileSync(web, 'utf8')), async (tar) => {
    await staged(`${tar}.d`, tar, (folder) => {
      put(web, join(folder, 'usr/local/bin/web'))
    })
  })
}

/** One static program in an otherwise empty root. */
async function programImage(name: string, program: string, config: ImageConfig): Promise<Image> {
  const pin = PROGRAMS.find((candidate): candidate is ProgramPin => candidate.name === program)
  if (pin === undefined) throw new TypeError(`no program is called ${program}`)
  const path = programPath(pin)
  const layer = await keptLayer(program, keyOf(1, path), async (tar) => {
    await staged(`${tar}.d`, tar, (folder) => {
      put(path, join(folder, program))
      for (const below of ['etc', 'tmp', 'proc', 'sys', 'dev', 'run']) mkdirSync(join(folder, below))
      writeFileSync(join(folder, 'etc/passwd'), 'root:x:0:0:root:/:/sbin/nologin\n')
    })
  })
  return { name, layers: [layer], config: { ...config, WorkingDir: '/' } }
}
