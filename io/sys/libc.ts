import { getSystemErrorMap } from 'node:util'
import koffi from 'koffi'
import { Fault } from '#core/fault/fault.ts'

/**
 * The one file that calls C (docs/adr/0003-ffi.md): system calls of libc that Node has no function for, and
 * libnftables. Every call runs on the calling thread and blocks it; each fails with {@link SystemError}, never with a
 * number. Linux, 64 bits, little endian.
 */

/** A failed system call. `errno` is positive. */
export class SystemError extends Error {
  override readonly name = 'SystemError'
  readonly errno: number
  readonly call: string

  constructor(call: string, errno: number) {
    super(`${call}: ${errnoText(errno)}`)
    this.call = call
    this.errno = errno
  }
}

/** `EPERM`, or `errno 524` for one that has no name. */
export function errnoName(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[0] ?? OTHER_NAMES[errno] ?? `errno ${errno}`
}

/** What strerror(3) says, roughly. */
export function errnoText(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[1] ?? errnoName(errno)
}

/** Numbers that libuv does not map. */
const OTHER_NAMES: Readonly<Record<number, string>> = { 95: 'EOPNOTSUPP', 99: 'EADDRNOTAVAIL', 105: 'ENOBUFS' }

export const EPERM = 1
export const EINTR = 4
export const EAGAIN = 11
export const ENOBUFS = 105

export const AF_INET = 2
export const AF_INET6 = 10
export const AF_NETLINK = 16
export const SOCK_DGRAM = 2
export const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
export const SOCK_NONBLOCK = 0o4000
export const SOL_SOCKET = 1
export const SO_RCVBUF = 8
const SO_RCVTIMEO = 20
const SO_BINDTODEVICE = 25
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26
export const SO_RCVBUFFORCE = 33
const MSG_TRUNC = 0x20
const CLONE_NEWNET = 0x40000000
const O_RDONLY_CLOEXEC = 0o2000000

type Call = (...args: readonly unknown[]) => number

let loaded: Readonly<
  Record<'socket' | 'bind' | 'send' | 'sendto' | 'recv' | 'setsockopt' | 'setns' | 'unshare' | 'open' | 'close', Call>
>

function libc(): typeof loaded {
  if (loaded !== undefined) return loaded
  const lib = koffi.load('libc.so.6')
  loaded = {
    socket: lib.func('int socket(int, int, int)'),
    bind: lib.func('int bind(int, const void *, uint32_t)'),
    send: lib.func('long send(int, const void *, size_t, int)'),
    sendto: lib.func('long sendto(int, const void *, size_t, int, const void *, uint32_t)'),
    recv: lib.func('long recv(int, void *, size_t, int)'),
    setsockopt: lib.func('int setsockopt(int, int, int, const void *, uint32_t)'),
    setns: lib.func('int setns(int, int)'),
    unshare: lib.func('int unshare(int)'),
    open: lib.func('int open(const char *, int, int)'),
    close: lib.func('int close(int)'),
  }
  return loaded
}

function checked(name: keyof typeof loaded, ...args: readonly unknown[]): number {
  for (;;) {
    const result = libc()[name](...args)
    if (result >= 0) return result
    const errno = koffi.errno()
    if (errno !== EINTR || name === 'close') throw new SystemError(name, errno)
  }
}

export function socket(domain: number, type: number, protocol: number): number {
  return checked('socket', domain, type | SOCK_CLOEXEC, protocol)
}

/** Binds a netlink socket to a port that the kernel picks, and to these multicast groups (bits). */
export function bindNetlink(fd: number, groups = 0): void {
  // struct sockaddr_nl: u16 family, u16 pad, u32 port, u32 groups
  const address = Buffer.alloc(12)
  address.writeUInt16LE(AF_NETLINK, 0)
  address.writeUInt32LE(groups, 8)
  checked('bind', fd, address, address.length)
}

/** To the kernel: a netlink socket that is not connected. */
export function send(fd: number, bytes: Uint8Array): void {
  const sent = checked('send', fd, bytes, bytes.length, 0)
  if (sent !== bytes.length) throw new Error(`send took ${sent} of ${bytes.length} bytes`)
}

/** To an IP address (4 or 16 bytes), by a socket of that family. */
export function sendToIp(fd: number, bytes: Uint8Array, address: Uint8Array): void {
  // struct sockaddr_in: u16 family, u16 port, address; sockaddr_in6 has the flow label before it and the scope behind
  const to = Buffer.alloc(address.length === 4 ? 16 : 28)
  to.writeUInt16LE(address.length === 4 ? AF_INET : AF_INET6, 0)
  to.set(address, address.length === 4 ? 4 : 8)
  checked('sendto', fd, bytes, bytes.length, 0, to, to.length)
}

/** What the socket sends leaves by that device, and by no other. */
export function bindToDevice(fd: number, name: string): void {
  const text = Buffer.from(`${name}\0`)
  checked('setsockopt', fd, SOL_SOCKET, SO_BINDTODEVICE, text, text.length)
}

/** On every address of that family, IPv6's without IPv4's. */
export function bindPort(fd: number, family: 4 | 6, port: number): void {
  const address = Buffer.alloc(family === 4 ? 16 : 28)
  address.writeUInt16LE(family === 4 ? AF_INET : AF_INET6, 0)
  address.writeUInt16BE(port, 2)
  if (family === 6) setSocketInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
  checked('bind', fd, address, address.length)
}

/** How many bytes the datagram had: more than the buffer holds means that the rest is lost. Throws EAGAIN on time-out. */
export function recv(fd: number, into: Uint8Array): number {
  return checked('recv', fd, into, into.length, MSG_TRUNC)
}

export function setSocketInt(fd: number, level: number, option: number, value: number): void {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  checked('setsockopt', fd, level, option, bytes, 4)
}

export function setSocketBytes(fd: number, level: number, option: number, value: Uint8Array): void {
  checked('setsockopt', fd, level, option, value, value.length)
}

/** After so long without a datagram, recv and read fail with EAGAIN. */
export function setReceiveTimeout(fd: number, milliseconds: number): void {
  // struct timeval
  const bytes = Buffer.alloc(16)
  bytes.writeBigInt64LE(BigInt(Math.floor(milliseconds / 1000)), 0)
  bytes.writeBigInt64LE(BigInt((milliseconds % 1000) * 1000), 8)
  checked('setsockopt', fd, SOL_SOCKET, SO_RCVTIMEO, bytes, 16)
}

export function openRead(path: string): number {
  return checked('open', path, O_RDONLY_CLOEXEC, 0)
}

/** For descriptors that came from here: Node warns when its own close gets a foreign one. */
export function close(fd: number): void {
  checked('close', fd)
}

/** Moves the *calling thread* into the network namespace of that descriptor. */
export function setNetworkNamespace(fd: number): void {
  checked('setns', fd, CLONE_NEWNET)
}

/** Moves the *calling thread* into a new network namespace, which ends with the last thread and socket in it. */
export function newNetworkNamespace(): void {
  checked('unshare', CLONE_NEWNET)
}

/** One context of libnftables (libnftables(3)); its socket belongs to the namespace that it was made in. */
export interface Nftables {
  /** Runs commands in `nft -f` syntax as one transaction. Throws a Fault `nftables.refused` with the library's text. */
  run(commands: string): string
  close(): void
}

const NFT_CTX_DEFAULT = 0
/** Leaves counters and the age of elements out of listings. */
const NFT_CTX_OUTPUT_STATELESS = 1 << 1

/** @throws Fault `nftables.missing`, `nftables.unusable` */
export function openNftables(library = 'libnftables.so.1'): Nftables {
  let lib: ReturnType<typeof koffi.load>
  try {
    lib = koffi.load(library)
  } catch (cause) {
    throw new Fault('nftables.missing', `the library ${library} cannot be loaded`, {
      field: library,
      remedy: 'Install the package libnftables1 (Debian, Ubuntu) or nftables',
      cause,
    })
  }
  const make = lib.func('void *nft_ctx_new(uint32_t)')
  const free = lib.func('void nft_ctx_free(void *)')
  const runBuffer = lib.func('int nft_run_cmd_from_buffer(void *, const char *)')
  const bufferOutput = lib.func('int nft_ctx_buffer_output(void *)')
  const bufferError = lib.func('int nft_ctx_buffer_error(void *)')
  const output = lib.func('const char *nft_ctx_get_output_buffer(void *)')
  const error = lib.func('const char *nft_ctx_get_error_buffer(void *)')
  const setOutput = lib.func('void nft_ctx_output_set_flags(void *, uint32_t)')
  const context: unknown = make(NFT_CTX_DEFAULT)
  if (context === null || bufferOutput(context) !== 0 || bufferError(context) !== 0) {
    throw new Fault('nftables.unusable', 'libnftables gives no context', { remedy: 'Run as root with CAP_NET_ADMIN' })
  }
  setOutput(context, NFT_CTX_OUTPUT_STATELESS)
  let open = true
  return {
    run(commands) {
      if (!open) throw new TypeError('this libnftables context is closed')
      const failed = Number(runBuffer(context, commands)) !== 0
      const [text, problem] = [String(output(context) ?? ''), String(error(context) ?? '').trim()]
      if (failed) throw new Fault('nftables.refused', `nftables refuses a change: ${problem || 'no reason given'}`)
      return text
    },
    close() {
      if (open) free(context)
      open = false
    },
  }
}
