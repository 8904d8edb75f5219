/** The agent of one node, `cilium-agent`. Wiring only: flags and environment in, a running {@link NodeAgent} out. */
import { hostname } from 'node:os'
import { parseArgs } from 'node:util'
import { NAMESPACE } from '#core/api/names.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { HostKeeper } from '#io/kernel/host-keeper.ts'
import { KubeClient } from '#io/kube/client.ts'
import { createLog, type Log } from '#io/telemetry/log.ts'
import { UserspaceDatapath } from '#io/userspace/datapath.ts'
import { KernelHost, KernelPods } from './kernel.ts'
import { NodeAgent } from './node-agent.ts'
import { agentPaths } from './paths.ts'

const OPTIONS = {
  'config-dir': { type: 'string', default: '/tmp/cilium/config-map' },
  kubeconfig: { type: 'string' },
  'health-port': { type: 'string', default: '9879' },
  // the node itself only; other addresses are asked for (value prometheus.enabled): it has no authentication
  'metrics-address': { type: 'string', default: '127.0.0.1' },
  'metrics-port': { type: 'string', default: '9962' },
  'log-format': { type: 'string' },
  debug: { type: 'boolean', default: false },
} as const

async function run(): Promise<void> {
  const { values } = parseArgs({ options: OPTIONS, allowPositionals: false })
  const configDir = values['config-dir']
  const log = await makeLog(configDir, values['log-format'], values.debug)
  try {
    const nodeName = process.env['K8S_NODE_NAME'] ?? hostname()
    const keeper = new HostKeeper({
      repaired: ({ done }) => {
        log.info('the network of this node was brought back to its plan', { changes: done.length })
        agent.resync()
      },
      fault: (fault) => log.warn(`the network of this node cannot be watched: ${describeFault(fault)}`),
    })
    const agent = new NodeAgent({
      nodeName,
      namespace: process.env['CILIUM_K8S_NAMESPACE'] ?? NAMESPACE,
      paths: agentPaths('', configDir),
      log: log.with({ subsys: 'agent' }),
      client: await KubeClient.connect({ kubeconfig: values.kubeconfig }),
      host: new KernelHost(keeper.kernel, keeper),
      devices: new KernelPods(keeper.kernel.socket),
      datapath: new UserspaceDatapath({ changed: () => agent.resync() }),
      healthPort: port(values['health-port'], '--health-port'),
      metricsAddress: values['metrics-address'],
      metricsPort: port(values['metrics-port'], '--metrics-port'),
      end,
    })
    function end(): void {
      void agent.close().then(() => process.exit(0))
    }
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        log.info(`ending by ${signal}: the network of this node stays as it is`)
        end()
      })
    }
    await agent.start()
  } catch (error) {
    log.error(`the agent cannot run: ${describeFault(error)}`, error instanceof Fault ? { field: error.field } : {})
    process.exit(1)
  }
}

/** Format and level as the configuration says, before anything else can fail; its faults are told by who reads it whole. */
async function makeLog(configDir: string, format: string | undefined, debug: boolean): Promise<Log> {
  const { readConfigDir } = await import('#io/kube/config-dir.ts')
  const { parseConfig } = await import('#core/api/config.ts')
  const parsed = parseConfig(await readConfigDir(configDir).catch(() => ({})))
  const config = parsed.ok ? parsed.value.config : undefined
  return createLog({
    format: format === 'json' ? 'json' : (config?.logFormat ?? 'logfmt'),
    level: debug || config?.debug === true ? 'debug' : 'info',
  })
}

/** 0 is off. */
function port(text: string, flag: string): number | undefined {
  const value = Number(text)
  if (!/^[0-9]+$/.test(text) || value > 65535) {
    throw new Fault('flag.invalid', `${flag}: "${text}" is no port`, { field: flag, remedy: 'Give 1 to 65535, or 0' })
  }
  return value === 0 ? undefined : value
}

void run()
