import { createSocket } from 'node:dgram'
import { parseArgs } from 'node:util'

// A UDP echo on a strict schedule: packets go out by the clock whether or not answers come, so that an outage of n ms
// costs n packets at 1,000/s. (ping -i slows down while replies are missing, and hides the loss.)
//
//   main.ts echo PORT                                      until standard input ends
//   main.ts send HOST PORT [--rate 1000] [--seconds 10]    until then or standard input ends; prints one JSON line,
//                                                          and `sending` as its first error output
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rate: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '10' },
    text: { type: 'string', default: 'pellicle-probe' },
  },
})
const [mode, ...rest] = positionals

if (mode === 'echo') echo(Number(rest[0]))
else if (mode === 'send' && rest[0] !== undefined)
  await send(rest[0], Number(rest[1]), Number(values.rate), Number(values.seconds))
else throw new TypeError('usage: main.ts echo PORT | send HOST PORT')

function echo(port: number): void {
  const socket = createSocket({ type: 'udp6', ipv6Only: false })
  socket.on('message', (message, from) => socket.send(message, from.port, from.address))
  socket.bind(port, '::', () => console.log('ready'))
  process.stdin.resume().on('end', () => process.exit(0))
}

async function send(host: string, port: number, rate: number, seconds: number): Promise<void> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  const total = Math.round(rate * seconds)
  const back = new Uint8Array(total)
  let duplicates = 0
  let answered = 0
  socket.on('message', (message) => {
    const sequence = message.readUInt32BE(0)
    if (back[sequence] === 1) duplicates++
    else answered++
    back[sequence] = 1
  })
  socket.on('error', () => {})
  await new Promise<void>((resolve) => socket.connect(port, host, resolve))

  console.error('sending')
  const started = performance.now()
  let sent = 0
  const stop = new AbortController()
  process.stdin.resume().on('end', () => stop.abort())
  const text = Buffer.from(values.text)
  let refused = 0
  while (sent < total && !stop.signal.aborted) {
    const due = Math.min(total, Math.floor(((performance.now() - started) / 1000) * rate) + 1)
    for (; sent < due; sent++) {
      const message = Buffer.alloc(4 + text.length)
      message.writeUInt32BE(sent, 0)
      text.copy(message, 4)
      // an error (no route, not permitted) is a packet lost, and counted by its missing answer
      socket.send(message, (error) => {
        if (error !== null) refused++
      })
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  // answers may be late where the machine is busy: until all are there, or three seconds passed without one
  for (let before = answered, quiet = 0; quiet < 30; quiet++) {
    if (answered === sent) break
    await new Promise((resolve) => setTimeout(resolve, 100))
    if (answered !== before) quiet = 0
    before = answered
  }
  socket.close()
  process.stdin.destroy()

  let lost = 0
  let gap = 0
  let longest = 0
  const gaps: [first: number, length: number][] = []
  for (let i = 0; i < sent; i++) {
    gap = back[i] === 1 ? 0 : gap + 1
    if (gap === 1) gaps.push([i, 0])
    const last = gaps.at(-1)
    if (gap > 0 && last !== undefined) last[1] = gap
    if (back[i] !== 1) lost++
    longest = Math.max(longest, gap)
  }
  console.log(JSON.stringify({ sent, lost, duplicates, refused, longestRun: longest, gaps, rate }))
}
