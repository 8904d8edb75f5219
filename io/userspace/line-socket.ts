import { createConnection } from 'node:net'

/**
 * One exchange over a Unix stream socket: sends `text`, reads until `isWhole` says that the answer is all there.
 * Rejects with Node's error (its `code` says ENOENT, ECONNREFUSED …), or when the answer ends or stalls before.
 */
export function exchange(
  path: string,
  text: string,
  isWhole: (answer: string) => boolean,
  timeoutMs: number,
): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = createConnection(path, () => socket.write(text))
    const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs)
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => {
      answer += chunk
      if (!isWhole(answer)) return
      resolve(answer)
      socket.destroy()
    })
    socket.on('error', reject)
    socket.on('close', () => {
      clearTimeout(timer)
      reject(new Error('the answer ended before it was whole'))
    })
  })
}
