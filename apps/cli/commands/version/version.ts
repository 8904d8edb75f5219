import { AGENT_CONTAINER, AGENT_DAEMONSET, CONFIG_MAP } from '#core/api/names.ts'
import { CONFIG_MAPS, DAEMON_SETS } from '#core/api/resources.ts'
import { describeFault } from '#core/fault/fault.ts'
import { VERSION } from '#core/version/version.ts'
import { connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import type { ClusterFlags } from '../../flags.ts'

export interface VersionFlags extends ClusterFlags {
  readonly client: boolean
}

/** The lines of `cilium version`; what cannot be asked is said, and is no failure. */
export async function version(this: CliContext, flags: VersionFlags): Promise<void> {
  const write = (line: string) => this.process.stdout.write(`${line}\n`)
  write(`${this.program}-cli: v${VERSION}`)
  if (flags.client) return
  try {
    const { client, namespace } = await connectCluster(this, flags)
    const scope = { namespace, signal: this.signal, timeoutMs: 5000 }
    const set = await client.find(DAEMON_SETS, AGENT_DAEMONSET, scope)
    const container = set?.spec?.template.spec?.containers.find(({ name }) => name === AGENT_CONTAINER)
    if (container?.image === undefined) {
      write('cilium image (running): unknown. There is no DaemonSet cilium')
      return
    }
    write(`cilium image (running): ${container.image}`)
    const config = await client.find(CONFIG_MAPS, CONFIG_MAP, scope)
    const profile = config?.data?.['pellicle-profile']
    if (profile !== undefined) write(`packets and texts of Cilium: ${profile}`)
  } catch (error) {
    write(`cilium image (running): unknown. Unable to obtain cilium version. Reason: ${describeFault(error)}`)
  }
}
