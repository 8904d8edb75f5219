import type { Datapath, ProbeResult, WireguardDevice, WireguardState } from '#core/datapath/datapath.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'

/** The datapath port in memory. `failure` makes every call reject; `handshakes` sets what is observed of peers. */
export class FakeDatapath implements Datapath {
  readonly kind = 'fake'
  readonly devices = new Map<string, WireguardDevice>()
  readonly unanswered = new Map<string, number>()
  readonly handshakes = new Map<string, number>()
  counted: Record<string, number> = {}
  failure: Error | undefined
  applied = 0

  async probe(): Promise<ProbeResult> {
    return this.failure === undefined
      ? { usable: true }
      : { usable: false, missing: this.failure.message, remedy: 'wait' }
  }

  async apply(device: WireguardDevice): Promise<void> {
    this.#fail()
    this.applied++
    this.devices.set(device.name, structuredClone(device))
  }

  async observe(name: string): Promise<WireguardState | undefined> {
    this.#fail()
    const device = this.devices.get(name)
    if (device === undefined) return undefined
    return {
      name,
      publicKey: publicKeyOf(wireguardCrypto.importKey(device.privateKey).publicKey),
      listenPort: device.listenPort,
      peers: device.peers.map(({ publicKey, endpoint, allowedIps }) => ({
        publicKey,
        endpoint,
        allowedIps,
        ...(this.unanswered.has(publicKey) ? { unansweredSince: this.unanswered.get(publicKey) as number } : {}),
        lastHandshake: this.handshakes.get(publicKey),
        rxBytes: 0n,
        txBytes: 0n,
      })),
    }
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    this.#fail()
    return this.counted
  }

  async remove(name: string): Promise<void> {
    this.#fail()
    this.devices.delete(name)
  }

  async close(): Promise<void> {
    // nothing is held
  }

  #fail(): void {
    if (this.failure !== undefined) throw this.failure
  }
}
