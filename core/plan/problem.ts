/** Something that keeps the plan from being what the cluster asks for, told so that somebody can act on it. */
export interface Problem {
  /** Stable, for programs. */
  readonly code: string
  /** `CiliumNode/kind-worker`, `ConfigMap/cilium-config`. */
  readonly object: string
  /** One sentence. */
  readonly message: string
  readonly remedy: string
}

export const CONFIG_OBJECT = 'ConfigMap/cilium-config'

export function nodeObject(name: string): string {
  return `CiliumNode/${name}`
}
