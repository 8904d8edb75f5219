import { readFileSync, writeFileSync } from 'node:fs'
import { Fault } from '#core/fault/fault.ts'

/**
 * Kernel parameters by their files below /proc/sys, with slashes: `net/ipv4/conf/eth0/rp_filter`. What lies below
 * `net` belongs to the network namespace of the calling thread. Synchronous: these files never wait.
 */
const ROOT = '/proc/sys/'

/** Undefined when there is no such parameter. */
export function readSysctl(path: string): string | undefined {
  const file = fileOf(path)
  try {
    return readFileSync(file, 'utf8').trimEnd()
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw refused('read', path, error)
  }
}

export function writeSysctl(path: string, value: string): void {
  const file = fileOf(path)
  try {
    writeFileSync(file, value)
  } catch (error) {
    throw refused('set', path, error)
  }
}

function fileOf(path: string): string {
  if (!/^[\w.@:-]+(\/[\w.@:-]+)*$/.test(path) || path.split('/').some((part) => part === '..' || part === '.')) {
    throw new TypeError(`no kernel parameter: ${path}`)
  }
  return ROOT + path
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}

function refused(verb: string, path: string, cause: unknown): Fault {
  const code = codeOf(cause) ?? 'unknown'
  const remedies: Record<string, string> = {
    ENOENT: 'The kernel has no such parameter, or the device is gone',
    EROFS: 'Mount /proc/sys writable: run privileged',
    EACCES: 'Run as root, privileged',
    EPERM: 'Run as root, privileged',
    EINVAL: 'The kernel does not take this value',
  }
  const remedy = remedies[code]
  return new Fault(`kernel.sysctl.${code.toLowerCase()}`, `cannot ${verb} the kernel parameter ${path}: ${code}`, {
    field: path,
    ...(remedy === undefined ? {} : { remedy }),
    cause,
  })
}
