import type { Catalogue, Say } from './catalogue.ts'

const to = ({ other }: Say<unknown>) => (other === null ? '' : ` to ${other}`)
const from = ({ other }: Say<unknown>) => (other === null ? '' : ` from ${other}`)
const balance = ({ data, money, reference }: Say<{ balance: string }>) =>
  `Your balance is ${money(data.balance)}${reference}.`
const available = ({ data, money, reference }: Say<{ available: string }>) =>
  `${money(data.available)} is available${reference}.`
const until = ({ data, time }: Say<{ until: number | null }>) =>
  data.until === null ? '' : ` until ${time(data.until)}`
const ended = (reason: string) =>
  reason === 'expired' ? 'its time is over' : reason === 'voided' ? 'the hold was lifted' : 'the hold ended'

type Rejected = { amount: string; code: string; detail?: string; limit?: string; used?: string }
const rejected = (noun: string) => (say: Say<Rejected>) => {
  const { data, money, reference, why } = say
  const limit =
    data.limit === undefined ? '' : ` (limit ${money(data.limit)}, used ${money(data.used ?? '0')})`
  return {
    title: `${noun[0]!.toUpperCase()}${noun.slice(1)} declined`,
    body: `Your ${noun} of ${money(data.amount)}${to(say)} was not made. ${why(data.code, data.detail)}${limit}${reference}.`,
  }
}
const text = (title: string, body: string) => () => ({ title, body })

const NOT_YOU = 'If this was not you, set a new password now and tell us.'
const FROZEN_BY: Readonly<Record<string, string>> = {
  self: 'You froze your wallet: no money leaves it.',
  pin: 'Your wallet was frozen after too many wrong PINs: no money leaves it.',
  staff: 'Our staff froze your wallet: no money leaves it or comes in.',
}
const ACTIONS: Readonly<Record<string, string>> = {
  send: 'sending money',
  deposit: 'deposits',
  withdrawal: 'withdrawals',
}

const CHANGED: Readonly<Record<string, string>> = {
  url: 'its address',
  secret: 'its secret',
  eventTypes: 'the events it is sent',
  description: 'its description',
  state: 'whether it is on',
}
const listOf = (changed: string) =>
  changed
    .split(',')
    .map(one => CHANGED[one] ?? one)
    .join(', ')
const PAUSED_BY: Readonly<Record<string, string>> = {
  password_reset: 'because a forgotten password was replaced',
  account_disabled: 'because your account was deactivated',
}

export const en: Catalogue = {
  locale: 'en',
  notices: {
    transfer_sent: say => ({
      title: 'Money sent',
      body: `You sent ${say.money(say.data.amount)}${to(say)}. ${balance(say)}`,
    }),
    transfer_received: say => ({
      title: 'Money received',
      body: `You received ${say.money(say.data.amount)}${from(say)}. ${balance(say)}`,
    }),
    fee_sent: say => ({
      title: 'Fee charged',
      body: `A fee of ${say.money(say.data.amount)} was charged. ${balance(say)}`,
    }),
    deposit_completed: say => ({
      title: 'Deposit completed',
      body: `${say.money(say.data.amount)} came into your wallet. ${balance(say)}`,
    }),
    withdrawal_completed: say => ({
      title: 'Withdrawal completed',
      body: `${say.money(say.data.amount)} was paid out. ${balance(say)}`,
    }),
    reversal_sent: say => ({
      title: 'Money taken back',
      body: `${say.money(say.data.amount)} of ${say.referenceOf(say.data.originalId)} was given back${to(say)}. ${balance(say)}`,
    }),
    reversal_received: say => ({
      title: 'Money came back',
      body: `${say.money(say.data.amount)} of ${say.referenceOf(say.data.originalId)} came back to you${from(say)}. ${balance(say)}`,
    }),
    withdrawal_returned: say => ({
      title: 'Withdrawal returned',
      body: `${say.money(say.data.amount)} of ${say.referenceOf(say.data.originalId)} could not be paid out and came back. ${balance(say)}`,
    }),
    money_in_suspense: say => ({
      title: 'Money waits for you',
      body: `${say.money(say.data.amount)} arrived, and your wallet cannot take it. We keep it for you${say.reference}.`,
    }),
    transfer_rejected: rejected('transfer'),
    deposit_rejected: rejected('deposit'),
    withdrawal_rejected: rejected('withdrawal'),
    hold_rejected: rejected('hold'),
    reversal_rejected: rejected('reversal'),
    withdrawal_started: say => ({
      title: 'Withdrawal started',
      body: `${say.money(say.data.amount)} is on its way out and is held for it. ${available(say)}`,
    }),
    withdrawal_failed: say => ({
      title: 'Withdrawal failed',
      body: `${say.money(say.data.amount)} could not be paid out and stays in your wallet. ${available(say)}`,
    }),
    hold_placed: say => ({
      title: 'Money held',
      body: `${say.money(say.data.amount)} is held in your wallet${say.other === null ? '' : ` for ${say.other}`}${until(say)}. ${available(say)}`,
    }),
    hold_captured: say => {
      const { data, money } = say
      const rest = /[1-9]/.test(data.rest) ? ` ${money(data.rest)} is available again.` : ''
      return {
        title: 'Held money taken',
        body: `${money(data.amount)} of the ${money(data.held)} that was held was taken${say.other === null ? '' : ` by ${say.other}`}.${rest} ${balance(say)}`,
      }
    },
    hold_released: say => ({
      title: 'Money no longer held',
      body: `${say.money(say.data.amount)} is no longer held: ${ended(say.data.reason)}. ${available(say)}`,
    }),
    incoming_hold_placed: say => ({
      title: 'Money held for you',
      body: `${say.money(say.data.amount)} is held for you${say.other === null ? '' : ` by ${say.other}`}${until(say)}${say.reference}.`,
    }),
    incoming_hold_released: say => ({
      title: 'Money no longer held for you',
      body: `${say.money(say.data.amount)}${from(say)} is no longer held for you: ${ended(say.data.reason)}${say.reference}.`,
    }),
    wallet_frozen: ({ data }) => ({
      title: 'Wallet frozen',
      body: FROZEN_BY[data.source] ?? 'Your wallet was frozen: no money leaves it.',
    }),
    wallet_unfrozen: ({ data }) => ({
      title: 'Wallet active again',
      body: `${data.source === 'staff' ? 'Our staff lifted the freeze.' : 'The freeze is lifted.'} Your wallet may be used again.`,
    }),
    wallet_closed: ({ data }) => ({
      title: 'Wallet closed',
      body: `Your ${data.currency} wallet is closed. Its history stays.`,
    }),
    limits_changed: ({ data }) => ({
      title: 'Limits changed',
      body: `Our staff changed the limits of ${ACTIONS[data.action] ?? 'money that moves'} for one of your wallets.`,
    }),
    signed_in: text(
      'New sign-in',
      `Somebody, probably you, signed in from a device or a network that is new for your account. ${NOT_YOU}`,
    ),
    password_changed: text(
      'Password changed',
      `Your password was changed, and other devices were signed out. ${NOT_YOU}`,
    ),
    pin_set: text('PIN set', `Your account has a PIN now: it confirms payments. ${NOT_YOU}`),
    pin_changed: text('PIN changed', `Your PIN was changed, and other devices were signed out. ${NOT_YOU}`),
    pin_locked: text(
      'PIN locked',
      `A wrong PIN was given too often. For a day nothing is paid by PIN; money still comes in. ${NOT_YOU}`,
    ),
    second_factor_enabled: text('Second factor on', `Sign-in asks for a code from now on. ${NOT_YOU}`),
    second_factor_disabled: text('Second factor off', `Sign-in asks for no code any more. ${NOT_YOU}`),
    second_factor_locked: text(
      'Wrong codes at sign-in',
      `A wrong code was given several times in a row, so no codes are taken for a while. ${NOT_YOU}`,
    ),
    recovery_code_used: text(
      'Recovery code used',
      `A recovery code was used in place of the code of your second factor. ${NOT_YOU}`,
    ),
    recovery_codes_replaced: text(
      'New recovery codes',
      `The recovery codes of your second factor were replaced; those you had are worthless. ${NOT_YOU}`,
    ),
    api_key_created: text(
      'New API key',
      'An API key was made that acts in your name. If this was not you, revoke it and set a new password.',
    ),
    api_key_rotated: text(
      'API key replaced',
      'An API key of your account was replaced by a new one. If this was not you, revoke both and set a new password.',
    ),
    api_key_revoked: text(
      'API key revoked',
      'An API key of your account was revoked: it is refused from now on.',
    ),
    external_identity_linked: text(
      'New way to sign in',
      `An identity at another issuer may sign in to your account from now on. ${NOT_YOU}`,
    ),
    external_identity_unlinked: text(
      'Way to sign in removed',
      `An identity at another issuer may not sign in to your account any more. ${NOT_YOU}`,
    ),
    role_changed: text('Role changed', 'What your account may do has changed. Sign in again to go on.'),
    account_reactivated: text('Account active again', 'Your account was activated again.'),
    webhook_disabled: ({ data }) => ({
      title: 'Webhook turned off',
      body: `Your webhook at ${data.url} has failed for too long and is turned off. Turn it on again once it works; its log keeps what was not delivered.`,
    }),
    webhook_added: ({ data }) => ({
      title: 'New webhook',
      body: `Events of your wallets go to ${data.url} from now on. ${NOT_YOU}`,
    }),
    webhook_changed: ({ data }) => ({
      title: 'Webhook changed',
      body: `Your webhook at ${data.url} was changed: ${listOf(data.changed)}. ${NOT_YOU}`,
    }),
    webhook_removed: ({ data }) => ({
      title: 'Webhook deleted',
      body: `Your webhook at ${data.url} was deleted: no events go there any more. ${NOT_YOU}`,
    }),
    webhook_disabled_by_staff: ({ data }) => ({
      title: 'Webhook turned off by our staff',
      body: `Our staff turned your webhook at ${data.url} off: no events go there any more. Ask us why before you turn it on again.`,
    }),
    webhooks_paused: ({ data }) => ({
      title: 'Webhooks paused',
      body: `Your webhooks are paused${PAUSED_BY[data.reason] === undefined ? '' : ` ${PAUSED_BY[data.reason]}`}. Delete those that you do not know, and turn the others on again: their events wait for a while.`,
    }),
    mail_blocked: text(
      'Mail does not reach you',
      'Your mail server sent our mail back, or it was marked as spam, so we send no more. Ask us to begin again once it works.',
    ),
  },
  unknown: {
    title: 'News about your account',
    body: 'Something changed in your account. Open it to see what.',
  },
  reasons: {},
}
