import { describeFault } from '#core/fault/fault.ts'
import type { KeyRef } from '#core/ipsec/key.ts'
import type { PeerStatus } from '#core/status/agent-status.ts'
import { type EncryptionStatus, maxSequence } from '#core/status/encryption-status.ts'
import type { RotationStatus } from '#core/status/rotation-status.ts'
import { xfrmErrors } from '#core/status/xfrm.ts'
import { CLEAR, CLOSED, SENDING } from '#core/transition/level.ts'
import type { StatusInputs } from './status.ts'

/** From here on Cilium's tools show sequence numbers with all of their 64 bits. */
const WHOLE_SEQUENCE = 18

/** Cilium's `EncryptionStatus` of a node with IPsec, computed from the associations that there are. */
export function ipsecStatus(inputs: StatusInputs): EncryptionStatus {
  const { applied, config, ipsecDevice, transition, notReady } = inputs
  const level = applied?.snapshot.self.announcement.level ?? CLEAR
  const mode = level >= SENDING ? 'IPsec' : 'Disabled'
  const phase = transition?.text ?? notReady ?? 'starting'
  if (ipsecDevice instanceof Error) return { mode, msg: describeFault(ipsecDevice) }
  if (ipsecDevice === undefined) return { mode, msg: notReady ?? phase }
  const { associations } = ipsecDevice
  const out = associations.filter(({ direction }) => direction === 'out')
  const highest = out.reduce((most, { sequence }) => (sequence > most ? sequence : most), 0n)
  const errors = xfrmErrors(inputs.counters)
  const errorCount = Object.values(errors).reduce((sum, count) => sum + count, 0)
  const minor = Number(/^v?1\.(\d+)/.exec(config?.profile ?? '')?.[1] ?? WHOLE_SEQUENCE)
  const keysInUse = new Set(associations.map(({ fingerprint }) => fingerprint)).size
  const underlay = applied?.snapshot.self.underlayDevice
  const closed = level === CLOSED && isSettled(inputs)
  return {
    mode,
    ...(closed ? {} : { msg: phase }),
    ipsec: {
      'decrypt-interfaces': underlay === undefined ? [] : [underlay],
      ...(keysInUse === 0 ? {} : { 'keys-in-use': keysInUse }),
      'max-seq-number': maxSequence(highest, minor < WHOLE_SEQUENCE ? 32 : 64),
      ...(errorCount === 0 ? {} : { 'error-count': errorCount, 'xfrm-errors': errors }),
    },
  }
}

/** It encrypts by what is asked for, and by nothing else. */
export function isSettled({ applied, config }: StatusInputs): boolean {
  const encryption = applied?.snapshot.config.encryption
  return encryption !== undefined && encryption.type === config?.encryption && encryption.second === undefined
}

export function ipsecPeerStatuses({ applied, ipsecDevice }: StatusInputs): PeerStatus[] {
  const states = new Map(ipsecDevice instanceof Error ? [] : ipsecDevice?.peers.map((peer) => [peer.node, peer]))
  const planned = new Map(applied?.plan.ipsec?.peers.map((peer) => [peer.node, peer]))
  return (applied?.snapshot.peers ?? []).map(({ name }) => {
    const [state, peer] = [states.get(name), planned.get(name)]
    if (peer?.send === undefined || state === undefined) return { node: name, state: 'no key' }
    return { node: name, state: state.heard ? 'ok' : 'not heard' }
  })
}

export function rotationStatus(inputs: StatusInputs): RotationStatus | undefined {
  const { applied, ipsecKeys, ipsecDevice, rotation } = inputs
  const self = applied?.snapshot.self.ipsec
  const problem = ipsecKeys?.problem === undefined ? {} : { problem: describeFault(ipsecKeys.problem) }
  const level = applied?.snapshot.self.announcement.level ?? CLEAR
  if (ipsecKeys === undefined || (inputs.config?.encryption !== 'ipsec' && level === CLEAR)) return undefined
  if (applied === undefined || self === undefined || rotation === undefined) {
    return { text: 'no key yet', receives: [], sends: [], 'waiting-for': [], nodes: [], ...problem }
  }
  const heard = new Set(
    ipsecDevice === undefined || ipsecDevice instanceof Error
      ? []
      : ipsecDevice.peers.filter((peer) => peer.heard).map(({ node }) => node),
  )
  return {
    text: rotation.text,
    receives: self.words.receives.map(refText),
    sends: self.words.sends.map(refText),
    ...(rotation.since === undefined ? {} : { since: new Date(rotation.since).toISOString() }),
    'waiting-for': rotation.waitingFor,
    nodes: applied.snapshot.peers.map(({ name, ipsec }) => {
      const by = Object.hasOwn(self.sendBy, name) ? self.sendBy[name] : undefined
      return {
        node: name,
        receives: ipsec?.receives.map(refText) ?? [],
        sends: ipsec?.sends.map(refText) ?? [],
        ...(by === undefined ? {} : { 'sends-by': refText(by) }),
        heard: heard.has(name),
      }
    }),
    ...problem,
  }
}

function refText({ id, fingerprint }: KeyRef): string {
  return `${id}:${fingerprint}`
}
