import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CLEANUP } from '#core/api/names.ts'
import type { Datapath } from '#core/datapath/datapath.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { EMPTY_HOST_PLAN } from '#core/host/host-plan.ts'
import { IPSEC_DEVICE, WIREGUARD_DEVICE } from '#core/plan/names.ts'
import type { Log } from '#io/telemetry/log.ts'
import type { HostNetwork, PodDevices } from './ports.ts'

export interface CleanupDeps {
  readonly host: HostNetwork
  readonly datapath: Datapath
  readonly devices: PodDevices
  readonly log: Log
  /** Keys and all that is remembered; endpoints of running pods lie elsewhere and stay. */
  readonly stateFolder: string
  /** DELs that were waiting for an agent: all is gone that they were for. */
  readonly deleteQueue: string
  /** Where devices have their files beside the supervisor: the keeper's configuration has the private key in it. */
  readonly runFolder: string
  /** Ends the loop: nothing is applied after it. */
  pause(): Promise<void>
  removeCniConfig(): Promise<void>
  /** Works off what is in the queue, then looks no more. */
  drainDeletions(): Promise<void>
  /** Writes the annotation; whoever asked waits for it. */
  acknowledge(value: string): Promise<void>
}

/**
 * Removes what this node has of ours, for `uninstall`. Pods that run are cut off first (their devices stay, down), so
 * that nothing they send leaves in clear once the routes and rules are gone; the next installation takes them up again.
 * Returns what was removed. May be called again after a failure, and when all is done.
 */
export async function cleanUp(deps: CleanupDeps): Promise<readonly string[]> {
  const removed: string[] = []
  const step = async (what: string, work: () => Promise<unknown>) => {
    try {
      await work()
    } catch (error) {
      throw new Fault('cleanup.failed', `cannot remove ${what}`, {
        field: what,
        ...(error instanceof Fault && error.remedy !== undefined ? { remedy: error.remedy } : {}),
        cause: error,
      })
    }
    removed.push(what)
    deps.log.info(`removed ${what}`)
  }
  // a run of the loop that is under way ends first: its last act puts the CNI configuration in place
  await deps.pause()
  await step('the CNI configuration', () => deps.removeCniConfig())
  const cutPods = async () => await deps.devices.setUp(await deps.devices.list(), false)
  await step('the network of running pods (their devices stay, down)', cutPods)
  for (const device of [WIREGUARD_DEVICE, IPSEC_DEVICE]) {
    await step(`${device} and its keys`, () => removeDevice(deps, device))
  }
  await step('devices, routes, rules and tables', async () => {
    // whoever keeps the plan in force may have brought them up again meanwhile
    await cutPods()
    await deps.host.apply(EMPTY_HOST_PLAN)
  })
  await step('state and key files', () => rm(deps.stateFolder, { recursive: true, force: true }))
  await step('the queue of deletions', async () => {
    await deps.drainDeletions()
    await rm(deps.deleteQueue, { recursive: true, force: true })
  })
  return removed
}

/** Cleans up and says so where it was asked for; never rejects. */
export async function cleanUpOnRequest(deps: CleanupDeps): Promise<boolean> {
  try {
    await cleanUp(deps)
    await deps.acknowledge(CLEANUP.done)
    return true
  } catch (error) {
    const why = describeFault(error)
    deps.log.error(`the cleanup of this node failed: ${why}`)
    await deps.acknowledge(`${CLEANUP.failed}${why}`).catch((failure: unknown) => {
      deps.log.error(`nor can that be told: ${describeFault(failure)}`)
    })
    return false
  }
}

/** A supervisor that is not there holds no device; one that was killed has left its device and its files. */
async function removeDevice({ datapath, host, runFolder }: CleanupDeps, device: string): Promise<void> {
  try {
    await datapath.remove(device)
  } catch (error) {
    if (!(error instanceof Fault && error.code === 'datapath.supervisor.away')) throw error
  }
  await host.removeDevice(device)
  await rm(join(runFolder, device), { recursive: true, force: true })
}
