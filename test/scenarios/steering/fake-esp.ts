import type { ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import type { IpsecPlan } from '#core/plan/plan.ts'

/** What stands in for the engine (fake-esp.py), in one node. */
export class FakeEsp {
  readonly child: ChildProcessByStdio<Writable, Readable, null>
  readonly #lines: Interface
  readonly #ended: Promise<undefined>

  /** Resolves when the device is there. */
  static async start(child: ChildProcessByStdio<Writable, Readable, null>): Promise<FakeEsp> {
    const esp = new FakeEsp(child)
    await esp.#answer()
    return esp
  }

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.child = child
    this.#ended = once(child, 'close').then(() => undefined)
    this.#lines = createInterface({ input: child.stdout })
  }

  async apply({ peers }: IpsecPlan): Promise<void> {
    this.child.stdin.write(`${JSON.stringify({ peers: peers.filter(({ send }) => send !== undefined) })}\n`)
    await this.#answer()
  }

  async close(): Promise<void> {
    this.child.stdin.end()
    await this.#ended
  }

  async #answer(): Promise<void> {
    const answer = await Promise.race([once(this.#lines, 'line'), this.#ended])
    if (answer === undefined) throw new Error('fake-esp.py has ended')
  }
}
