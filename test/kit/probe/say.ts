import { createSocket } from 'node:dgram'
import { createConnection, createServer, isIPv6 } from 'node:net'

// Says a text to many places and hears who they took it to be from. By TCP and UDP, once each.
//
//   say.ts serve PORT        answers what it hears with `ADDRESS TEXT`, ADDRESS as it saw the sender; until standard input ends
//   say.ts say JSON          SayRequest[]; prints SayAnswer[]
export interface SayRequest {
  readonly host: string
  readonly port: number
  readonly protocol: 'tcp' | 'udp'
  readonly text: string
}

export interface SayAnswer {
  /** The sender's address as the other side saw it; undefined: no answer. */
  readonly seenAs?: string
  readonly error?: string
}

const PATIENCE_MS = 3000
const [mode, argument = ''] = process.argv.slice(2)
if (mode === 'serve') serve(Number(argument))
else if (mode === 'say') {
  const answers = await Promise.all((JSON.parse(argument) as SayRequest[]).map(say))
  console.log(JSON.stringify(answers))
  process.exit(0)
} else throw new TypeError('usage: say.ts serve PORT | say JSON')

function serve(port: number): void {
  const udp = createSocket({ type: 'udp6', ipv6Only: false })
  udp.on('message', (text, from) => udp.send(`${plain(from.address)} ${text.toString()}`, from.port, from.address))
  const tcp = createServer((socket) => {
    socket.on('data', (text) => socket.end(`${plain(socket.remoteAddress)} ${text.toString()}`))
    socket.on('error', () => {})
  })
  tcp.listen(port, '::', () => udp.bind(port, '::', () => console.log('ready')))
  process.stdin.resume().on('end', () => process.exit(0))
}

/** A dual-stack socket sees IPv4 as `::ffff:…`. */
function plain(address = ''): string {
  return address.replace(/^::ffff:/, '')
}

function say({ host, port, protocol, text }: SayRequest): Promise<SayAnswer> {
  return new Promise((resolve) => {
    const heard = (answer: Buffer) => resolve({ seenAs: answer.toString().split(' ', 1)[0] as string })
    const failed = (error: Error) => resolve({ error: error.message })
    setTimeout(() => resolve({ error: 'no answer' }), PATIENCE_MS)
    if (protocol === 'tcp') {
      createConnection({ host, port }, function (this: { write(text: string): void }) {
        this.write(text)
      })
        .on('data', heard)
        .on('error', failed)
    } else {
      const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4')
      socket.on('message', heard).on('error', failed)
      // said again until it is answered, as TCP does: a first packet that a busy machine drops is not what is asked about
      const again = setInterval(() => socket.send(text, () => {}), 500)
      setTimeout(() => clearInterval(again), PATIENCE_MS)
      socket.connect(port, host, () => socket.send(text))
    }
  })
}
