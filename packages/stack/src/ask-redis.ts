import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'

const WITHIN_MS = 5_000

/** Redis' answer to INFO, over a connection of its own: a single question needs no client. */
export const askRedisInfo = (url: string, ca?: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const { protocol, hostname: host, port, username, password } = new URL(url)
    const to = { host, port: Number(port || 6_379) }
    const secured = protocol === 'rediss:'
    const socket = secured ? connectTls({ ...to, servername: host, ...(ca ? { ca } : {}) }) : connect(to)
    const words = (...parts: string[]) =>
      `*${parts.length}\r\n${parts.map(part => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`
    const login = [username, password].filter(part => part !== '').map(decodeURIComponent)
    let text = ''
    const end = (error?: Error) => {
      socket.destroy()
      if (error) reject(error)
      else resolve(text)
    }
    socket.setTimeout(WITHIN_MS, () => end(new Error(`Redis does not answer within ${WITHIN_MS} ms`)))
    socket.once('error', end)
    socket.once(secured ? 'secureConnect' : 'connect', () => {
      if (login.length > 0) socket.write(words('AUTH', ...login))
      socket.write(words('INFO', 'memory') + words('QUIT'))
    })
    socket.setEncoding('utf8').on('data', piece => {
      text += piece
      const refusal = /^-(.+)\r$/m.exec(text)?.[1]
      if (refusal) end(new Error(`Redis refuses: ${refusal}`))
    })
    socket.once('end', () => end())
  })
