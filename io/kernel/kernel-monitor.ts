import { Worker } from 'node:worker_threads'
import type { Fault } from '#core/fault/fault.ts'
import { decodeEvent, type KernelEvent } from '#core/netlink/event.ts'
import { splitMessages } from '#core/netlink/message.ts'
import { changedTable, NFTABLES_GROUP } from '#core/netlink/nftables-event.ts'
import { GROUPS } from '#core/netlink/rtnetlink.ts'
import { XFRM_GROUPS } from '#core/netlink/xfrm.ts'
import { decodeXfrmEvent, type XfrmEvent } from '#core/netlink/xfrm-event.ts'
import * as libc from '#io/sys/libc.ts'
import { asFault } from './netlink-socket.ts'

const NETLINK_ROUTE = 0
const NETLINK_XFRM = 6
const NETLINK_NETFILTER = 12
const RECEIVE_BUFFER_BYTES = 1 << 20
/** How soon a stop, and a change of nftables or XFRM, is noticed at the latest. */
const WAKE_MS = 500

export interface MonitorHandlers {
  readonly event: (event: KernelEvent) => void
  /** A table of that name was changed by somebody (perhaps by us). */
  readonly table: (name: string) => void
  /** XFRM is listened to only with this. */
  readonly xfrm?: (event: XfrmEvent) => void
  /** Events were lost (ENOBUFS): what is known must be read again, as after HTTP 410. */
  readonly lost: () => void
  /** A message that cannot be understood, or the end of the worker: events come no more. */
  readonly fault: (fault: Fault | Error) => void
}

/**
 * The worker's whole program. libuv cannot poll AF_NETLINK, so a thread blocks in read(2): on the rtnetlink socket, which
 * wakes it after WAKE_MS at the latest; then it empties the other sockets, which do not block. It is a text and needs
 * nothing but Node's own modules, so it works from source and from a bundle of one file alike.
 */
const PROGRAM = `
'use strict'
const { parentPort, workerData } = require('node:worker_threads')
const { readSync } = require('node:fs')
const { route, others, stop } = workerData
const buffer = new Uint8Array(256 * 1024)
const take = (fd) => {
  try {
    const bytes = buffer.slice(0, readSync(fd, buffer))
    parentPort.postMessage({ fd, bytes }, [bytes.buffer])
    return true
  } catch (error) {
    if (error.code === 'EAGAIN') return false
    if (error.code !== 'ENOBUFS') throw error
    parentPort.postMessage({ fd })
    return true
  }
}
while (Atomics.load(stop, 0) === 0) {
  take(route)
  for (const fd of others) while (take(fd));
}
`

/** Tells of every change of links, addresses, routes, rules, neighbours, nftables and XFRM in the namespace it was made in. */
export class KernelMonitor {
  readonly #route: number
  readonly #netfilter: number
  readonly #xfrm: number | undefined
  readonly #stop = new Int32Array(new SharedArrayBuffer(4))
  readonly #worker: Worker
  readonly #handlers: MonitorHandlers
  readonly #ended: Promise<void>

  /** What changes after this returned is told. @throws Fault `kernel.*` */
  constructor(handlers: MonitorHandlers, options: { readonly receiveBuffer?: number } = {}) {
    this.#handlers = handlers
    const all = Object.values(GROUPS).reduce((sum, group) => sum | group, 0)
    this.#route = openGroups(NETLINK_ROUTE, all, options.receiveBuffer)
    const opened = [this.#route]
    const open = (protocol: number, groups: number): number => {
      const fd = openGroups(protocol, groups, options.receiveBuffer, libc.SOCK_NONBLOCK)
      opened.push(fd)
      return fd
    }
    try {
      asFault('listen to the kernel', () => libc.setReceiveTimeout(this.#route, WAKE_MS))
      this.#netfilter = open(NETLINK_NETFILTER, NFTABLES_GROUP)
      const groups = Object.values(XFRM_GROUPS).reduce((sum, group) => sum | group, 0)
      this.#xfrm = handlers.xfrm === undefined ? undefined : open(NETLINK_XFRM, groups)
    } catch (error) {
      for (const fd of opened) libc.close(fd)
      throw error
    }
    this.#worker = new Worker(PROGRAM, {
      eval: true,
      name: 'kernel-monitor',
      execArgv: [],
      workerData: { route: this.#route, others: opened.slice(1), stop: this.#stop },
      resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
    })
    this.#worker.on('message', (message: { readonly fd: number; readonly bytes?: Uint8Array }) => this.#take(message))
    this.#worker.on('error', (error) => handlers.fault(error instanceof Error ? error : new Error(String(error))))
    this.#ended = new Promise((resolve) => {
      this.#worker.once('exit', () => resolve())
    })
    // the agent lives by other things
    this.#worker.unref()
  }

  /** Done when the thread has ended and the sockets are closed: within WAKE_MS. */
  async close(): Promise<void> {
    if (Atomics.exchange(this.#stop, 0, 1) !== 0) return this.#ended
    this.#worker.ref()
    await this.#ended
    libc.close(this.#route)
    libc.close(this.#netfilter)
    if (this.#xfrm !== undefined) libc.close(this.#xfrm)
  }

  #take({ fd, bytes }: { readonly fd: number; readonly bytes?: Uint8Array }): void {
    // events that were on their way when it was closed
    if (Atomics.load(this.#stop, 0) !== 0) return
    if (bytes === undefined) return this.#handlers.lost()
    const messages = splitMessages(bytes)
    if (!messages.ok) return this.#handlers.fault(messages.error)
    for (const message of messages.value) {
      if (fd === this.#route) {
        const event = decodeEvent(message)
        if (!event.ok) this.#handlers.fault(event.error)
        else if (event.value !== undefined) this.#handlers.event(event.value)
      } else if (fd === this.#xfrm) {
        const event = decodeXfrmEvent(message)
        if (!event.ok) this.#handlers.fault(event.error)
        else if (event.value !== undefined) this.#handlers.xfrm?.(event.value)
      } else {
        const name = changedTable(message)
        if (!name.ok) this.#handlers.fault(name.error)
        else if (name.value !== undefined) this.#handlers.table(name.value)
      }
    }
  }
}

function openGroups(protocol: number, groups: number, receiveBuffer = RECEIVE_BUFFER_BYTES, flags = 0): number {
  const fd = asFault('listen to the kernel', () => libc.socket(libc.AF_NETLINK, libc.SOCK_RAW | flags, protocol))
  try {
    asFault('listen to the kernel', () => {
      libc.setSocketInt(fd, libc.SOL_SOCKET, libc.SO_RCVBUFFORCE, receiveBuffer)
      libc.bindNetlink(fd, groups)
    })
    return fd
  } catch (error) {
    libc.close(fd)
    throw error
  }
}
