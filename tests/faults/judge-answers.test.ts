// The fault suite's judge of answers is lied to: each lie must be found, and the truth must pass.
import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { type Decided, idOf, isAccepted, judgeAnswers, lieOfBalance, lieOfKey } from './judge-answers.ts'
import type { Request } from './load.ts'
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

const judge = (answer: Answer | 'lost', decided: Decided | undefined, asked = content) => {
  const first = { content, answer: 'lost' as const }
  const all = { ...request, attempts: [first, { content: asked, answer }] }
  return judgeAnswers(people, [all], new Map(decided ? [[id, decided]] : []), [0n, 0n, 0n])
}

test.each<[what: string, answer: Answer | 'lost', decided: Decided, asked?: typeof content]>([
  ['201 of what moved', done, moved],
  ['a refusal of what was refused', noMoney, refused],
  ['an expiry of what expired', rejection('REQUEST_EXPIRED'), { ...refused, code: 'REQUEST_EXPIRED' }],
  ['202 of what moved later', pending, moved],
  ['202 of what was refused later', pending, refused],
  ['503 of what moved', unavailable, moved],
  ['503 of what was refused', unavailable, refused],
  ['no answer to what moved', 'lost', moved],
  ['reuse of the key for other content', reused, moved, otherContent],
])('true: %s', (_what, answer, decided, asked) => {
  expect(judge(answer, decided, asked)).toEqual([])
})

test.each<[what: string, answer: Answer | 'lost', decided: Decided | undefined, asked?: typeof content]>([
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
    rejection('WALLET_FROZEN'),
    { ...refused, code: 'WALLET_FROZEN' },
  ],
  ['a session that was forgotten', { status: 401, body: { code: 'UNAUTHORIZED' } }, moved],
  ['reuse of the key for the same content', reused, moved],
  ['an amount that nobody asked for', 'lost', { ...moved, amount: 999n }],
  ['money for somebody else', 'lost', { ...moved, to: people[2]!.walletId }],
  ["money from somebody else's wallet", 'lost', { ...moved, from: people[2]!.walletId }],
  ['a movement of another kind', 'lost', { ...moved, type: 'deposit' }],
])('a lie is found: %s', (_what, answer, decided, asked) => {
  expect(judge(answer, decided, asked).length).toBeGreaterThan(0)
})

test('an answer below 500 is a promise that an outcome comes; 5xx and silence are not', () => {
  const accepted = [done, noMoney, pending, unavailable, 'lost' as const].map(answer =>
    isAccepted({ content, answer }),
  )
  expect(accepted).toEqual([true, true, true, false, false])
})

const asked: Request = { ...request, attempts: [{ content, answer: done }] }
const silent: Request = { ...request, attempts: [{ content, answer: 'lost' }] }
const byKey = (body: object, status = 200): Answer => ({ status, body })

test.each<[what: string, request: Request, answer: Answer, decided: Decided | undefined]>([
  ['what moved', asked, byKey(transfer), moved],
  ['what was refused', silent, byKey({ status: 'rejected', final: true }), refused],
  ['unknown, and undecided', silent, byKey({ code: 'NOT_FOUND' }, 404), undefined],
  ['pending, and undecided', silent, byKey({ status: 'pending', final: false }), undefined],
])('true by its key: %s', (_what, of, answer, decided) => {
  expect(lieOfKey(of, answer, decided)).toBeUndefined()
})

test.each<[what: string, request: Request, answer: Answer, decided: Decided | undefined]>([
  ['unknown, but it moved', silent, byKey({ code: 'NOT_FOUND' }, 404), moved],
  ['pending, but it moved', silent, byKey({ status: 'pending', final: false }), moved],
  ['completed, but it was refused', silent, byKey(transfer), refused],
  ['completed, but undecided', silent, byKey(transfer), undefined],
  ['no answer from a healthy system', silent, byKey({}, 503), undefined],
  ['another transfer than the 201 told', asked, byKey({ ...transfer, note: 'x' }), moved],
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
  expect(lieOfBalance(alice.walletId, byKey({ balance: '8.20' }), 820n)).toBeUndefined()
  expect(lieOfBalance(alice.walletId, byKey({ balance: '8.21' }), 820n)).toContain('8.21')
  expect(lieOfBalance(alice.walletId, byKey({}, 503), 820n)).toContain('503')
})
