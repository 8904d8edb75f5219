import { TunnelLab } from '#test/kit/tunnel-lab.ts'
import { type Contestant, type Entry, limit, setWire, WIREGUARD_MTU } from './contestant.ts'
import { endsOf } from './ends.ts'
import { ESP_SHAPES, openOurIpsec } from './esp.ts'
import { OUR_PROGRAM, ourProgram, PEER_PROGRAMS, type Start, type WireguardProgram } from './programs.ts'
import { openStrongswan } from './strongswan.ts'
import { openVxlan } from './vxlan.ts'

export function entries(other: string | undefined): readonly Entry[] {
  return [
    { name: 'veth, no tunnel', quick: true, open: openPlain },
    { name: 'VXLAN, no tunnel', quick: false, open: openVxlan },
    ...PEER_PROGRAMS.map(wireguardEntry),
    { name: 'strongSwan libipsec', quick: true, open: openStrongswan },
    ...ESP_SHAPES.map((shape) => ({ ...shape, open: async () => await openOurIpsec(shape) })),
    wireguardEntry(OUR_PROGRAM),
    ...(other === undefined ? [] : [wireguardEntry(ourProgram('pellicle, other engine', 'q', other))]),
  ]
}

function wireguardEntry(program: WireguardProgram): Entry {
  const { name, quick } = program
  const open = async () => {
    const start = await program.find()
    return typeof start === 'function' ? await openWireguard(program, start) : start
  }
  return { name, quick, open }
}

async function openPlain(): Promise<Contestant> {
  const lab = await TunnelLab.open('bnp')
  return {
    name: 'veth, no tunnel',
    kind: 'none',
    ours: false,
    ends: endsOf(lab, lab.b.outer[4]),
    mtu: 1500,
    processes: async () => [{}, {}],
    setWire: async (wire) => await setWire(lab, 'bnp', wire),
    close: async () => await lab.close(),
  }
}

async function openWireguard({ name, letter, ours }: WireguardProgram, start: Start): Promise<Contestant> {
  const prefix = `bn${letter}`
  const lab = await TunnelLab.open(prefix)
  try {
    const [a, b] = await Promise.all([start(lab, lab.a), start(lab, lab.b)])
    for (const { namespace, device } of [lab.a, lab.b]) await limit(namespace, device, WIREGUARD_MTU)
    await lab.introduce()
    await lab.run(lab.a, 'ping', '-n', '-q', '-c', '1', '-w', '10', lab.b.inner[4])
    return {
      name,
      kind: 'wireguard',
      ours,
      ends: endsOf(lab, lab.b.inner[4]),
      mtu: WIREGUARD_MTU,
      processes: async () => [await a.processes(), await b.processes()],
      setWire: async (wire) => await setWire(lab, prefix, wire),
      close: async () => await lab.close(),
    }
  } catch (error) {
    await lab.close()
    throw error
  }
}
