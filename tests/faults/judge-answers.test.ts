// judgeAnswers is given false answers: each must be found, and true answers must pass.
import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { type Decided, idOf, isAccepted, judgeAnswers, lieOfBalance, lieOfKey } from './judge-answers.ts'
import type { Content, Kind, Request } from './load.ts'
import type { Answer } from './people.ts'

const people = ['alice', 'bob', 'carol'].map(userId => ({ userId, walletId: randomUUID() }))
const [alice, bob] = people as [(typeof people)[0], (typeof people)[0]]

const request: Request = {
  ...{ kind: 'transfer', from: 0, key: 'key-1' },
  content: { to: 1, minor: 250n },
  attempts: [],
}
const id = idOf(people, request)
const { content } = request
const otherContent = { ...content, minor: 251n }

const moved: Decided = {
  ...{ id, type: 'transfer', status: 'completed', code: null },
  ...{ from: alice.walletId, to: bob.walletId, amount: 250n },
}
const refused: Decided = { ...moved, status: 'rejected', code: 'INSUFFICIENT_BALANCE' }

const transfer = { id, amount: '2.50', currency: 'USD', status: 'completed', final: true }
const done: Answer = { status: 201, body: transfer }
const rejection = (code: string, final = true, status = 402): Answer => ({ status, body: { code, final } })
const noMoney = rejection('INSUFFICIENT_BALANCE')
const reused = rejection('IDEMPOTENCY_KEY_REUSED', true, 422)
const pending: Answer = { status: 202, body: { id, status: 'pending' } }
const unavailable: Answer = { status: 503, body: { code: 'UNAVAILABLE' } }

const judge = (answer: Answer | 'lost', decided: Decided | undefined, told = content) => {
  const first = { content, answer: 'lost' as const }
  const all = { ...request, attempts: [first, { content: told, answer }] }
  return judgeAnswers(people, [all], new Map(decided ? [[id, decided]] : []), [0n, 0n, 0n])
}

test.each<[what: string, answer: Answer | 'lost', decided: Decided, told?: typeof content]>([
  ['201 of what moved', done, moved],
  ['a refusal of what was refused', noMoney, refused],
  ['an expiry of what expired', rejection('REQUEST_EXPIRED'), { ...refused, code: 'REQUEST_EXPIRED' }],
  ['202 of what moved later', pending, moved],
  ['202 of what was refused later', pending, refused],
  ['503 of what moved', unavailable, moved],
  ['503 of what was refused', unavailable, refused],
  ['no answer to what moved', 'lost', moved],
  ['reuse of the key for other content', reused, moved, otherContent],
])('true: %s', (_what, answer, decided, told) => {
  expect(judge(answer, decided, told)).toEqual([])
})

test.each<[what: string, answer: Answer | 'lost', decided: Decided | undefined, told?: typeof content]>([
  ['201 of what was refused', done, refused],
  ['201 of nothing', done, undefined],
  ['202 of nothing', pending, undefined],
  ['a refusal of nothing', noMoney, undefined],
  ['a lost request that never became final', 'lost', undefined],
  ['201 with another amount', { status: 201, body: { ...transfer, amount: '2.51' } }, moved],
  ['201 with another id', { status: 201, body: { ...transfer, id: randomUUID() } }, moved],
  ['201 that is not final', { status: 201, body: { ...transfer, final: false } }, moved],
  ['201 for other content than was decided', done, moved, otherContent],
  ['202 with another id', { status: 202, body: { id: randomUUID(), status: 'pending' } }, moved],
  ['a refusal of what moved', noMoney, moved],
  ['a refusal for another reason', rejection('REQUEST_EXPIRED'), refused],
  ['a refusal that is not final', rejection('INSUFFICIENT_BALANCE', false), refused],
  [
    'a refusal that nothing here brings about',
    rejection('WALLET_CLOSED'),
    { ...refused, code: 'WALLET_CLOSED' },
  ],
  ['a session that was forgotten', { status: 401, body: { code: 'UNAUTHORIZED' } }, moved],
  ['reuse of the key for the same content', reused, moved],
  ['an amount that nobody asked for', 'lost', { ...moved, amount: 999n }],
  ['money for somebody else', 'lost', { ...moved, to: people[2]!.walletId }],
  ["money from somebody else's wallet", 'lost', { ...moved, from: people[2]!.walletId }],
  ['a movement of another kind', 'lost', { ...moved, type: 'deposit' }],
])('a lie is found: %s', (_what, answer, decided, told) => {
  expect(judge(answer, decided, told).length).toBeGreaterThan(0)
})

// ---- all other kinds of requests

/** A request of another kind by alice; `found` is its outcome. */
const asks = (kind: Kind, more: Partial<Content> = {}): Request => ({
  ...{ kind, from: 0, key: `key of a ${kind}`, attempts: [] },
  content: { to: 0, minor: 250n, ...more },
})
const found = (of: Request, more: Partial<Decided> = {}): Decided => ({
  ...{ id: idOf(people, of), type: of.kind, status: 'completed', code: null },
  ...{ from: alice.walletId, to: null, amount: of.content.minor },
  ...more,
})
const refusedOf = (of: Request, code: string, more: Partial<Decided> = {}): Decided =>
  found(of, { status: 'rejected', code, ...more })
const judgeOf = (of: Request, answer: Answer | 'lost', decided: Decided | undefined) =>
  judgeAnswers(
    people,
    [{ ...of, attempts: [{ content: of.content, answer }] }],
    new Map(decided ? [[idOf(people, of), decided]] : []),
    [0n, 0n, 0n],
    new Set([`alice/side`]),
  )
const ok = (body: object, status = 201): Answer => ({ status, body })

const hold = asks('hold', { to: 1 })
const held = found(hold, { to: bob.walletId, hold: 'active' })
const holdBody = { id: held.id, amount: '2.50', status: 'active' }
const holdOver = rejection('HOLD_ENDED', true, 409)

const capture = asks('capture', { of: 'h' })
const taken = found(capture, { of: 'h', from: bob.walletId, to: alice.walletId })
const captureBody = { id: 'h', amount: '2.50', status: 'completed', final: true }
const captureAll = asks('capture', { of: 'h', minor: null })

const voidHold = asks('void', { of: 'h' })
const released = found(voidHold, { of: 'h', from: null, amount: null })

const withdrawal = asks('withdrawal')
const paidOut = found(withdrawal)
const withdrawalBody = { id: paidOut.id, amount: '2.50', status: 'completed', final: true }
const failed = refusedOf(withdrawal, 'PAYMENT_FAILED')

const reversal = asks('reversal', { of: 't' })
const gaveBack = found(reversal, { of: 't', from: bob.walletId, to: alice.walletId })
const reversalBody = { id: gaveBack.id, originalId: 't', amount: '2.50', status: 'completed', final: true }

const freeze = asks('freeze')
const frozen = found(freeze, { from: null, to: alice.walletId, amount: null })
const limit = asks('limit')
const limited = found(limit, { from: null, to: alice.walletId })
const close = asks('close', { walletId: 'side' })
const closed = found(close, { from: null, to: 'side', amount: null })
const opening = asks('open')

test.each<[what: string, request: Request, answer: Answer | 'lost', decided: Decided | undefined]>([
  ['a hold that stands', hold, ok(holdBody), held],
  ['a hold that has expired since', hold, ok(holdBody), { ...held, hold: 'expired' }],
  ['a repeat after its end', hold, ok({ ...holdBody, status: 'voided' }), { ...held, hold: 'voided' }],
  ['a capture that has moved', capture, ok(captureBody), taken],
  ['a capture of all', captureAll, ok(captureBody), { ...taken, id: idOf(people, captureAll) }],
  ['a capture that came too late', capture, holdOver, refusedOf(capture, 'HOLD_ENDED', { amount: null })],
  ['a capture nobody has an answer to', capture, 'lost', taken],
  ['a void', voidHold, ok({ id: 'h', status: 'voided' }, 200), released],
  ['a payout', withdrawal, ok(withdrawalBody), paidOut],
  [
    'a payout that has come back',
    withdrawal,
    ok({ ...withdrawalBody, status: 'reversed' }),
    { ...paidOut, reversed: 250n },
  ],
  ['a payout that failed', withdrawal, rejection('PAYMENT_FAILED'), failed],
  ['a reversal', reversal, ok(reversalBody), gaveBack],
  ['a freeze', freeze, ok({ id: alice.walletId }, 200), frozen],
  ['a limit', limit, ok({ walletId: alice.walletId }, 200), limited],
  [
    'a limit above the highest',
    limit,
    rejection('LIMIT_ABOVE_MAXIMUM', false),
    refusedOf(limit, 'LIMIT_ABOVE_MAXIMUM', { amount: null }),
  ],
  ['a wallet that is closed', close, ok({ id: 'side', status: 'closed' }, 200), closed],
  ['a wallet that is opened', opening, ok({ id: 'side' }), undefined],
  [
    'a wallet that there is already',
    opening,
    { status: 409, body: { code: 'WALLET_ALREADY_EXISTS', walletId: 'side' } },
    undefined,
  ],
])('true: %s', (_what, of, answer, decided) => {
  expect(judgeOf(of, answer, decided)).toEqual([])
})

test.each<[what: string, request: Request, answer: Answer | 'lost', decided: Decided | undefined]>([
  ['201 of a hold that was refused', hold, ok(holdBody), refusedOf(hold, 'INSUFFICIENT_BALANCE')],
  ['201 of a hold of another amount', hold, ok({ ...holdBody, amount: '2.51' }), held],
  [
    'a hold told as captured that was voided',
    hold,
    ok({ ...holdBody, status: 'captured' }),
    { ...held, hold: 'voided' },
  ],
  ['a hold for somebody else', hold, ok(holdBody), { ...held, to: people[2]!.walletId }],
  ['201 of a capture that was refused', capture, ok(captureBody), refusedOf(capture, 'HOLD_ENDED')],
  ['201 of a capture that was never decided', capture, ok(captureBody), undefined],
  ['a refusal of a capture that has moved', capture, holdOver, taken],
  ['a refusal of a capture for another reason', capture, holdOver, refusedOf(capture, 'HOLD_EXPIRED')],
  [
    'a refusal of a capture that is not final',
    capture,
    rejection('HOLD_ENDED', false),
    refusedOf(capture, 'HOLD_ENDED'),
  ],
  [
    'a capture of another amount',
    capture,
    ok({ ...captureBody, amount: '1.00' }),
    { ...taken, amount: 100n },
  ],
  [
    'a capture of all that is told as less',
    captureAll,
    ok({ ...captureBody, amount: '1.00' }),
    { ...taken, id: idOf(people, captureAll) },
  ],
  ['a capture of another hold', capture, ok(captureBody), { ...taken, of: 'other' }],
  ['a capture that nobody was to get', capture, ok(captureBody), { ...taken, to: bob.walletId }],
  [
    '200 of a void that was refused',
    voidHold,
    ok({ id: 'h', status: 'voided' }, 200),
    refusedOf(voidHold, 'HOLD_ENDED'),
  ],
  ['200 of a void of a hold that stands', voidHold, ok({ id: 'h', status: 'active' }, 200), released],
  ['a refused void of what was let go', voidHold, holdOver, released],
  ['PAYMENT_FAILED of what was paid out', withdrawal, rejection('PAYMENT_FAILED'), paidOut],
  ['PAYMENT_FAILED of what is still held', withdrawal, rejection('PAYMENT_FAILED'), undefined],
  ['201 of a payout that failed', withdrawal, ok(withdrawalBody), failed],
  ['202 of a payout with no end', withdrawal, ok({ id: paidOut.id, status: 'pending' }, 202), undefined],
  [
    'a payout told as returned that was not',
    withdrawal,
    ok({ ...withdrawalBody, status: 'reversed' }),
    paidOut,
  ],
  [
    '201 of a reversal that was refused',
    reversal,
    ok(reversalBody),
    refusedOf(reversal, 'REVERSAL_EXCEEDS_ORIGINAL', { of: 't' }),
  ],
  ['a reversal of something else', reversal, ok({ ...reversalBody, originalId: 'u' }), gaveBack],
  ['a reversal refused that gave back', reversal, rejection('REVERSAL_EXCEEDS_ORIGINAL'), gaveBack],
  [
    '200 of a freeze that was refused',
    freeze,
    ok({ id: alice.walletId }, 200),
    refusedOf(freeze, 'WALLET_ALREADY_FROZEN'),
  ],
  [
    "a freeze of somebody else's wallet",
    freeze,
    ok({ id: bob.walletId }, 200),
    { ...frozen, to: bob.walletId },
  ],
  [
    'another limit than was asked for',
    limit,
    ok({ walletId: alice.walletId }, 200),
    { ...limited, amount: 251n },
  ],
  [
    'a closed wallet that is another',
    close,
    ok({ id: 'side', status: 'closed' }, 200),
    { ...closed, to: 'main' },
  ],
  ['a closed wallet that is open', close, ok({ id: 'side', status: 'active' }, 200), closed],
  ['a wallet that is not there', opening, ok({ id: 'none' }), undefined],
  ['a refusal to open for another reason', opening, rejection('WALLET_CLOSED'), undefined],
  ['frozen, told of a limit', limit, rejection('WALLET_FROZEN'), refusedOf(limit, 'WALLET_FROZEN')],
])('a lie is found: %s', (_what, of, answer, decided) => {
  expect(judgeOf(of, answer, decided).length).toBeGreaterThan(0)
})

test('captures, payouts and what comes back are in the balances; what is only held is not', () => {
  const balances = [1_000n, 1_000n, 0n]
  const outcomes = [held, taken, { ...paidOut, reversed: 250n }, gaveBack, frozen]
  const all = [hold, capture, withdrawal, reversal, freeze].map(each => ({
    ...each,
    attempts: [{ content: each.content, answer: 'lost' as const }],
  }))
  const decided = new Map(outcomes.map(outcome => [outcome.id, outcome]))
  expect(judgeAnswers(people, all, decided, balances)).toEqual([])
  expect(balances).toEqual([1_500n, 500n, 0n])
})

test('an answer below 500 is a promise that an outcome comes; 5xx, silence and a key of another request are not', () => {
  const accepted = [done, noMoney, pending, unavailable, 'lost' as const, reused].map(answer =>
    isAccepted({ content, answer }),
  )
  expect(accepted).toEqual([true, true, true, false, false, false])
})

const answered: Request = { ...request, attempts: [{ content, answer: done }] }
const silent: Request = { ...request, attempts: [{ content, answer: 'lost' }] }
const byKey = (body: object, status = 200): Answer => ({ status, body })

test.each<[what: string, request: Request, answer: Answer, decided: Decided | undefined]>([
  ['what moved', answered, byKey(transfer), moved],
  ['what was refused', silent, byKey({ status: 'rejected', final: true }), refused],
  ['unknown, and undecided', silent, byKey({ code: 'NOT_FOUND' }, 404), undefined],
  ['pending, and undecided', silent, byKey({ status: 'pending', final: false }), undefined],
  [
    'what was given back since',
    answered,
    byKey({ ...transfer, status: 'reversed', reversedAmount: '2.50' }),
    { ...moved, reversed: 250n },
  ],
  ['a hold that stands', hold, byKey({ status: 'pending' }), held],
  ['a hold that was taken', hold, byKey({ status: 'completed' }), { ...held, hold: 'captured' }],
  ['a hold that was let go', hold, byKey({ status: 'rejected' }), { ...held, hold: 'voided' }],
])('true by its key: %s', (_what, of, answer, decided) => {
  expect(lieOfKey(of, answer, decided)).toBeUndefined()
})

test.each<[what: string, request: Request, answer: Answer, decided: Decided | undefined]>([
  ['unknown, but it moved', silent, byKey({ code: 'NOT_FOUND' }, 404), moved],
  ['pending, but it moved', silent, byKey({ status: 'pending', final: false }), moved],
  ['completed, but it was refused', silent, byKey(transfer), refused],
  ['completed, but undecided', silent, byKey(transfer), undefined],
  ['no answer from a healthy system', silent, byKey({}, 503), undefined],
  ['given back, but it was not', answered, byKey({ ...transfer, status: 'reversed' }), moved],
  ['a hold that was taken, but it stands', hold, byKey({ status: 'completed' }), held],
  ['another transfer than the 201 told', answered, byKey({ ...transfer, note: 'x' }), moved],
])('a lie by its key is found: %s', (_what, of, answer, decided) => {
  expect(lieOfKey(of, answer, decided)).toBeDefined()
})

test('balances follow the outcomes, and one that differs is found', () => {
  const balances = [1_000n, 0n, 0n]
  const deposit: Request = { ...request, kind: 'deposit', key: 'key-2', content: { to: 0, minor: 70n } }
  const deposited: Decided = {
    ...{ ...moved, id: idOf(people, deposit), type: 'deposit', from: null },
    ...{ to: alice.walletId, amount: 70n },
  }
  const rejected: Request = { ...request, key: 'key-3' }
  const outcomes = [moved, deposited, { ...refused, id: idOf(people, rejected) }]
  const all = [request, deposit, rejected].map(each => ({
    ...each,
    attempts: [{ content: each.content, answer: 'lost' as const }],
  }))
  const decided = new Map(outcomes.map(outcome => [outcome.id, outcome]))
  expect(judgeAnswers(people, all, decided, balances)).toEqual([])
  expect(balances).toEqual([820n, 250n, 0n])
  const told = byKey({ balance: '8.20', available: '8.20' })
  expect(lieOfBalance(alice.walletId, told, 820n)).toBeUndefined()
  expect(lieOfBalance(alice.walletId, told, 820n, 20n)).toContain('8.00')
  expect(lieOfBalance(alice.walletId, byKey({ balance: '8.21' }), 820n)).toContain('8.21')
  expect(lieOfBalance(alice.walletId, byKey({}, 503), 820n)).toContain('503')
})
