import type { Datapath } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'

/** `pellicle.datapath`. */
export type DatapathWish = 'auto' | 'kernel' | 'userspace'

export interface DatapathChoice {
  readonly kind: 'kernel' | 'userspace'
  /** For status: a sentence. */
  readonly why: string
}

/**
 * Which datapath this node uses. `userspaceDevice`: a device that the userspace datapath has here, so that an agent that is
 * upgraded goes on with what carries traffic. Neither datapath takes the other's device over.
 *
 * @throws Fault `datapath.kernel.missing` when the kernel is asked for and lacks something, by its name
 */
export async function chooseDatapath(
  wish: DatapathWish,
  {
    kernel,
    userspaceDevice,
  }: { readonly kernel: Pick<Datapath, 'probe'>; readonly userspaceDevice: () => string | undefined },
): Promise<DatapathChoice> {
  if (wish === 'userspace') return { kind: 'userspace', why: 'it is asked for (pellicle.datapath)' }
  const probed = await kernel.probe()
  if (wish === 'kernel') {
    if (probed.usable) return { kind: 'kernel', why: 'it is asked for (pellicle.datapath)' }
    throw new Fault('datapath.kernel.missing', `this kernel lacks ${probed.missing}`, {
      field: 'pellicle.datapath',
      remedy: `${probed.remedy}: set pellicle.datapath to auto or userspace`,
    })
  }
  if (!probed.usable) return { kind: 'userspace', why: `this kernel lacks ${probed.missing}` }
  const held = userspaceDevice()
  if (held === undefined) return { kind: 'kernel', why: 'this kernel has WireGuard and IPsec' }
  return { kind: 'userspace', why: `${held} of the userspace datapath is in use; this kernel could do it too` }
}
