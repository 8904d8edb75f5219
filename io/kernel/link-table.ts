import { Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import { decodeLink, dumpLinks, getLink, type Link } from '#core/netlink/link.ts'
import { RTM_NEWLINK } from '#core/netlink/rtnetlink.ts'
import type { NetlinkSocket } from './netlink-socket.ts'

/** Links of the socket's network namespace. */
export function listLinks(socket: NetlinkSocket): Link[] {
  return socket
    .dump('list links', dumpLinks())
    .filter((message) => message.type === RTM_NEWLINK)
    .map((message) => unwrap(decodeLink(message)))
}

/** Undefined when there is none. */
export function findLink(socket: NetlinkSocket, name: string): Link | undefined {
  try {
    const [answer] = socket.request(`look for link ${name}`, getLink({ name }))
    return answer === undefined ? undefined : unwrap(decodeLink(answer))
  } catch (error) {
    if (error instanceof Fault && error.code === 'kernel.enodev') return undefined
    throw error
  }
}

export function requireLink(socket: NetlinkSocket, name: string): Link {
  const link = findLink(socket, name)
  if (link === undefined) throw new Fault('kernel.enodev', `there is no link ${name}`, { field: `link/${name}` })
  return link
}
