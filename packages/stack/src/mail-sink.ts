// The local stack's mail server: it accepts every mail, delivers none, and shows them over HTTP.
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { listen } from '@pennywire/runtime/http-server.ts'
import { Hono } from 'hono'
import { html } from 'hono/html'
import PostalMime from 'postal-mime'
import { SMTPServer } from 'smtp-server'

export type SunkMail = {
  messageId: string
  to: string
  subject: string
  text: string
  html: string
  /** Contents in base64. */
  attachments: Array<{ fileName: string; type: string; content: string }>
}

const KEPT = 1_000
const MAX_MAIL_BYTES = 256 * 1024
const MAX_SMTP_CLIENTS = 100

const page = (mails: SunkMail[]) => html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Mail (${mails.length})</title>
<style>body { font: 16px/1.5 system-ui; max-width: 50rem; margin: 2rem auto } pre { white-space: pre-wrap }</style>
<h1>Mail, newest first</h1>
<p>${mails.length} kept in memory, at most ${KEPT}. As JSON: <a href="/messages">/messages</a></p>
${mails.map(mail => html`<article><h2>${mail.subject}</h2><p>to ${mail.to}</p><pre>${mail.text || mail.html}</pre></article>`)}
</html>`

/** Starts the sink, on loopback if no host is named; port 0 is a free one. `stop` closes both servers. */
export const startMailSink = async (ports: { smtp: number; http: number }, host = '127.0.0.1') => {
  const mails: SunkMail[] = []

  const smtp = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    disableReverseLookup: true,
    size: MAX_MAIL_BYTES,
    maxClients: MAX_SMTP_CLIENTS,
    logger: false,
    onData: (stream, session, done) => {
      // The recipients come from the envelope, which determines the delivery, not from the headers.
      const to = session.envelope.rcptTo.map(recipient => recipient.address).join(', ')
      const receive = async () => {
        const {
          messageId = '',
          subject = '',
          text = '',
          html = '',
          attachments: files,
        } = await PostalMime.parse(await buffer(stream))
        const attachments = files.map(({ filename, mimeType, content }) => ({
          fileName: filename ?? '',
          type: mimeType,
          content: Buffer.from(content as ArrayBuffer).toString('base64'),
        }))
        mails.unshift({ messageId, to, subject, text, html, attachments })
        mails.length = Math.min(mails.length, KEPT)
      }
      receive().then(() => done(), done)
    },
  })
  smtp.on('error', error => console.error(error.message)) // a client that hangs up is no reason to end
  const smtpServer = smtp.listen(ports.smtp, host)
  await once(smtpServer, 'listening')

  const app = new Hono()
  app.get('/messages', c => c.json(mails))
  app.get('/', c =>
    c.html(page(mails), 200, { 'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'" }),
  )
  const http = await listen(app, { host, port: ports.http })

  return {
    smtpUrl: `smtp://${host}:${(smtpServer.address() as AddressInfo).port}`,
    httpUrl: `http://${host}:${http.port}`,
    stop: async () => {
      await new Promise<void>(resolve => smtp.close(resolve))
      await http.stop()
    },
  }
}

if (import.meta.main) {
  if (process.env.NODE_ENV === 'production') {
    process.stderr.write(
      'NODE_ENV=production: the mail sink delivers nothing, so it does not start in production\n',
    )
    process.exit(2)
  }
  const { SMTP_PORT, HTTP_PORT, HTTP_HOST } = process.env
  const sink = await startMailSink({ smtp: Number(SMTP_PORT), http: Number(HTTP_PORT) }, HTTP_HOST)
  console.log(`taking mail at ${sink.smtpUrl}, showing it at ${sink.httpUrl}`)
}
