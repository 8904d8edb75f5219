import { flushCompileCache } from 'node:module'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { describeFault } from '#core/fault/fault.ts'
import { pooledEntropy } from '#io/crypto/entropy.ts'
import { createLog, lineWriter } from '#io/telemetry/log.ts'
import { Keeper } from './keeper.ts'
import { readSettings } from './settings.ts'
import { listenOn } from './supervisor.ts'

/** The keeper's process: wiring only. Started by the supervisor, once per device. */

const settings = readSettings(process.env)
const log = createLog({
  format: settings.logFormat,
  level: settings.logLevel,
  write: lineWriter(process.stderr),
})
process.umask(0o077)

const keeper = new Keeper(settings, {
  log,
  // libuv's hrtime is CLOCK_MONOTONIC, the engine's clock
  now: () => ({ monotonic: Number(process.hrtime.bigint()) / 1e6, unix: Date.now() }),
  random: pooledEntropy(),
  listen: (port, mark) => listenOn(join(settings.runDir, 'supervisor.sock'), settings.device, port, mark),
  scopeOf: (name) => {
    if (/^[0-9]{1,9}$/.test(name)) return Number(name)
    return networkInterfaces()[name]?.find(({ family }) => family === 'IPv6')?.scopeid
  },
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    keeper.stop().then(
      () => process.exit(0),
      (error: unknown) => fail(error),
    )
  })
}

keeper.start().then(
  // for the next start: whoever is killed does not come to it. Nothing happens where there is no such cache.
  () => flushCompileCache(),
  (error: unknown) => fail(error),
)

function fail(error: unknown): never {
  log.error('keeper failed', { error: describeFault(error) })
  process.exit(1)
}
