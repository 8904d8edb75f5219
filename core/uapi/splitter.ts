import { Fault } from '#core/fault/fault.ts'

/** A configuration of 10,000 peers with their prefixes has about 3 MiB. */
const MAX_OPERATION = 16 << 20

/** Cuts a text stream into operations: what stands before each empty line. */
export class OperationSplitter {
  #rest = '';

  /** @throws Fault `uapi.invalid` when an operation does not end. */
  *push(chunk: string): Generator<string> {
    this.#rest += chunk
    for (;;) {
      const end = this.#rest.startsWith('\n') ? 0 : this.#rest.indexOf('\n\n') + 1
      const empty = end === 0 && !this.#rest.startsWith('\n')
      if (empty) break
      const operation = this.#rest.slice(0, end)
      this.#rest = this.#rest.slice(end + 1)
      // wireguard-go ignores empty lines between operations
      if (operation !== '') yield operation
    }
    if (this.#rest.length > MAX_OPERATION) throw new Fault('uapi.invalid', 'the operation is too long')
  }
}
