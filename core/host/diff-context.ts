/** What the parts of a diff ask about devices. */
export interface DiffContext {
  readonly stateOf: (device: string) => 'there' | 'fresh' | undefined
  readonly isUp: (device: string) => boolean
  /** Counts one object that waits for `device`. */
  readonly wait: (device: string) => void
}
