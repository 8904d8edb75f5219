import { operatorError } from '#core/api/cilium-node.ts'
import { AGENT_CONTAINER, AGENT_DAEMONSET, KEEPER_DAEMONSET, OPERATOR_DEPLOYMENT } from '#core/api/names.ts'
import { type EncryptionState, judgeEncryption } from './encryption.ts'
import { managedPods } from './managed-pods.ts'
import type { AgentAnswer, ClusterObjects, PodObject } from './objects.ts'

/**
 * What `status -o json` prints, with the keys of Cilium's CLI. A pure function of what the cluster
 * answered: see {@link computeStatus}.
 */
export interface StatusDocument {
  /** Component → image → containers. */
  readonly image_count: Record<string, Record<string, number>>
  /** Component → pod phase → pods. */
  readonly phase_count: Record<string, Record<string, number>>
  readonly pod_state: Record<string, PodState>
  readonly pods_count: { readonly all: number; readonly by_cilium: number }
  /** Agent pod → what the agent says of itself. */
  readonly cilium_status: Record<string, unknown>
  /** Component → pod (or the component itself) → what is wrong. */
  readonly errors: Record<string, Record<string, Findings>>
  readonly collection_errors: readonly string[]
  readonly helm_chart_version?: string
  /** Ours: how far encryption is. */
  readonly pellicle_encryption: EncryptionState
}

interface PodState {
  readonly Type: 'DaemonSet' | 'Deployment'
  readonly Desired: number
  readonly Ready: number
  readonly Available: number
  readonly Unavailable: number
}

interface Findings {
  readonly Errors: string[]
  readonly Warnings: string[]
}

/** Workloads by component, in the order of the summary. */
export const COMPONENTS = [
  { name: AGENT_DAEMONSET, type: 'DaemonSet', selector: ['k8s-app', 'cilium'] },
  { name: KEEPER_DAEMONSET, type: 'DaemonSet', selector: ['k8s-app', 'pellicle-keeper'] },
  { name: OPERATOR_DEPLOYMENT, type: 'Deployment', selector: ['name', 'cilium-operator'] },
] as const

export function computeStatus(objects: ClusterObjects): StatusDocument {
  const errors: Record<string, Record<string, Findings>> = {}
  const findings = (component: string, pod: string): Findings => {
    const pods = (errors[component] ??= {})
    return (pods[pod] ??= { Errors: [], Warnings: [] })
  }
  const document = {
    image_count: {} as Record<string, Record<string, number>>,
    phase_count: {} as Record<string, Record<string, number>>,
    pod_state: {} as Record<string, PodState>,
    cilium_status: {} as Record<string, unknown>,
  }
  for (const { name, type, selector } of COMPONENTS) {
    const workload =
      type === 'DaemonSet'
        ? daemonSetState(objects.daemonSets.find((set) => set.metadata.name === name))
        : deploymentState(objects.deployments.find((deployment) => deployment.metadata.name === name))
    if (workload === undefined) {
      findings(name, name).Errors.push(`${type} ${name} is not there. Is it installed in this namespace?`)
    } else {
      const { state, pending } = workload
      document.pod_state[name] = state
      if (pending !== undefined) findings(name, name).Warnings.push(pending)
      if (state.Desired === 0 && pending === undefined)
        findings(name, name).Errors.push(`${type} ${name} has no pods to run: no node fits it`)
      if (state.Ready < state.Desired)
        findings(name, name).Errors.push(`${state.Desired - state.Ready} pods of ${type} ${name} are not ready`)
      if (state.Available < state.Desired)
        findings(name, name).Warnings.push(
          `${state.Desired - state.Available} pods of ${type} ${name} are not available`,
        )
    }
    const [key, value] = selector
    const pods = objects.pods.filter(
      (pod) => pod.metadata.namespace === objects.namespace && pod.metadata.labels?.[key] === value,
    )
    for (const pod of pods) {
      count((document.phase_count[name] ??= {}), pod.status?.phase ?? 'Unknown')
      for (const container of pod.spec?.containers ?? []) {
        count((document.image_count[name] ??= {}), container.image ?? '(none)')
      }
      const { Errors, Warnings } = { Errors: [] as string[], Warnings: [] as string[] }
      const error = (text: string) => Errors.push(text)
      const warn = (text: string) => Warnings.push(text)
      judgePod(pod, error, warn)
      const answer = name === AGENT_DAEMONSET ? objects.agents.get(pod.metadata.name) : undefined
      if (answer !== undefined) judgeAgent(answer, error, warn)
      if (answer?.ok === true) document.cilium_status[pod.metadata.name] = answer.status
      if (Errors.length + Warnings.length > 0) (errors[name] ??= {})[pod.metadata.name] = { Errors, Warnings }
    }
  }
  for (const node of objects.ciliumNodes) {
    const error = operatorError(node)
    if (error !== undefined) findings(OPERATOR_DEPLOYMENT, node.metadata.name).Errors.push(error)
  }
  const encryption = judgeEncryption(objects)
  for (const text of encryption.warnings) findings(AGENT_DAEMONSET, 'encryption').Warnings.push(text)
  for (const text of encryption.errors) findings(AGENT_DAEMONSET, 'encryption').Errors.push(text)
  return {
    ...document,
    pods_count: managedPods(objects),
    errors,
    collection_errors: [...objects.collectionErrors],
    ...(objects.chartVersion === undefined ? {} : { helm_chart_version: objects.chartVersion }),
    pellicle_encryption: encryption.state,
  }
}

/** All errors and warnings of a document as one line each; what could not be collected is an error. */
export function problemsOf(document: StatusDocument): { readonly errors: string[]; readonly warnings: string[] } {
  const all = Object.values(document.errors).flatMap((pods) => Object.values(pods))
  return {
    errors: [...document.collection_errors, ...all.flatMap((finding) => finding.Errors)],
    warnings: all.flatMap((finding) => finding.Warnings),
  }
}

interface WorkloadState {
  readonly state: PodState
  /** The controller has not acted on the newest spec yet, or not replaced all pods. */
  readonly pending: string | undefined
}

function daemonSetState(set: ClusterObjects['daemonSets'][number] | undefined): WorkloadState | undefined {
  if (set === undefined) return undefined
  const status = set.status
  const desired = status?.desiredNumberScheduled ?? 0
  const seen = (status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0)
  const updated = status?.updatedNumberScheduled ?? 0
  return {
    state: {
      Type: 'DaemonSet',
      Desired: desired,
      Ready: status?.numberReady ?? 0,
      Available: status?.numberAvailable ?? 0,
      Unavailable: status?.numberUnavailable ?? 0,
    },
    pending: rollOut('DaemonSet', set.metadata.name, seen, desired - updated),
  }
}

function deploymentState(deployment: ClusterObjects['deployments'][number] | undefined): WorkloadState | undefined {
  if (deployment === undefined) return undefined
  const status = deployment.status
  const desired = deployment.spec?.replicas ?? 1
  const seen = (status?.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  return {
    state: {
      Type: 'Deployment',
      Desired: desired,
      Ready: status?.readyReplicas ?? 0,
      Available: status?.availableReplicas ?? 0,
      Unavailable: status?.unavailableReplicas ?? 0,
    },
    pending: rollOut('Deployment', deployment.metadata.name, seen, desired - (status?.updatedReplicas ?? 0)),
  }
}

function rollOut(type: string, name: string, seen: boolean, old: number): string | undefined {
  if (!seen) return `${type} ${name} was just changed: its controller has not acted on it yet`
  return old > 0 ? `${old} pods of ${type} ${name} are still to be replaced` : undefined
}

function judgePod(pod: PodObject, error: (text: string) => void, warn: (text: string) => void): void {
  if (pod.metadata.deletionTimestamp !== undefined) return
  if (pod.status?.phase === 'Pending' && (pod.status.containerStatuses ?? []).length === 0) {
    const unscheduled = pod.status.conditions?.find((c) => c.type === 'PodScheduled' && c.status === 'False')
    warn(unscheduled?.message === undefined ? 'pod is pending' : `pod is pending: ${unscheduled.message}`)
  }
  for (const container of pod.status?.containerStatuses ?? []) {
    const waiting = container.state?.waiting
    if (waiting !== undefined && waiting.reason !== 'ContainerCreating' && waiting.reason !== 'PodInitializing') {
      const last = container.lastState?.terminated
      const ended =
        last === undefined
          ? ''
          : `, last ended with code ${last.exitCode}${last.message === undefined ? '' : `: ${lastError(last.message)}`}`
      error(
        `container ${container.name} is waiting: ${waiting.reason ?? 'no reason'}${detail(waiting.message)}${ended}`,
      )
    } else if (container.state?.terminated !== undefined) {
      error(`container ${container.name} ended with code ${container.state.terminated.exitCode}`)
    }
  }
}

/** What an agent says that is wrong with it. Its answer comes from outside: nothing in it is taken for granted. */
function judgeAgent(answer: AgentAnswer, error: (text: string) => void, warn: (text: string) => void): void {
  if (!answer.ok) return error(`unable to retrieve cilium status: ${answer.error}`)
  const { cilium, controllers, pellicle } = answer.status
  if (cilium?.state === 'Failure') error(`${AGENT_CONTAINER}: ${cilium.state}${detail(cilium.msg)}`)
  else if (cilium?.state === 'Warning') warn(`${AGENT_CONTAINER}: ${cilium.state}${detail(cilium.msg)}`)
  for (const controller of controllers ?? []) {
    const { 'consecutive-failure-count': failures = 0, 'last-failure-msg': why } = controller.status ?? {}
    if (failures > 0) warn(`controller ${controller.name} is failing since ${failures} tries${detail(why)}`)
  }
  for (const problem of pellicle?.problems ?? []) warn(problem)
}

function detail(text: string | undefined): string {
  return text === undefined || text === '' ? '' : ` (${firstLine(text)})`
}

function firstLine(text: string): string {
  const line = text.trim().split('\n', 1)[0] ?? ''
  return line.length > 200 ? `${line.slice(0, 197)}...` : line
}

/** Of a log's end: the last line that tells of an error, else the last. */
function lastError(log: string): string {
  const lines = log.split('\n').filter((line) => line.trim() !== '')
  const line = lines.findLast((text) => /error/i.test(text)) ?? lines.at(-1) ?? ''
  return firstLine(line)
}

function count(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1
}
