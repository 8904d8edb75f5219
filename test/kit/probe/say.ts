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

const PATIENCE_MS = 30_000
const ATTEMPT_MS = 3000
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

/**
 * Until it is answered, each time by another connection: a packet that a busy machine drops, or a Service that kube-proxy
 * of this node does not know yet, is not what is asked about.
 */
async function say(request: SayRequest): Promise<SayAnswer> {
  const end = performance.now() + PATIENCE_MS
  for (;;) {
    const answer = await sayOnce(request)
    if (answer.seenAs !== undefined || performance.now() > end) return answer
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

function sayOnce({ host, port, protocol, text }: SayRequest): Promise<SayAnswer> {
  return new Promise((resolve) => {
    const end = (answer: SayAnswer) => {
      clearTimeout(late)
      close()
      resolve(answer)
    }
    const heard = (answer: Buffer) => end({ seenAs: answer.toString().split(' ', 1)[0] as string })
    const failed = (error: Error) => end({ error: error.message })
    const late = setTimeout(() => end({ error: 'no answer' }), ATTEMPT_MS)
    let close: () => void
    if (protocol === 'tcp') {
      const socket = createConnection({ host, port }, () => socket.write(text))
      socket.on('data', heard).on('error', failed)
      close = () => socket.destroy()
    } else {
      const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4')
      socket.on('message', heard).on('error', failed)
      let again: NodeJS.Timeout | undefined
      socket.on('connect', () => {
        socket.send(text, () => {})
        again = setInterval(() => socket.send(text, () => {}), 500)
      })
      socket.connect(port, host)
      close = () => {
        clearInterval(again)
        socket.close()
      }
    }
  })
}
