import type {
  Datapath,
  IpsecDevice,
  IpsecOpened,
  IpsecSettings,
  IpsecState,
  ProbeResult,
  WireguardDevice,
  WireguardState,
} from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'
import { FakeIpsecDevice } from './fake-ipsec.ts'

/** The datapath port in memory. `failure` makes every call reject; `handshakes` sets what is observed of peers. */
export class FakeDatapath implements Datapath {
  readonly kind = 'fake'
  readonly devices = new Map<string, WireguardDevice>()
  readonly ipsec = new Map<string, FakeIpsecDevice>()
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

  async openIpsec(settings: IpsecSettings): Promise<IpsecOpened> {
    this.#fail()
    const there = this.ipsec.get(settings.name) ?? new FakeIpsecDevice(settings)
    there.settings = settings
    this.ipsec.set(settings.name, there)
    return there.opened
  }

  async applyIpsec(device: IpsecDevice): Promise<void> {
    this.#fail()
    this.applied++
    const there = this.ipsec.get(device.name)
    if (there === undefined) throw new Fault('datapath.boot-id', `${device.name} is not open`, { field: device.name })
    there.apply(device)
  }

  async observeIpsec(name: string): Promise<IpsecState | undefined> {
    this.#fail()
    return this.ipsec.get(name)?.state()
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    this.#fail()
    return this.counted
  }

  async remove(name: string): Promise<void> {
    this.#fail()
    this.devices.delete(name)
    this.ipsec.delete(name)
  }

  async close(): Promise<void> {
    // nothing is held
  }

  #fail(): void {
    if (this.failure !== undefined) throw this.failure
  }
}
