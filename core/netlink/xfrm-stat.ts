import { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'

/**
 * `/proc/net/xfrm_stat` (Documentation/networking/xfrm_proc.rst): packets that were dropped, by the kernel's own names such
 * as `XfrmInNoStates`, of the network namespace it was read in. Names are the kernel's; newer ones have more of them.
 */
export function parseXfrmStat(text: string): Result<Readonly<Record<string, number>>, Fault> {
  const counts: Record<string, number> = {}
  for (const [index, line] of text.split('\n').entries()) {
    if (line === '') continue
    const match = /^(Xfrm[A-Za-z0-9]+)\s+(\d+)$/.exec(line)
    if (match === null) {
      return fail(new Fault('xfrm.stat', `/proc/net/xfrm_stat: line ${index + 1} is no "name number"`))
    }
    counts[match[1] ?? ''] = Number(match[2])
  }
  return ok(counts)
}
