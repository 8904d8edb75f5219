import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { IPPROTO_ESP } from '#core/netlink/xfrm.ts'
import type { XfrmPolicy, XfrmTemplate } from '#core/netlink/xfrm-policy.ts'
import { UDP_ENCAP_ESPINUDP, XFRM_STATE_ALIGN4, XFRM_STATE_ESN, type XfrmState } from '#core/netlink/xfrm-state.ts'

// The states and policies that tools/kernel/record.ts makes with iproute2.

const addr = (text: string) => requireIp(text, 'test')
const cidr = (text: string) => requireCidr(text, 'test')
export const key = (byte: number, bytes: number) => new Uint8Array(bytes).fill(byte)

const AEAD = { aead: { name: 'rfc4106(gcm(aes))', key: key(0xa5, 20), icvBytes: 16 } }
const TUNNEL = { protocol: IPPROTO_ESP, mode: 'tunnel', crypto: AEAD } as const
const NOTHING = { sent: 0n, received: 0n }

export const OUT: XfrmState = {
  ...TUNNEL,
  source: addr('10.0.0.1'),
  destination: addr('10.0.0.2'),
  spi: 3,
  reqid: 1,
  flags: XFRM_STATE_ESN,
  replay: { ...NOTHING, window: 1024 },
  outputMark: { value: 0xe00, mask: 0xf00 },
}
export const IN: XfrmState = {
  ...OUT,
  source: addr('10.0.0.2'),
  destination: addr('10.0.0.1'),
  mark: { value: 0x10d00, mask: 0xffff0f00 },
  outputMark: { value: 0xd00, mask: 0xf00 },
}
export const SIX: XfrmState = {
  ...TUNNEL,
  source: addr('fd00::1'),
  destination: addr('fd00::2'),
  spi: 4,
  reqid: 2,
  crypto: {
    encryption: { name: 'cbc(aes)', key: key(0xa5, 16) },
    authentication: { name: 'hmac(sha256)', key: key(0x5a, 32), icvBytes: 16 },
  },
  flags: 0,
  replay: { ...NOTHING, window: 32 },
}
export const UDP: XfrmState = {
  ...TUNNEL,
  source: addr('10.0.0.1'),
  destination: addr('10.0.0.3'),
  spi: 0x35,
  reqid: 3,
  flags: XFRM_STATE_ALIGN4,
  replay: { ...NOTHING, window: 0 },
  encapsulation: { type: UDP_ENCAP_ESPINUDP, sourcePort: 4500, destinationPort: 4501 },
}

const template: XfrmTemplate = {
  source: addr('10.0.0.1'),
  destination: addr('10.0.0.2'),
  protocol: IPPROTO_ESP,
  mode: 'tunnel',
  reqid: 1,
  spi: 3,
}
const back: XfrmTemplate = { ...template, source: template.destination, destination: template.source, spi: 0 }
const forth = { source: cidr('10.244.1.0/24'), destination: cidr('10.244.2.0/24') }
export const OUT_POLICY: XfrmPolicy = {
  selector: forth,
  direction: 'out',
  priority: 100,
  action: 'allow',
  templates: [template],
}
export const IN_POLICY: XfrmPolicy = {
  ...OUT_POLICY,
  selector: { source: forth.destination, destination: forth.source },
  direction: 'in',
  mark: { value: 0xd00, mask: 0xf00 },
  templates: [back],
}
export const FORWARD_POLICY: XfrmPolicy = {
  selector: IN_POLICY.selector,
  direction: 'fwd',
  priority: 100,
  action: 'allow',
  templates: [{ ...back, optional: true }],
}
export const BLOCK: XfrmPolicy = {
  selector: { source: cidr('10.244.0.0/16'), destination: cidr('10.244.0.0/16') },
  direction: 'out',
  priority: 4000,
  action: 'block',
  templates: [],
}
export const POLICY_SIX: XfrmPolicy = {
  selector: { source: cidr('fd00:1::/64'), destination: cidr('fd00:2::/64') },
  direction: 'out',
  priority: 9,
  action: 'allow',
  templates: [{ ...template, source: addr('fd00::1'), destination: addr('fd00::2'), reqid: 2, spi: 0 }],
}
