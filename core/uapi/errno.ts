import { Fault } from '#core/fault/fault.ts'

/** The last line of an answer: 0, or a negative errno of Linux, as wireguard-go gives it. */
const ERRNOS: Readonly<Record<string, number>> = {
  'uapi.invalid': -22, // EINVAL
  'uapi.version': -93, // EPROTONOSUPPORT
  'wireguard.peer.full': -28, // ENOSPC
  'store.full': -28,
  'store.read-only': -30, // EROFS
  'port.taken': -98, // EADDRINUSE
  'engine.away': -11, // EAGAIN
}

const EINVAL = -22
const EIO = -5

export function errnoOf(error: unknown): number {
  if (!(error instanceof Fault)) return EIO
  return ERRNOS[error.code] ?? (error.code.startsWith('wireguard.') ? EINVAL : EIO)
}
