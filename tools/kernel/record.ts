import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runInGuest } from './guest.ts'
import type { GuestImage } from './image.ts'

/** What a command asked and what the kernel answered to it, each datagram in hexadecimal digits. */
interface Recorded {
  readonly command: string
  readonly requests: string[]
  readonly answers: string[]
}

const KEY = (byte: string, bytes: number) => `0x${byte.repeat(bytes)}`
const AEAD = `aead 'rfc4106(gcm(aes))' ${KEY('a5', 20)} 128`
const CBC = `auth-trunc 'hmac(sha256)' ${KEY('5a', 32)} 128 enc 'cbc(aes)' ${KEY('a5', 16)}`
const IN = 'src 10.0.0.2 dst 10.0.0.1 proto esp spi 0x3'
const OUT = 'src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x3'
const SELECTOR = 'src 10.244.1.0/24 dst 10.244.2.0/24'
const TEMPLATE = 'tmpl src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x3 reqid 1 mode tunnel'

/** Keys here are of no use anywhere. Output of `wg` has the private one: the device is the guest's. */
const XFRM_COMMANDS: readonly string[] = [
  `ip xfrm state add ${OUT} reqid 1 mode tunnel ${AEAD} flag esn replay-window 1024 output-mark 0xe00 mask 0xf00`,
  `ip xfrm state add ${IN} reqid 1 mode tunnel ${AEAD} flag esn replay-window 1024 mark 0x10d00 mask 0xffff0f00 output-mark 0xd00 mask 0xf00`,
  `ip xfrm state add src fd00::1 dst fd00::2 proto esp spi 0x4 reqid 2 mode tunnel ${CBC} replay-window 32`,
  `ip xfrm state add src 10.0.0.1 dst 10.0.0.3 proto esp spi 0x35 reqid 3 mode tunnel ${AEAD} encap espinudp 4500 4501 0.0.0.0 flag align4`,
  `ip xfrm state add src 10.0.0.1 dst 10.0.0.4 proto esp spi 0x5 mode transport enc 'ecb(cipher_null)' '' auth 'hmac(sha1)' ${KEY('11', 20)} limit packet-hard 1000 if_id 7`,
  'ip xfrm state list',
  `ip xfrm state get ${OUT}`,
  `ip xfrm state update ${OUT} reqid 1 mode tunnel ${AEAD} flag esn replay-window 1024 output-mark 0xe00 mask 0xf00`,
  `ip xfrm state add ${OUT} reqid 1 mode tunnel ${AEAD}`,
  `ip xfrm state add src 10.0.0.1 dst 10.0.0.9 proto esp spi 0x9 mode tunnel aead 'rfc4106(nothing(aes))' ${KEY('a5', 20)} 128`,
  'ip xfrm state count',
  `ip xfrm state delete ${IN} mark 0x10d00 mask 0xffff0f00`,
  `ip xfrm policy add ${SELECTOR} dir out priority 100 ${TEMPLATE}`,
  `ip xfrm policy add src 10.244.2.0/24 dst 10.244.1.0/24 dir in priority 100 mark 0xd00 mask 0xf00 tmpl src 10.0.0.2 dst 10.0.0.1 proto esp reqid 1 mode tunnel`,
  `ip xfrm policy add src 10.244.2.0/24 dst 10.244.1.0/24 dir fwd priority 100 tmpl src 10.0.0.2 dst 10.0.0.1 proto esp reqid 1 mode tunnel level use`,
  'ip xfrm policy add src 10.244.0.0/16 dst 10.244.0.0/16 dir out action block priority 4000',
  'ip xfrm policy add src fd00:1::/64 dst fd00:2::/64 dir out priority 9 tmpl src fd00::1 dst fd00::2 proto esp reqid 2 mode tunnel',
  'ip xfrm policy list',
  `ip xfrm policy get ${SELECTOR} dir out`,
  `ip xfrm policy update ${SELECTOR} dir out priority 90 ${TEMPLATE}`,
  `ip xfrm policy add ${SELECTOR} dir out priority 100 ${TEMPLATE}`,
  'ip xfrm policy count',
  `ip xfrm policy delete ${SELECTOR} dir out`,
  'ip xfrm policy flush',
  'ip xfrm state flush proto esp',
  'ip link add w type wireguard',
  'ip link show dev w',
]

const PEER = (byte: number) => Buffer.alloc(32, byte).toString('base64')
const MANY = Array.from({ length: 420 }, (_, i) => `10.${100 + (i >> 8)}.${i & 255}.0/24`).join()

const WIREGUARD_COMMANDS: readonly string[] = [
  'wg set w private-key /tmp/key listen-port 51871 fwmark 0xe00',
  `wg set w peer ${PEER(1)} endpoint 192.0.2.1:51871 persistent-keepalive 25 allowed-ips 10.1.0.0/24,fd01::/64`,
  `wg set w peer ${PEER(2)} endpoint [2001:db8::7]:4711 preshared-key /tmp/psk allowed-ips ${MANY}`,
  `wg set w peer ${PEER(3)}`,
  'wg show w dump',
  `wg set w peer ${PEER(3)} remove`,
  'wg syncconf w /tmp/conf',
  'wg show none',
]

/** Prepared before the commands, without being recorded. */
const PREPARE = `
printf '%s' ${Buffer.alloc(32, 0x70).toString('base64')} >/tmp/key
printf '%s' ${Buffer.alloc(32, 0x71).toString('base64')} >/tmp/psk
printf '[Interface]\\nListenPort = 51872\\n[Peer]\\nPublicKey = ${PEER(1)}\\nAllowedIPs = 10.1.0.0/24\\n' >/tmp/conf
`

/** Runs iproute2 and wg in the guest below strace, and writes test vectors of all that they said and heard. */
export async function recordVectors(image: GuestImage, folder: string): Promise<void> {
  const groups = { xfrm: XFRM_COMMANDS, wireguard: WIREGUARD_COMMANDS }
  const commands = Object.entries(groups).flatMap(([group, list]) =>
    list.map((command, i) => [`${group}.${i}`, command]),
  )
  const strace = 'strace -f -e trace=sendmsg,sendto,recvmsg,recvfrom -e write=all -e read=all -s 0'
  const script = [
    PREPARE,
    'strace -I 1 -o /out/events.0 -e trace=recvmsg -e read=all -s 0 ip xfrm monitor >/dev/null & monitor=$!',
    // until it listens; what strace says of a call comes only after it
    'sleep 3',
    ...commands.map(([name, command]) => `${strace} -o /out/${name} ${command} >/dev/null 2>&1`),
    'sleep 1; kill $monitor; ip -V; wg --version; uname -r',
  ].join('\n')
  const files = new Map<string, string>()
  const result = await runInGuest(image, script, {
    seconds: 120,
    collect: (out) => {
      for (const name of ['events.0', ...commands.map(([file]) => file ?? '')]) {
        files.set(name, readFileSync(join(out, name), 'utf8'))
      }
    },
  })
  const about = `${result.stdout.trim().split('\n').join('; ')}; x86-64, recorded with strace in the guest (tools/kernel/record.ts)`
  for (const [group, list] of Object.entries(groups)) {
    const records = list.map((command, i) => parseStrace(command, files.get(`${group}.${i}`) ?? ''))
    const events = group === 'xfrm' ? { events: parseStrace('', files.get('events.0') ?? '').answers } : {}
    writeFileSync(
      join(folder, `netlink-${group}.json`),
      `${JSON.stringify({ about, records, ...events }, undefined, 1)}\n`,
    )
  }
}

/** Of each call its line, then ` * N bytes in buffer I` and ` | offset  hexadecimal  text |`. */
function parseStrace(command: string, text: string): Recorded {
  const recorded: Recorded = { command, requests: [], answers: [] }
  let call = ''
  let hex = ''
  const flush = () => {
    if (hex !== '') (call.startsWith('send') ? recorded.requests : recorded.answers).push(hex)
    hex = ''
  }
  for (const line of text.split('\n')) {
    const bytes = /^ \| [0-9a-f]+ {2}((?:[0-9a-f]{2} {1,2})+)/.exec(line)
    if (bytes !== null) {
      hex += bytes[1]!.replaceAll(' ', '')
      continue
    }
    flush()
    const name = /\b(sendmsg|sendto|recvmsg|recvfrom)\(/.exec(line)?.[1]
    if (name !== undefined) call = line.includes('MSG_PEEK') ? 'peek' : name
  }
  flush()
  return recorded
}
