import { CLEANUP } from '#core/api/names.ts'
import { describeFault } from '#core/fault/fault.ts'
import type { Log } from '#io/telemetry/log.ts'

export interface CleanupRequestDeps {
  readonly log: Log
  /** Cleans up and answers in the annotation; true when all is gone. Never rejects. */
  clean(): Promise<boolean>
  /** Removes the annotation. */
  forget(): Promise<void>
  /** Ends this process: its successor begins anew and programs the node. */
  end(): void
}

/** Follows `pellicle.io/cleanup` on this node's CiliumNode. */
export class CleanupRequest {
  readonly #deps: CleanupRequestDeps
  /** The last cleanup that this process began; it has paused the agent for good. */
  #run: Promise<boolean> | undefined
  #again = false
  #ended = false

  constructor(deps: CleanupRequestDeps) {
    this.#deps = deps
  }

  /** A cleanup runs or is done; a failed one has left a node that is not well. */
  get active(): boolean {
    return this.#run !== undefined && !this.#again
  }

  /** With what the annotation says now; undefined: the CiliumNode is there, without it. */
  look(asked: string | undefined): void {
    const { log } = this.#deps
    if (asked === CLEANUP.requested) {
      if (this.active || this.#ended) return
      log.info('this node is asked to remove everything')
      this.#again = false
      this.#run = this.#deps.clean().then((done) => {
        // a failure may be asked for again
        this.#again = !done
        return done
      })
    } else if (asked === undefined) {
      // taken back: nothing but a new process takes up what was put down
      if (this.#run === undefined || this.#ended) return
      this.#ended = true
      log.info('the request to remove everything was taken back: this agent ends, the next one programs the node again')
      void this.#run.then(() => this.#deps.end())
    } else if (this.#run === undefined) {
      // left from an installation before this one
      this.#deps.forget().catch((error: unknown) => {
        log.info(`an old cleanup annotation is still there: ${describeFault(error)}`)
      })
    }
  }
}
