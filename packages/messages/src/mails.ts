// What a mail says by its template, apart from its language.

/** A link with a token that is spent once. */
type Link = { url: string; token: string }
type SignupLink = Link & { signedUpAt?: string | undefined; network?: string | undefined }

/** By template: what its secret holds. A template without words in a language does not compile. */
export type MailSecrets = {
  verify_email: SignupLink
  reset_password: Link
  pin_reset: { code: string }
  password_changed: object
  account_deactivated: object
  account_reactivated: object
  deletion_requested: { dueAt: string }
  deletion_cancelled: object
  deletion_blocked: object
  role_changed: object
  super_admin_added: object
  external_identity_linked: object
  external_identity_unlinked: object
  pin_set: object
  pin_changed: object
  pin_locked: object
  second_factor_locked: object
  second_factor_enabled: object
  second_factor_disabled: object
  second_factor_removed: object
  second_factor_recovery: object
  recovery_codes_replaced: object
  api_key_created: object
  api_key_rotated: object
  api_key_revoked: object
}
export type MailTemplate = keyof MailSecrets

/** What stands alone in a mail: a paragraph, a link, a code, or a table of what a receipt is about. */
export type Line =
  | string
  | { link: string }
  | { code: string }
  | { facts: Array<[label: string, value: string]> }

export type MailWords = { subject: string; lines: Line[] }

/** The mails of one language. The first line goes on from the greeting. */
export type MailCatalogue = {
  greeting: (fullName: string | null) => string
  templates: { [Template in MailTemplate]: (secret: MailSecrets[Template]) => MailWords }
  /** The labels of a receipt, and why it came. */
  receipt: {
    amount: string
    reference: string
    time: string
    balance: string
    from: string
    to: string
    /** That the receipt comes as a file as well. */
    attached: string
    why: string
  }
}

export const linkOf = ({ url, token }: Link): Line => ({ link: `${url}?token=${token}` })
