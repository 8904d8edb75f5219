import { Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import { type Acknowledgement, decodeAcknowledgement } from '#core/netlink/acknowledgement.ts'
import {
  frameMessage,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_MULTI,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
  splitMessages,
} from '#core/netlink/message.ts'
import * as libc from '#io/sys/libc.ts'

/** Netlink families that are asked here: rtnetlink, XFRM, generic netlink. */
const PROTOCOLS = { route: 0, xfrm: 6, generic: 16 } as const
export type NetlinkProtocol = keyof typeof PROTOCOLS
const SOL_NETLINK = 270
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12
/** The kernel never makes a dump's datagram larger than 32 KiB when it is asked with a buffer of that size. */
const BUFFER_BYTES = 64 * 1024
/** The kernel answers rtnetlink within the system call; this only bounds what must not happen. */
const TIMEOUT_MS = 5000
const MAX_DUMPS = 20
/** Of the sender's port in struct nlmsghdr. */
const PORT_OFFSET = 12
/** Acknowledgements wait in the socket's buffer while the kernel works through a batch: so many fit for certain. */
const BATCH_MESSAGES = 64
const BATCH_BYTES = 32 * 1024

/**
 * Asks the kernel and waits, on the calling thread: a request takes some microseconds and a dump of 100 links 0.2 ms,
 * because the kernel answers within `send`. Belongs to the network namespace that it was opened in, for ever.
 */
export class NetlinkSocket {
  readonly #fd: number
  readonly #buffer = new Uint8Array(BUFFER_BYTES)
  #sequence = 0
  #open = true
  /** Dumps that were read again because something changed meanwhile or the socket's buffer overflowed. */
  repeatedDumps = 0
  /** Netlink port, as events name who caused them; 0 before the first answer. */
  port = 0

  /** @throws Fault `kernel.*` */
  constructor(options: { readonly protocol?: NetlinkProtocol; readonly receiveBuffer?: number } = {}) {
    const protocol = options.protocol ?? 'route'
    const what = `open a netlink socket (${protocol})`
    this.#fd = asFault(what, () => libc.socket(libc.AF_NETLINK, libc.SOCK_RAW, PROTOCOLS[protocol]))
    try {
      asFault('set up a netlink socket', () => {
        // refuses what the kernel does not understand, and lets it filter dumps (Linux 4.20)
        for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK]) {
          libc.setSocketInt(this.#fd, SOL_NETLINK, option, 1)
        }
        if (options.receiveBuffer !== undefined) {
          libc.setSocketInt(this.#fd, libc.SOL_SOCKET, libc.SO_RCVBUF, options.receiveBuffer)
        }
        libc.setReceiveTimeout(this.#fd, TIMEOUT_MS)
        libc.bindNetlink(this.#fd)
      })
    } catch (error) {
      libc.close(this.#fd)
      throw error
    }
  }

  /**
   * One change or question; returns what the kernel sent before its acknowledgement.
   * @throws Fault `kernel.<errno>`, e.g. `kernel.eexist`: "add link x: file already exists (kernel: …)"
   */
  request(what: string, request: NetlinkRequest): readonly NetlinkMessage[] {
    const sequence = this.#send(what, request, NLM_F_REQUEST | NLM_F_ACK)
    const answers: NetlinkMessage[] = []
    for (;;) {
      for (const message of this.#receive(what)) {
        if (message.sequence !== sequence) continue
        if (message.type === NLMSG_ERROR) {
          const acknowledgement = unwrap(decodeAcknowledgement(message))
          if (acknowledgement.errno !== 0) throw refusal(what, acknowledgement)
          return answers
        }
        if (message.type !== NLMSG_NOOP) answers.push(copy(message))
      }
    }
  }

  /**
   * Changes in this order, many by one system call; one that fails does not keep the others from being made. Of each: undefined,
   * or the Fault that {@link request} would throw.
   */
  batch(
    entries: readonly { readonly what: string; readonly request: NetlinkRequest }[],
  ): readonly (Fault | undefined)[] {
    const faults: (Fault | undefined)[] = []
    for (let from = 0; from < entries.length; ) {
      let to = from
      let bytes = 0
      while (to < entries.length && to - from < BATCH_MESSAGES) {
        bytes += entries[to]?.request.body.length ?? 0
        if (to > from && bytes > BATCH_BYTES) break
        to++
      }
      faults.push(...this.#batchOnce(entries.slice(from, to)))
      from = to
    }
    return faults
  }

  /** Everything that matches, as one consistent picture. */
  dump(what: string, request: NetlinkRequest): readonly NetlinkMessage[] {
    for (let attempt = 0; attempt < MAX_DUMPS; attempt++) {
      const answers = this.#dumpOnce(what, request)
      if (answers !== undefined) return answers
      this.repeatedDumps++
    }
    throw new Fault('kernel.restless', `${what}: the answer changed while it was read, ${MAX_DUMPS} times`, {
      remedy: 'Something changes the network all the time: see `ip monitor`',
    })
  }

  close(): void {
    if (this.#open) libc.close(this.#fd)
    this.#open = false
  }

  #batchOnce(
    entries: readonly { readonly what: string; readonly request: NetlinkRequest }[],
  ): readonly (Fault | undefined)[] {
    const [{ what } = { what: '' }] = entries
    const waiting = new Map<number, number>()
    const frames = entries.map(({ request }, index) => {
      waiting.set(this.#nextSequence(), index)
      return frameMessage(request, NLM_F_REQUEST | NLM_F_ACK, this.#sequence)
    })
    this.#sendFrames(what, frames)
    const faults: (Fault | undefined)[] = entries.map(() => undefined)
    while (waiting.size > 0) {
      for (const message of this.#receive(what)) {
        const index = waiting.get(message.sequence)
        if (index === undefined || message.type !== NLMSG_ERROR) continue
        waiting.delete(message.sequence)
        const acknowledgement = unwrap(decodeAcknowledgement(message))
        if (acknowledgement.errno !== 0) faults[index] = refusal(entries[index]?.what ?? what, acknowledgement)
      }
    }
    return faults
  }

  #dumpOnce(what: string, request: NetlinkRequest): readonly NetlinkMessage[] | undefined {
    const sequence = this.#send(what, { ...request, flags: request.flags | NLM_F_DUMP }, NLM_F_REQUEST)
    const answers: NetlinkMessage[] = []
    let whole = true
    for (;;) {
      let messages: readonly NetlinkMessage[]
      try {
        messages = this.#receive(what)
      } catch (error) {
        if (!(error instanceof Fault) || error.code !== 'kernel.enobufs') throw error
        // messages are lost, but the dump runs on: a new one before its end would be refused (EBUSY)
        whole = false
        continue
      }
      for (const message of messages) {
        if (message.sequence !== sequence) continue
        if ((message.flags & NLM_F_DUMP_INTR) !== 0 || message.type === NLMSG_OVERRUN) whole = false
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const acknowledgement = unwrap(decodeAcknowledgement(message))
          if (acknowledgement.errno === libc.EINTR) return undefined
          if (acknowledgement.errno !== 0) throw refusal(what, acknowledgement)
          return whole ? answers : undefined
        }
        if ((message.flags & NLM_F_MULTI) !== 0) answers.push(copy(message))
      }
    }
  }

  #send(what: string, request: NetlinkRequest, flags: number): number {
    const sequence = this.#nextSequence()
    this.#sendFrames(what, [frameMessage(request, flags, sequence)])
    return sequence
  }

  #nextSequence(): number {
    this.#sequence = (this.#sequence % 0xffffffff) + 1
    return this.#sequence
  }

  /** One datagram; messages in it begin at multiples of 4. What was sent is wiped: it may hold keys. */
  #sendFrames(what: string, frames: readonly Uint8Array<ArrayBuffer>[]): void {
    if (!this.#open) throw new TypeError('this netlink socket is closed')
    const starts: number[] = []
    let length = 0
    for (const frame of frames) {
      // XFRM's events tell who caused them by what stands here; everybody else looks at the socket
      new DataView(frame.buffer).setUint32(PORT_OFFSET, this.port, true)
      starts.push(length)
      length += Math.ceil(frame.length / 4) * 4
    }
    const single = frames.length === 1 ? frames[0] : undefined
    const datagram = single ?? new Uint8Array(length)
    if (single === undefined) for (const [index, frame] of frames.entries()) datagram.set(frame, starts[index])
    try {
      asFault(what, () => libc.send(this.#fd, datagram))
    } finally {
      datagram.fill(0)
      for (const frame of frames) frame.fill(0)
    }
  }

  #receive(what: string): readonly NetlinkMessage[] {
    const length = asFault(what, () => libc.recv(this.#fd, this.#buffer))
    if (length > this.#buffer.length) {
      throw new Fault('kernel.too-long', `${what}: the kernel's answer has ${length} bytes, room is ${BUFFER_BYTES}`)
    }
    const messages = unwrap(splitMessages(this.#buffer.subarray(0, length)))
    this.port = messages[0]?.port ?? this.port
    return messages
  }
}

/** The buffer is used again for the next datagram. */
function copy(message: NetlinkMessage): NetlinkMessage {
  return { ...message, body: message.body.slice() }
}

function refusal(what: string, { errno, text, badOffset }: Acknowledgement): Fault {
  const detail = text === undefined ? '' : ` (kernel: ${text}${badOffset === undefined ? '' : `, byte ${badOffset}`})`
  return systemFault(what, errno, detail)
}

/** The Fault of an errno; code `kernel.eperm`, `kernel.eexist`, … */
function systemFault(what: string, errno: number, detail = '', cause?: unknown): Fault {
  const remedy = REMEDIES[errno]
  return new Fault(`kernel.${libc.errnoName(errno).toLowerCase()}`, `${what}: ${libc.errnoText(errno)}${detail}`, {
    ...(remedy === undefined ? {} : { remedy }),
    ...(cause === undefined ? {} : { cause }),
  })
}

const REMEDIES: Readonly<Record<number, string>> = {
  [libc.EPERM]: 'Run as root or with CAP_NET_ADMIN in this network namespace',
  13: 'Run as root or with CAP_NET_ADMIN in this network namespace',
  [libc.ENOBUFS]: 'Raise net.core.rmem_max',
  [libc.EAGAIN]: 'The kernel did not answer in 5 s: see dmesg',
}

/** Runs system calls; a failed one becomes a Fault that says what it was for. */
export function asFault<T>(what: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof libc.SystemError) throw systemFault(what, error.errno, ` (${error.call})`)
    throw error
  }
}
