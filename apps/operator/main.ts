import { hostname } from 'node:os'
import { type AgentConfig, parseConfig } from '#core/api/config.ts'
import { OPERATOR_LEASE } from '#core/api/names.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { VERSION } from '#core/version/version.ts'
import { KubeClient } from '#io/kube/client.ts'
import { readConfigDir } from '#io/kube/config-dir.ts'
import { runAsLeader } from '#io/kube/leader.ts'
import { createLog, type Log } from '#io/telemetry/log.ts'
import { serveHealth } from './health.ts'
import { OperatorMetrics } from './metrics.ts'
import { type OperatorOptions, parseOptions, USAGE } from './options.ts'
import { watchCluster } from './watcher.ts'

/** `cilium-operator`: one leads, the others wait. Ends by SIGTERM or SIGINT, giving the leadership back first. */
async function main(): Promise<number> {
  let options: OperatorOptions
  try {
    options = parseOptions(process.argv.slice(2), process.env)
  } catch (error) {
    process.stderr.write(`cilium-operator: ${describeFault(error)}\n`)
    return 2
  }
  if (options.help || options.version) {
    process.stdout.write(options.help ? USAGE : `cilium-operator ${VERSION}\n`)
    return 0
  }
  let log = createLog({}).with({ subsys: 'operator' })
  try {
    const config = await readConfig(options.configDir, log)
    if (config === undefined) return 1
    log = createLog({ format: config.logFormat, level: config.debug ? 'debug' : 'info' }).with({ subsys: 'operator' })
    await run(options, config, log)
    return 0
  } catch (error) {
    log.error(describeFault(error), error instanceof Fault ? { code: error.code, field: error.field } : {})
    return 1
  }
}

async function readConfig(folder: string, log: Log): Promise<AgentConfig | undefined> {
  const parsed = parseConfig(await readConfigDir(folder))
  if (parsed.ok) {
    for (const { key, nearest } of parsed.value.unknown) log.warn('unknown key in cilium-config', { key, nearest })
    return parsed.value.config
  }
  for (const fault of parsed.error) log.error(fault.message, { field: fault.field, remedy: fault.remedy })
  return undefined
}

async function run(options: OperatorOptions, config: AgentConfig, log: Log): Promise<void> {
  const stopping = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => {
      log.info('ends', { signal: name })
      stopping.abort()
    })
  }
  const metrics = new OperatorMetrics()
  let state = 'ok: starting'
  const health = await serveHealth(options.healthAddress, metrics, () => state)
  log.info('starts', { version: VERSION, health: health.address, ipam: config.ipam, encryption: config.encryption })
  const client = await KubeClient.connect({ kubeconfig: options.kubeconfig })
  const identity = `${process.env['POD_NAME'] ?? hostname()}_${crypto.randomUUID().slice(0, 8)}`
  state = 'ok: waiting for the lease'
  try {
    await runAsLeader(
      client,
      {
        namespace: options.namespace,
        name: OPERATOR_LEASE,
        identity,
        onFailure: (error) => log.warn('lease not read or renewed', { error: describeFault(error) }),
        onFollow: (holder) => {
          state = `ok: ${holder} leads`
          log.info('another operator leads', { holder })
        },
      },
      async (signal) => {
        state = 'ok: leading'
        metrics.leader.set(1)
        log.info('leads', { identity })
        try {
          await watchCluster({ client, namespace: options.namespace, config, log, metrics }, signal)
        } finally {
          state = 'ok: waiting for the lease'
          metrics.leader.set(0)
          log.info('no longer leads', { identity })
        }
      },
      stopping.signal,
    )
  } finally {
    client.close()
    await health.close()
  }
}

// whoever started us waits for the exit code, whatever socket may still be open
process.exit(await main())
