import { linkOf, type MailCatalogue } from './mails.ts'

const NOT_YOU = 'If this was not you, set a new password now and tell us.'
const words =
  (subject: string, ...lines: string[]) =>
  () => ({ subject, lines })
const signupOf = ({
  signedUpAt,
  network,
}: {
  signedUpAt?: string | undefined
  network?: string | undefined
}) =>
  (signedUpAt === undefined ? '' : ` at ${signedUpAt.slice(0, 16).replace('T', ' ')} UTC`) +
  (network === undefined ? '' : ` from the network ${network}`)

export const enMails: MailCatalogue = {
  greeting: fullName => (fullName === null ? 'Hello,' : `Hello ${fullName},`),
  templates: {
    verify_email: secret => ({
      subject: 'Verify your e-mail address',
      lines: [
        `somebody, probably you, signed up with this address${signupOf(secret)}. Verify it by opening this link:`,
        linkOf(secret),
        'The page asks for the password that was chosen then. Where that was not you, set your own there: the one of the ' +
          'sign-up is worthless then. If you want no account at Pennywire, ignore this mail.',
      ],
    }),
    reset_password: secret => ({
      subject: 'Set a new password',
      lines: [
        'somebody, probably you, asked for a new password. Set it by opening this link within the hour:',
        linkOf(secret),
        'If you did not ask for it, ignore this mail: your password stays as it is.',
      ],
    }),
    pin_reset: ({ code }) => ({
      subject: 'Your code for a new PIN',
      lines: [
        'type this code within 15 minutes to set a new PIN:',
        { code },
        'Tell it to nobody. If you did not ask for it, set a new password: somebody is signed in as you.',
      ],
    }),
    password_changed: words(
      'Your password was changed',
      'the password of your account was changed just now, and other devices were signed out.',
      'Linked identities, such as a company’s, sign in as before: unlink those that are not yours.',
      NOT_YOU,
    ),
    account_deactivated: words(
      'Your account is deactivated',
      'your account was deactivated just now, and all devices were signed out. Nobody can sign in to it any more.',
      'If you did not expect this, tell us.',
    ),
    account_reactivated: words(
      'Your account is active again',
      'your account was activated again. You can sign in as before.',
    ),
    deletion_requested: ({ dueAt }) => ({
      subject: 'Your account will be deleted',
      lines: [
        `you asked us to delete your account. It is deleted on ${dueAt.slice(0, 16).replace('T', ' ')} UTC, with all we store about you; until then you can sign in and cancel it.`,
        'Withdraw what your wallets hold before, and ask for a copy of your data if you want one. There is no mail when it is done: we have no address of yours any more then.',
        NOT_YOU,
      ],
    }),
    deletion_cancelled: words(
      'Your account stays',
      'the deletion of your account was cancelled. Everything stays as it is.',
      NOT_YOU,
    ),
    deletion_blocked: words(
      'Your account could not be deleted yet',
      'the deletion of your account is due, and something stands in its way, such as money in a wallet or a payment that is not finished. Sign in to see what; we try again every hour.',
    ),
    role_changed: words(
      'Your role has changed',
      'what your account may do has changed, and all devices were signed out. Sign in again to go on.',
      'If you did not expect this, tell us.',
    ),
    super_admin_added: words(
      'There is a new super_admin',
      'an account was made super_admin just now: it may do everything that you may.',
      'If you did not expect this, look at the list of super_admins and take the role away.',
    ),
    external_identity_linked: words(
      'A further way to sign in',
      'an identity at another issuer, such as your company, may sign in to your account from now on.',
      NOT_YOU,
    ),
    external_identity_unlinked: words(
      'A way to sign in has ended',
      'an identity at another issuer may not sign in to your account any more. Other devices were signed out.',
      NOT_YOU,
    ),
    pin_set: words(
      'Your account has a PIN now',
      'a PIN was set for your account just now: it confirms payments.',
      'If this was not you, somebody is signed in as you: set a new password now, then a new PIN, and tell us.',
    ),
    pin_changed: words(
      'Your PIN was changed',
      'the PIN of your account was changed just now, and other devices were signed out.',
      NOT_YOU,
    ),
    pin_locked: words(
      'Your PIN is locked',
      'a wrong PIN was given three times in a row. For 24 hours nothing is paid by PIN; money still comes in.',
      'If this was not you, somebody is signed in as you: set a new password now, and a new PIN.',
    ),
    second_factor_locked: words(
      'Wrong codes at sign-in',
      'a wrong code was given several times in a row, so no codes are taken for a while. A recovery code is.',
      'If this was not you, somebody knows your password: set a new one now.',
    ),
    second_factor_enabled: words(
      'Sign-in asks for a code now',
      'the second factor of your account was turned on just now: sign-in asks for a code from now on. Other devices were ' +
        'signed out.',
      NOT_YOU,
    ),
    second_factor_disabled: words(
      'Sign-in asks for no code any more',
      'the second factor of your account was turned off just now: sign-in asks for the password only. Other devices were ' +
        'signed out.',
      NOT_YOU,
    ),
    second_factor_removed: words(
      'Your second factor was removed',
      'our staff removed the second factor of your account just now, and all devices were signed out: sign-in asks for the ' +
        'password only. Turn it on again as soon as you can.',
      'If you did not ask for it, set a new password now and tell us.',
    ),
    second_factor_recovery: words(
      'A recovery code was used',
      'a recovery code was used just now in place of the code of your second factor.',
      NOT_YOU,
    ),
    recovery_codes_replaced: words(
      'You have new recovery codes',
      'the recovery codes of your second factor were replaced just now; those you had are worthless.',
      NOT_YOU,
    ),
    api_key_created: words(
      'A new API key',
      'an API key was made just now that acts in your name. Your account lists it with what it may do.',
      'If this was not you, revoke it, set a new password and tell us.',
    ),
    api_key_rotated: words(
      'An API key was replaced',
      'an API key of your account was replaced by a new one just now.',
      'If this was not you, revoke both, set a new password and tell us.',
    ),
    api_key_revoked: words(
      'An API key was revoked',
      'we revoked an API key of your account. What used it is refused from now on.',
      'If you did not expect this, ask us why.',
    ),
  },
  receipt: {
    amount: 'Amount',
    reference: 'Reference',
    time: 'Time',
    balance: 'Balance after it',
    from: 'From',
    to: 'To',
    attached: 'The receipt is attached as a PDF.',
    why: 'The preferences of your account say what comes by e-mail; turn it off there.',
  },
}
