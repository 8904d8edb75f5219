import { Fault } from '#core/fault/fault.ts'

/** What the supervisor passes (docs/protocol/supervisor.md), and what an operator may set. */
export interface KeeperSettings {
  readonly device: string
  /** Holds a folder per device, and `supervisor.sock`. */
  readonly runDir: string
  readonly uapiDir: string
  readonly listenPort: number
  readonly mark: number
  /** A listening control socket that the supervisor made; else the keeper makes its own in `uapiDir`. */
  readonly uapiFd: number | undefined
  readonly logFormat: 'logfmt' | 'json'
  readonly logLevel: 'debug' | 'info' | 'error'
}

/** @throws Fault `keeper.settings` that names the variable */
export function readSettings(env: Readonly<Record<string, string | undefined>>): KeeperSettings {
  const device = env.PELLICLE_DEVICE ?? ''
  if (!/^[^/\s]{1,15}$/.test(device) || device === '.' || device === '..') {
    throw new Fault('keeper.settings', `PELLICLE_DEVICE: "${device}" is no device name`, { field: 'PELLICLE_DEVICE' })
  }
  const logFormat = env.LOG_FORMAT ?? 'logfmt'
  if (logFormat !== 'logfmt' && logFormat !== 'json') {
    throw new Fault('keeper.settings', `LOG_FORMAT: "${logFormat}" is neither logfmt nor json`, { field: 'LOG_FORMAT' })
  }
  return {
    device,
    runDir: env.PELLICLE_RUN_DIR ?? '/run/pellicle',
    uapiDir: env.PELLICLE_UAPI_DIR ?? '/var/run/wireguard',
    listenPort: integer('PELLICLE_LISTEN_PORT', env.PELLICLE_LISTEN_PORT ?? '0', 0xffff),
    mark: integer('PELLICLE_MARK', env.PELLICLE_MARK ?? '0', 0xffffffff),
    uapiFd: env.PELLICLE_UAPI_FD === undefined ? undefined : integer('PELLICLE_UAPI_FD', env.PELLICLE_UAPI_FD, 1023),
    logFormat,
    logLevel: levelOf(env.LOG_LEVEL),
  }
}

/** wireguard-go's words (`verbose`, `silent`) are understood; without any, or with others, we tell what we tell. */
function levelOf(text: string | undefined): KeeperSettings['logLevel'] {
  if (text === 'debug' || text === 'verbose') return 'debug'
  return text === 'error' || text === 'silent' ? 'error' : 'info'
}

function integer(name: string, text: string, max: number): number {
  const value = /^(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})$/.test(text) ? Number(text) : Number.NaN
  if (!(value <= max)) {
    throw new Fault('keeper.settings', `${name}: "${text}" is no number from 0 to ${max}`, { field: name })
  }
  return value
}
