import type { DaemonSet, Deployment } from 'kubernetes-types/apps/v1.d.ts'
import type { ConfigMap, Pod, Secret, Service } from 'kubernetes-types/core/v1.d.ts'
import type { KubeObject, Resource } from './object.ts'

/** The built-in kinds that our programs touch. Their shapes are those of kubernetes-types, with metadata always there. */

type Core<T> = T & KubeObject

export const PODS: Resource<Core<Pod>> = of('', 'v1', 'Pod', 'pods')
export const CONFIG_MAPS: Resource<Core<ConfigMap>> = of('', 'v1', 'ConfigMap', 'configmaps')
export const SECRETS: Resource<Core<Secret>> = of('', 'v1', 'Secret', 'secrets')
export const SERVICES: Resource<Core<Service>> = of('', 'v1', 'Service', 'services')
export const DAEMON_SETS: Resource<Core<DaemonSet>> = of('apps', 'v1', 'DaemonSet', 'daemonsets')
export const DEPLOYMENTS: Resource<Core<Deployment>> = of('apps', 'v1', 'Deployment', 'deployments')
export const CRDS: Resource<KubeObject> = of(
  'apiextensions.k8s.io',
  'v1',
  'CustomResourceDefinition',
  'customresourcedefinitions',
  false,
)

/** coordination.k8s.io/v1; times are RFC 3339 with microseconds. */
export interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string
    readonly leaseDurationSeconds?: number
    readonly acquireTime?: string
    readonly renewTime?: string
    readonly leaseTransitions?: number
  }
}
export const LEASES: Resource<Lease> = of('coordination.k8s.io', 'v1', 'Lease', 'leases')

/** events.k8s.io/v1 */
export interface KubeEvent extends KubeObject {
  readonly eventTime: string
  readonly reportingController: string
  readonly reportingInstance: string
  readonly action: string
  readonly reason: string
  readonly type: 'Normal' | 'Warning'
  readonly note: string
  readonly regarding: ObjectReference
  readonly series?: { readonly count: number; readonly lastObservedTime: string }
}
export const EVENTS: Resource<KubeEvent> = of('events.k8s.io', 'v1', 'Event', 'events')

export interface ObjectReference {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
}

function of<T extends KubeObject>(
  group: string,
  version: string,
  kind: string,
  plural: string,
  namespaced = true,
): Resource<T> {
  return { group, version, kind, plural, namespaced }
}
