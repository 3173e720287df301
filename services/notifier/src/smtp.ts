import type { Mail } from '@pennywire/messages/render-mail.ts'
import { isLoopback } from '@pennywire/runtime/unsafe-settings.ts'
import nodemailer from 'nodemailer'

/** Connections to the mail server, and so mails on their way at the same time. */
export const MAIL_CONNECTIONS = 5
/** Longest silence of the server at each step. A whole conversation has a few, and stays below a claim's time. */
const SILENCE_MS = 8_000

export type Attachment = { filename: string; contentType: string; content: Buffer }

export type SendMail = (
  to: { name: string; address: string },
  mail: Mail & { id: string; attachments?: Attachment[] },
) => Promise<void>

/** A connection to a mail server; opened on the first mail. To another machine it is TLS or nothing, unless plain text is allowed. */
export const connectMail = (
  smtpUrl: string,
  from: string,
  { allowPlaintext = false } = {},
): { send: SendMail; close: () => void } => {
  const transport = nodemailer.createTransport({
    url: smtpUrl,
    // Else an attacker on the way strips the offer of STARTTLS, and reads the secrets in the mails.
    requireTLS: !allowPlaintext && !isLoopback(new URL(smtpUrl).hostname),
    pool: true,
    maxConnections: MAIL_CONNECTIONS,
    connectionTimeout: SILENCE_MS,
    greetingTimeout: SILENCE_MS,
    socketTimeout: SILENCE_MS,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  return {
    send: async (to, { id, ...mail }) => {
      // The id is the same for each try: a mail whose acknowledgement was lost can be told from its repeat.
      await transport.sendMail({ from, to, messageId: `<${id}@pennywire>`, ...mail })
    },
    close: () => transport.close(),
  }
}

/** Whether the server has refused the recipient or the mail itself for good, so that another try is pointless. */
export const isFinalRefusal = (error: unknown): boolean => {
  const { code, responseCode } = error as { code?: string; responseCode?: number }
  return (code === 'EENVELOPE' || code === 'EMESSAGE') && responseCode !== undefined && responseCode >= 550
}
