import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cacheFolder } from '#apps/lab/programs/cache.ts'

const SCAPY = ['scapy==2.8.0', 'cryptography==50.0.2']

const exec = promisify(execFile)

/**
 * A Python that has scapy, in a virtual environment in the user's cache, made there when it is not there; or why not.
 */
export async function scapyPython(): Promise<{ python: string } | { missing: string }> {
  const folder = join(cacheFolder(), 'peers', SCAPY.join('-').replaceAll('==', '-'))
  const python = join(folder, 'bin', 'python')
  const done = join(folder, 'complete')
  if (existsSync(done)) return { python }
  try {
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(join(folder, '..'), { recursive: true })
    await exec('python3', ['-m', 'venv', folder], { timeout: 120_000 })
    await exec(python, ['-m', 'pip', 'install', '--quiet', '--only-binary', ':all:', ...SCAPY], { timeout: 300_000 })
    await exec(python, ['-c', 'import scapy.layers.ipsec'], { timeout: 60_000 })
    mkdirSync(`${done}.new`)
    renameSync(`${done}.new`, done)
    return { python }
  } catch (error) {
    const why = error instanceof Error ? error.message.trim().split('\n').at(-1) : ''
    return { missing: `needs python3 with venv and ${SCAPY.join(', ')} of PyPI: ${why}` }
  }
}
