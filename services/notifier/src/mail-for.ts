import type { MailTemplate } from '@pennywire/messages/mails.ts'
import { MAIL_TEMPLATES, type Mail, renderMail } from '@pennywire/messages/render-mail.ts'
import type { Language } from '@pennywire/messages/render-notice.ts'
import { z } from 'zod'

/** A mailed link's parts are checked, because they go into the mail as they are. */
const linkSecret = z.object({
  token: z.string().regex(/^[A-Za-z0-9_-]+$/),
  url: z.url({ protocol: /^https?$/ }),
})
/** A link with what is known of the sign-up that it is for. Secrets of the version before have neither. */
const signupSecret = linkSecret.extend({
  signedUpAt: z.iso.datetime().optional(),
  network: z.union([z.cidrv4(), z.cidrv6()]).optional(),
})
/** Digits to be typed in. */
const codeSecret = z.object({ code: z.string().regex(/^[0-9]{4,10}$/) })
const deletionSecret = z.object({ dueAt: z.iso.datetime() })
/** A mail that tells of something and carries no secret. */
const nothing = z.object({})

/** By template; those that are missing carry no secret. */
const SECRETS: { [Template in MailTemplate]?: z.ZodType } = {
  verify_email: signupSecret,
  reset_password: linkSecret,
  pin_reset: codeSecret,
  deletion_requested: deletionSecret,
}

export const isMailTemplate = (name: string): name is MailTemplate =>
  (MAIL_TEMPLATES as readonly string[]).includes(name)

/** The mail of a template. Throws where the secret is not what the template needs. */
export const mailFor = (language: Language, name: string, fullName: string | null, secret: unknown): Mail => {
  if (!isMailTemplate(name)) throw new Error(`${name} is unknown to this version`)
  return renderMail(language, name, fullName, (SECRETS[name] ?? nothing).parse(secret) as never)
}
