/** The agent of one node, `cilium-agent`. Wiring only: flags and environment in, a running {@link NodeAgent} out. */
import { hostname } from 'node:os'
import { parseArgs } from 'node:util'
import type { AgentConfig } from '#core/api/config.ts'
import { NAMESPACE } from '#core/api/names.ts'
import type { Datapath } from '#core/datapath/datapath.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { XfrmEvent } from '#core/netlink/xfrm-event.ts'
import { IPSEC_DEVICE, WIREGUARD_DEVICE } from '#core/plan/names.ts'
import { HostKeeper } from '#io/kernel/host-keeper.ts'
import { KernelDatapath } from '#io/kernel/kernel-datapath.ts'
import { listLinks } from '#io/kernel/link-table.ts'
import { NetlinkSocket } from '#io/kernel/netlink-socket.ts'
import { KubeClient } from '#io/kube/client.ts'
import { createLog, type Log } from '#io/telemetry/log.ts'
import { UserspaceDatapath } from '#io/userspace/datapath.ts'
import { chooseDatapath, type DatapathChoice, type DatapathWish } from './choose-datapath.ts'
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
  // before what the configuration says (pellicle.datapath)
  datapath: { type: 'string' },
  debug: { type: 'boolean', default: false },
} as const

async function run(): Promise<void> {
  const { values } = parseArgs({ options: OPTIONS, allowPositionals: false })
  const configDir = values['config-dir']
  const config = await firstConfig(configDir)
  const log = makeLog(config, values['log-format'], values.debug)
  try {
    const { datapath, choice } = await makeDatapath(wish(values.datapath) ?? config?.datapath ?? 'userspace', () =>
      agent.resync(),
    )
    log.info(`the datapath is ${choice.kind}: ${choice.why}`)
    const nodeName = process.env['K8S_NODE_NAME'] ?? hostname()
    const keeper = new HostKeeper({
      repaired: ({ done }) => {
        log.info('the network of this node was brought back to its plan', { changes: done.length })
        agent.resync()
      },
      fault: (fault) => log.warn(`the network of this node cannot be watched: ${describeFault(fault)}`),
      // states and policies that somebody else removed or changed
      ...(datapath instanceof KernelDatapath
        ? { lost: () => agent.resync(), xfrm: (event: XfrmEvent) => datapath.concerns(event) && agent.resync() }
        : {}),
    })
    const agent = new NodeAgent({
      nodeName,
      namespace: process.env['CILIUM_K8S_NAMESPACE'] ?? NAMESPACE,
      paths: agentPaths('', configDir),
      log: log.with({ subsys: 'agent' }),
      client: await KubeClient.connect({ kubeconfig: values.kubeconfig }),
      host: new KernelHost(keeper.kernel, keeper),
      devices: new KernelPods(keeper.kernel.socket),
      datapath,
      datapathReason: choice.why,
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

/** What the configuration says as this process begins; its faults are told by who reads it whole. */
async function firstConfig(configDir: string): Promise<AgentConfig | undefined> {
  const { readConfigDir } = await import('#io/kube/config-dir.ts')
  const { parseConfig } = await import('#core/api/config.ts')
  const parsed = parseConfig(await readConfigDir(configDir).catch(() => ({})))
  return parsed.ok ? parsed.value.config : undefined
}

/** `changed`: what was applied may not be there any more. */
async function makeDatapath(
  wanted: DatapathWish,
  changed: () => void,
): Promise<{ readonly datapath: Datapath; readonly choice: DatapathChoice }> {
  let kernel: KernelDatapath | undefined
  const probe = () => {
    kernel = new KernelDatapath()
    return kernel.probe()
  }
  const choice = await chooseDatapath(wanted, { kernel: { probe }, userspaceDevice })
  if (choice.kind === 'kernel' && kernel !== undefined) return { datapath: kernel, choice }
  await kernel?.close()
  return { datapath: new UserspaceDatapath({ changed }), choice }
}

function userspaceDevice(): string | undefined {
  const socket = new NetlinkSocket()
  try {
    const names: readonly string[] = [WIREGUARD_DEVICE, IPSEC_DEVICE]
    return listLinks(socket).find(({ name, kind }) => names.includes(name) && kind.kind === 'tun')?.name
  } finally {
    socket.close()
  }
}

function wish(text: string | undefined): DatapathWish | undefined {
  if (text === undefined || text === 'auto' || text === 'kernel' || text === 'userspace') return text
  throw new Fault('flag.invalid', `--datapath: "${text}" is none`, {
    field: '--datapath',
    remedy: 'Give auto, kernel or userspace',
  })
}

/** Format and level as the configuration says, before anything else can fail. */
function makeLog(config: AgentConfig | undefined, format: string | undefined, debug: boolean): Log {
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
