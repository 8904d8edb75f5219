import type { CniPlaces } from './cni/install.ts'

/** Where everything lies, as the agent's container sees it. Tests put another folder before each. */
export interface AgentPaths {
  readonly configDir: string
  readonly keyFile: string
  readonly stateFolder: string
  readonly nodeState: string
  /** Outside the state folder: running pods outlive an uninstallation. */
  readonly endpoints: string
  readonly apiSocket: string
  readonly cniSocket: string
  readonly deleteQueue: string
  /** The supervisor's, with a folder for each device. */
  readonly runFolder: string
  readonly supervisorSocket: string
  readonly controlFolder: string
  readonly bootId: string
  readonly cni: CniPlaces
}

export function agentPaths(root = '', configDir = '/tmp/cilium/config-map'): AgentPaths {
  const run = `${root}/var/run/cilium`
  return {
    configDir,
    stateFolder: `${run}/state`,
    keyFile: `${run}/state/cilium_wg0.key`,
    nodeState: `${run}/state/node.json`,
    endpoints: `${root}/var/lib/cilium/endpoints.json`,
    apiSocket: `${run}/cilium.sock`,
    cniSocket: `${run}/cni.sock`,
    deleteQueue: `${run}/deletequeue`,
    runFolder: `${root}/run/pellicle`,
    supervisorSocket: `${root}/run/pellicle/supervisor.sock`,
    controlFolder: `${root}/var/run/wireguard`,
    bootId: '/proc/sys/kernel/random/boot_id',
    cni: {
      source: `${root}/opt/cni/bin/cilium-cni`,
      binFolder: `${root}/host/opt/cni/bin`,
      configFolder: `${root}/host/etc/cni/net.d`,
    },
  }
}
