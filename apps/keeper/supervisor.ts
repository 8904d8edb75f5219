import { Fault } from '#core/fault/fault.ts'
import { exchange } from '#io/userspace/line-socket.ts'

const TIMEOUT_MS = 10_000

/**
 * Asks the supervisor for other UDP sockets (`device.listen`): it alone may bind them. Gives the port that is bound.
 * Rejects with Fault `port.taken` and the like: the old sockets stay.
 */
export async function listenOn(path: string, name: string, listenPort: number, mark: number): Promise<number> {
  const line = `${JSON.stringify({ id: 1, op: 'device.listen', name, listenPort, mark })}\n`
  let answer: Record<string, unknown>
  try {
    answer = JSON.parse(await exchange(path, line, (text) => text.includes('\n'), TIMEOUT_MS)) as Record<
      string,
      unknown
    >
  } catch (error) {
    throw new Fault('supervisor.away', `the supervisor does not answer at ${path}`, { field: path, cause: error })
  }
  if (answer.ok !== true) {
    const { code, message, remedy } = answer
    throw new Fault(String(code), String(message), {
      field: 'listen_port',
      ...(typeof remedy === 'string' && { remedy }),
    })
  }
  return typeof answer.listenPort === 'number' ? answer.listenPort : listenPort
}
