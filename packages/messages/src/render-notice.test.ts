import { referenceOf } from '@pennywire/contracts/ids.ts'
import { PROBLEMS } from '@pennywire/contracts/problems.ts'
import { describe, expect, test } from 'vitest'
import { de } from './de.ts'
import { en } from './en.ts'
import { KIND_OF, type NoticeData, type NoticeType } from './notices.ts'
import { LANGUAGES, languageOf, renderNotice } from './render-notice.ts'

const transferId = '11111111-1111-8111-8111-111111111111'
const originalId = '22222222-2222-8222-8222-222222222222'
const reference = referenceOf(transferId)
const moved = { amount: '1234.50', currency: 'USD', balance: '0.07' }
const rejected = { amount: '1234.50', currency: 'USD', code: 'DAILY_LIMIT_EXCEEDED' }
const held = { amount: '1234.50', currency: 'USD', available: '0.07' }
const until = Date.UTC(2026, 10, 5, 14, 30)

/** One of each type. */
const EXAMPLES: NoticeData = {
  transfer_sent: moved,
  transfer_received: moved,
  fee_sent: moved,
  deposit_completed: moved,
  withdrawal_completed: moved,
  reversal_sent: { ...moved, originalId },
  reversal_received: { ...moved, originalId },
  withdrawal_returned: { ...moved, originalId },
  money_in_suspense: { amount: '5', currency: 'JPY' },
  transfer_rejected: rejected,
  deposit_rejected: rejected,
  withdrawal_rejected: { ...rejected, limit: '5000.00', used: '4990.00' },
  hold_rejected: rejected,
  reversal_rejected: rejected,
  withdrawal_started: held,
  withdrawal_failed: held,
  hold_placed: { ...held, until },
  hold_captured: { ...moved, held: '2000.00', rest: '765.50' },
  hold_released: { ...held, reason: 'expired' },
  incoming_hold_placed: { ...held, until },
  incoming_hold_released: { ...held, reason: 'voided' },
  wallet_frozen: { source: 'staff' },
  wallet_unfrozen: { source: 'staff' },
  wallet_closed: { currency: 'USD' },
  limits_changed: { action: 'send' },
  signed_in: {},
  password_changed: {},
  pin_set: {},
  pin_changed: {},
  pin_locked: {},
  second_factor_enabled: {},
  second_factor_disabled: {},
  second_factor_locked: {},
  recovery_code_used: {},
  recovery_codes_replaced: {},
  api_key_created: {},
  api_key_rotated: {},
  api_key_revoked: {},
  external_identity_linked: {},
  external_identity_unlinked: {},
  role_changed: {},
  account_reactivated: {},
  mail_blocked: {},
  webhook_disabled: { url: 'hooks.example' },
  webhook_added: { url: 'hooks.example' },
  webhook_changed: { url: 'hooks.example', changed: 'url,secret' },
  webhook_removed: { url: 'hooks.example' },
  webhook_disabled_by_staff: { url: 'hooks.example' },
  webhooks_paused: { reason: 'password_reset' },
}
const TYPES = Object.keys(KIND_OF) as NoticeType[]
const render = (language: 'en' | 'de', type: string, data: object, other: string | null = null) =>
  renderNotice(language, { type, data, transferId }, other)

describe.each(LANGUAGES)('%s', language => {
  test.each(TYPES)('%s has words, and no hole in them', type => {
    for (const other of [null, 'Bob B.']) {
      const { title, body } = render(language, type, EXAMPLES[type], other)
      expect(title).toMatch(/^\S.*\S$/)
      expect(body).toMatch(/^\S.*\.$/)
      expect(`${title} ${body}`).not.toMatch(/undefined|null|NaN|\[object| {2}|\(\)/)
    }
  })
})

test.each(TYPES)('%s is said otherwise in German than in English', type => {
  const words = LANGUAGES.map(language => render(language, type, EXAMPLES[type]))
  expect(new Set(words.map(({ title }) => title)).size).toBe(LANGUAGES.length)
  expect(new Set(words.map(({ body }) => body)).size).toBe(LANGUAGES.length)
})

test('every reason for which the ledger rejects has German words', () => {
  const decided = Object.entries(PROBLEMS).flatMap(([code, { final }]) => (final ? [code] : []))
  expect(decided.filter(code => !(code in de.reasons))).toEqual([])
})

test.each([
  ['en', `You sent 1,234.50 USD to Bob B. Your balance is 0.07 USD (${reference}).`],
  ['de', `Sie haben 1.234,50 USD an Bob B. gesendet. Ihr Kontostand beträgt 0,07 USD (${reference}).`],
] as const)('%s: amounts are written as its readers write them', (language, body) => {
  expect(render(language, 'transfer_sent', moved, 'Bob B.').body).toBe(body)
})

test.each([
  ['0 decimals', '9007199254740990', 'JPY', '9,007,199,254,740,990 JPY'],
  ['3 decimals', '9007199254740.990', 'KWD', '9,007,199,254,740.990 KWD'],
])('an amount of %s is exact to the last digit', (_what, amount, currency, written) => {
  const { body } = render('en', 'money_in_suspense', { amount, currency })
  expect(body).toContain(written)
})

test.each([
  ['en', 'Nov 5, 2026, 2:30 PM UTC'],
  ['de', '05.11.2026, 14:30 UTC'],
] as const)('%s: times are written as its readers write them', (language, written) => {
  expect(render(language, 'hold_placed', EXAMPLES.hold_placed).body).toContain(written)
})

test('a reason comes in the language, with the limit that refused', () => {
  expect(render('en', 'withdrawal_rejected', EXAMPLES.withdrawal_rejected).body).toContain(
    'The limit of the day is used up (limit 5,000.00 USD, used 4,990.00 USD)',
  )
  expect(render('de', 'withdrawal_rejected', EXAMPLES.withdrawal_rejected).body).toContain(
    'Das Tageslimit ist ausgeschöpft (Limit 5.000,00 USD, genutzt 4.990,00 USD)',
  )
})

test('a code that is newer than this version is told by the words that came with it', () => {
  const data = { ...rejected, code: 'NEW_RULE', detail: 'amount: breaks a new rule.' }
  expect(render('en', 'transfer_rejected', data).body).toContain('amount: breaks a new rule')
})

test.each([
  ['exchange_sent', moved, 'Money sent'],
  ['exchange_received', moved, 'Money received'],
  ['exchange_rejected', rejected, 'Transfer declined'],
  ['something_else', {}, en.unknown.title],
])('a type that is newer than this version: %s', (type, data, title) => {
  expect(render('en', type, data).title).toBe(title)
})

test.each([
  [undefined, 'en'],
  ['', 'en'],
  ['de', 'de'],
  ['de-AT,de;q=0.9,en;q=0.8', 'de'],
  ['en-GB,en;q=0.9,de;q=0.8', 'en'],
  ['fr-FR,fr;q=0.9,de;q=0.5,en;q=0.4', 'de'],
  ['de;q=0,en;q=0.1', 'en'],
  ['fr, *;q=0.1', 'en'],
  ['de;q=x', 'en'],
  ['toString', 'en'],
])('Accept-Language %s speaks %s', (header, language) => {
  expect(languageOf(header)).toBe(language)
})
