import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type SunkMail, startMailSink } from './mail-sink.ts'

let sink: Awaited<ReturnType<typeof startMailSink>>
beforeAll(async () => {
  sink = await startMailSink({ smtp: 0, http: 0 })
})
afterAll(() => sink.stop())

/** A minimal SMTP client: each turn is a reply to wait for and the lines to send then. Resolves with all replies. */
const send = (to: string[], mail: string) => {
  const { hostname, port } = new URL(sink.smtpUrl)
  const socket = connect(Number(port), hostname)
  const recipients = to.map(address => `RCPT TO:<${address}>`)
  const turns = [
    ['220 ', ['EHLO test', 'MAIL FROM:<no-reply@pennywire.example>', ...recipients, 'DATA'].join('\n')],
    ['354 ', `${mail}\n.\nQUIT`],
  ] as const
  let turn = 0
  let said = ''
  socket.on('data', chunk => {
    said += chunk
    const next = turns[turn]
    if (!next || !said.includes(next[0])) return
    turn++
    socket.write(`${next[1]}\n`.replaceAll('\n', '\r\n'))
  })
  return text(socket)
}

const messages = async () => (await fetch(`${sink.httpUrl}/messages`)).json() as Promise<SunkMail[]>

test('mails come out as they went in, newest first', async () => {
  expect(await messages()).toEqual([])
  const first = await send(
    ['ann@example.com'],
    'Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\nTo: x@example.com\n\nhello',
  )
  expect(first).toMatch(/^250 OK: message queued/m)
  await send(
    ['ben@example.com', 'eve@example.com'],
    'Subject: both\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\nplain\n--b\nContent-Type: text/html\n\n<b>rich</b>\n--b--',
  )
  expect(await messages()).toMatchObject([
    { to: 'ben@example.com, eve@example.com', subject: 'both', text: 'plain\n', html: '<b>rich</b>\n' },
    { to: 'ann@example.com', subject: 'Grüße', text: 'hello\n', html: '' },
  ])
})

test('nothing in a mail becomes part of the page', async () => {
  await send(['ann@example.com'], 'Subject: <script>alert(1)</script>\n\n<img src=x onerror=alert(1)>')
  const response = await fetch(sink.httpUrl)
  const page = await response.text()
  expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;')
  expect(page).toContain('&lt;img src=x onerror=alert(1)&gt;')
  expect(page).not.toMatch(/<script|<img/)
  expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
})
