import { z } from 'zod'

export type Mail = { subject: string; text: string; html: string }

/** What a mail says, as lines that stand alone: text, or a link. */
type Line = string | { link: string }

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
/** A mail that tells of something and carries no secret. */
const nothing = z.object({})

type Template = (secret: unknown) => { subject: string; lines: Line[] }

const template =
  <Secret>(form: z.ZodType<Secret>, subject: string, lines: (secret: Secret) => Line[]): Template =>
  secret => ({ subject, lines: lines(form.parse(secret)) })

const linkOf = ({ url, token }: z.output<typeof linkSecret>) => ({ link: `${url}?token=${token}` })

const signupOf = ({ signedUpAt, network }: z.output<typeof signupSecret>): string =>
  (signedUpAt === undefined ? '' : ` at ${signedUpAt.slice(0, 16).replace('T', ' ')} UTC`) +
  (network === undefined ? '' : ` from the network ${network}`)

const NOT_YOU = 'If this was not you, set a new password now and tell us.'

const TEMPLATES: Record<string, Template> = {
  verify_email: template(signupSecret, 'Verify your e-mail address', secret => [
    `somebody, probably you, signed up with this address${signupOf(secret)}. Verify it by opening this link:`,
    linkOf(secret),
    'The page asks for the password that was chosen then. Where that was not you, set your own there: the one of the ' +
      'sign-up is worthless then. If you want no account at Pennywire, ignore this mail.',
  ]),
  reset_password: template(linkSecret, 'Set a new password', secret => [
    'somebody, probably you, asked for a new password. Set it by opening this link within the hour:',
    linkOf(secret),
    'If you did not ask for it, ignore this mail: your password stays as it is.',
  ]),
  password_changed: template(nothing, 'Your password was changed', () => [
    'the password of your account was changed just now, and other devices were signed out.',
    'Linked identities, such as a company’s, sign in as before: unlink those that are not yours.',
    NOT_YOU,
  ]),
  account_deactivated: template(nothing, 'Your account is deactivated', () => [
    'your account was deactivated just now, and all devices were signed out. Nobody can sign in to it any more.',
    'If you did not expect this, tell us.',
  ]),
  account_reactivated: template(nothing, 'Your account is active again', () => [
    'your account was activated again. You can sign in as before.',
  ]),
  role_changed: template(nothing, 'Your role has changed', () => [
    'what your account may do has changed, and all devices were signed out. Sign in again to go on.',
    'If you did not expect this, tell us.',
  ]),
  super_admin_added: template(nothing, 'There is a new super_admin', () => [
    'an account was made super_admin just now: it may do everything that you may.',
    'If you did not expect this, look at the list of super_admins and take the role away.',
  ]),
  external_identity_linked: template(nothing, 'A further way to sign in', () => [
    'an identity at another issuer, such as your company, may sign in to your account from now on.',
    NOT_YOU,
  ]),
  external_identity_unlinked: template(nothing, 'A way to sign in has ended', () => [
    'an identity at another issuer may not sign in to your account any more. Other devices were signed out.',
    NOT_YOU,
  ]),
  pin_set: template(nothing, 'Your account has a PIN now', () => [
    'a PIN was set for your account just now: it confirms payments.',
    'If this was not you, somebody is signed in as you: set a new password now, then a new PIN, and tell us.',
  ]),
  pin_reset: template(codeSecret, 'Your code for a new PIN', ({ code }) => [
    'type this code within 15 minutes to set a new PIN:',
    code,
    'Tell it to nobody. If you did not ask for it, set a new password: somebody is signed in as you.',
  ]),
  pin_changed: template(nothing, 'Your PIN was changed', () => [
    'the PIN of your account was changed just now, and other devices were signed out.',
    NOT_YOU,
  ]),
  pin_locked: template(nothing, 'Your PIN is locked', () => [
    'a wrong PIN was given three times in a row. For 24 hours nothing is paid by PIN; money still comes in.',
    'If this was not you, somebody is signed in as you: set a new password now, and a new PIN.',
  ]),
  second_factor_locked: template(nothing, 'Wrong codes at sign-in', () => [
    'a wrong code was given several times in a row, so no codes are taken for a while. A recovery code is.',
    'If this was not you, somebody knows your password: set a new one now.',
  ]),
  api_key_created: template(nothing, 'A new API key', () => [
    'an API key was made just now that acts in your name. Your account lists it with what it may do.',
    'If this was not you, revoke it, set a new password and tell us.',
  ]),
  api_key_rotated: template(nothing, 'An API key was replaced', () => [
    'an API key of your account was replaced by a new one just now.',
    'If this was not you, revoke both, set a new password and tell us.',
  ]),
  api_key_revoked: template(nothing, 'An API key was revoked', () => [
    'we revoked an API key of your account. What used it is refused from now on.',
    'If you did not expect this, ask us why.',
  ]),
  second_factor_enabled: template(nothing, 'Sign-in asks for a code now', () => [
    'the second factor of your account was turned on just now: sign-in asks for a code from now on. Other devices were ' +
      'signed out.',
    NOT_YOU,
  ]),
  second_factor_disabled: template(nothing, 'Sign-in asks for no code any more', () => [
    'the second factor of your account was turned off just now: sign-in asks for the password only. Other devices were ' +
      'signed out.',
    NOT_YOU,
  ]),
  second_factor_removed: template(nothing, 'Your second factor was removed', () => [
    'our staff removed the second factor of your account just now, and all devices were signed out: sign-in asks for the ' +
      'password only. Turn it on again as soon as you can.',
    'If you did not ask for it, set a new password now and tell us.',
  ]),
  recovery_codes_replaced: template(nothing, 'You have new recovery codes', () => [
    'the recovery codes of your second factor were replaced just now; those you had are worthless.',
    NOT_YOU,
  ]),
  second_factor_recovery: template(nothing, 'A recovery code was used', () => [
    'a recovery code was used just now in place of the code of your second factor.',
    NOT_YOU,
  ]),
}

/** The templates that this version can send. */
export const MAIL_TEMPLATES: readonly string[] = Object.keys(TEMPLATES)

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, character => ENTITIES[character]!)

const htmlOf = (line: Line): string => {
  if (typeof line === 'string') return `<p>${escapeHtml(line)}</p>`
  const link = escapeHtml(line.link)
  return `<p><a href="${link}">${link}</a></p>`
}

/**
 * The mail of a template, for a name (null: nobody is known to have it) and what its secret holds. A link or a code stands alone on its line of the text.
 * Throws where the secret is not what the template needs.
 */
export const mailFor = (name: string, fullName: string | null, secret: unknown): Mail => {
  const { subject, lines } = TEMPLATES[name]!(secret)
  const greeted: Line[] = [fullName === null ? 'Hello,' : `Hello ${fullName},`, ...lines]
  return {
    subject,
    text: [...greeted.map(line => (typeof line === 'string' ? line : line.link)), ''].join('\n\n'),
    html: [...greeted.map(htmlOf), ''].join('\n'),
  }
}
