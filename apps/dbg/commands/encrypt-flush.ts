import { createInterface } from 'node:readline/promises'
import { Fault } from '#core/fault/fault.ts'
import { MAX_KEY_ID } from '#core/ipsec/key.ts'
import type { DbgContext } from '../context.ts'

export interface FlushFlags {
  readonly force: boolean
  readonly spi: number | undefined
  readonly nodeId: string | undefined
  readonly node: string | undefined
}

const WARNING =
  'Flushing all XFRM states and policies can lead to transient connectivity interruption and plain-text pod-to-pod traffic. Do you want to continue? [y/N] '

/** The texts are Cilium's; here nothing leaves in clear meanwhile, and the agent makes at once what belongs there. */
export async function encryptFlush(this: DbgContext, flags: FlushFlags): Promise<void> {
  const { spi, node, force } = flags
  if (flags.nodeId !== undefined) {
    throw new Fault('flush.node-id', `Unable to parse node ID "${flags.nodeId}": this datapath has no node ids`, {
      field: '--node-id',
      remedy: 'Name the node: --node NAME.',
    })
  }
  if (spi !== undefined && (!Number.isInteger(spi) || spi < 1 || spi > MAX_KEY_ID)) {
    throw new Fault('flush.spi', 'Given SPI is too big', { field: '--spi', remedy: `Give 1 to ${MAX_KEY_ID}.` })
  }
  const all = spi === undefined && node === undefined
  if (all && !force && !(await agrees(this))) return
  const query = new URLSearchParams()
  if (spi !== undefined) query.set('spi', String(spi))
  if (node !== undefined) query.set('node', node)
  const { removed } = (await this.agent.post(`/v1/encrypt/flush?${query.toString()}`)) as { removed: number }
  const done = all
    ? 'All XFRM states and policies have been deleted.\n'
    : `Deleted ${removed} XFRM states.\nDeleted 0 XFRM policies.\n`
  this.process.stdout.write(done)
}

async function agrees({ process: { stdout } }: DbgContext): Promise<boolean> {
  stdout.write(WARNING)
  const input = createInterface({ input: process.stdin })
  try {
    for await (const line of input) return /^y(es)?$/i.test(line.trim())
    return false
  } finally {
    input.close()
  }
}
