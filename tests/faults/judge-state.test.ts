// judgeState is given wrong table states: each must be found, and correct states must pass.
import { expect, test } from 'vitest'
import type { Decided } from './judge-answers.ts'
import { type Hold, judgeState, type Payment, type State } from './judge-state.ts'

const NOW = 1_800_000_000_000
const hold: Hold = {
  ...{ id: 'h', type: 'hold', status: 'active', wallet: 'w', amount: 250n, captured: null },
  until: NOW + 1_000,
}
const captured: Hold = { ...hold, status: 'captured', captured: 100n }
const voided: Hold = { ...hold, status: 'voided' }
const payout: Payment = {
  ...{ id: 'p', kind: 'withdrawal', status: 'confirmed', done: true, amount: 250n },
  ...{ transfer: 'completed', hold: 'captured', reversed: 0n },
}
const deposit: Payment = { ...payout, kind: 'deposit', hold: null }
const held = { wallet: 'w', held: 250n }

const end = (type: string, id: string, more: Partial<Decided> = {}): Decided => ({
  ...{ id, type, status: 'completed', from: 'w', to: 'x', amount: 100n, code: null, of: 'h' },
  ...more,
})
const placed: Decided = end('hold', 'h', { of: null })
const reversal = (id: string, amount: bigint) => end('reversal', id, { of: 't', amount })

const judge = (state: Partial<State>, decided: Decided[] = []) =>
  judgeState(
    { ...{ nowMs: NOW, holds: [], held: [], originals: [], payments: [] }, ...state },
    new Map(decided.map(each => [each.id, each])),
  )

test.each<[what: string, state: Partial<State>, decided?: Decided[]]>([
  ['a hold before its time', { holds: [hold], held: [held] }, [placed]],
  ['a hold that is due just now', { holds: [{ ...hold, until: NOW - 1_000 }], held: [held] }],
  ['a hold without a time', { holds: [{ ...hold, until: null }], held: [held] }],
  ['one that was taken', { holds: [captured] }, [placed, end('capture', 'c')]],
  [
    'one that was taken, and refused to others',
    { holds: [captured] },
    [placed, end('capture', 'c'), end('void', 'v', { status: 'rejected', code: 'HOLD_ENDED' })],
  ],
  ['one that was let go', { holds: [voided] }, [placed, end('void', 'v')]],
  ['one that has expired', { holds: [{ ...hold, status: 'expired' }] }, [placed]],
  ["an earlier fault's, whose answers are forgotten", { holds: [captured] }],
  ['a part given back', { originals: [{ id: 't', amount: 250n, reversed: 150n }] }, [reversal('r', 150n)]],
  [
    'all of it, in two',
    { originals: [{ id: 't', amount: 250n, reversed: 250n }] },
    [reversal('r', 150n), reversal('s', 100n)],
  ],
  ['a payout', { payments: [payout] }],
  ['a payout that failed', { payments: [{ ...payout, status: 'failed', transfer: null, hold: 'voided' }] }],
  [
    'a payout that the ledger refused',
    { payments: [{ ...payout, status: 'failed', transfer: 'rejected', hold: null }] },
  ],
  ['a payout that came back', { payments: [{ ...payout, status: 'returned', reversed: 250n }] }],
  ['a deposit', { payments: [deposit] }],
  ['a deposit that failed', { payments: [{ ...deposit, status: 'failed', transfer: null }] }],
])('true: %s', (_what, state, decided) => {
  expect(judge(state, decided)).toEqual([])
})

test.each<[what: string, told: RegExp, state: Partial<State>, decided?: Decided[]]>([
  ['over its time', /over its time/, { holds: [{ ...hold, until: NOW - 11_000 }], held: [held] }],
  ["a payout's that stands", /has not ended/, { holds: [{ ...hold, type: 'withdrawal' }], held: [held] }],
  ['more taken than was held', /251 taken of 250/, { holds: [{ ...captured, captured: 251n }] }],
  ['taken, but nothing', /captured, but null taken/, { holds: [{ ...captured, captured: null }] }],
  ['let go, but some was taken', /voided, but 1 taken/, { holds: [{ ...voided, captured: 1n }] }],
  ['ended twice', /ended 2 times/, { holds: [captured] }, [placed, end('capture', 'c'), end('capture', 'd')]],
  [
    'taken and let go',
    /ended 2 times/,
    { holds: [captured] },
    [placed, end('capture', 'c'), end('void', 'v')],
  ],
  ['taken, but nobody was told so', /nobody ended it/, { holds: [captured] }, [placed]],
  ['let go, but nobody was told so', /nobody ended it/, { holds: [voided] }, [placed]],
  [
    'told as taken, but it stands',
    /active, but by the answers captured/,
    { holds: [hold], held: [held] },
    [placed, end('capture', 'c')],
  ],
  [
    'told as let go, but it was taken',
    /captured, but by the answers voided/,
    { holds: [captured] },
    [placed, end('void', 'v')],
  ],
  [
    'another amount than was told',
    /100 taken, by the answer 99/,
    { holds: [captured] },
    [placed, end('capture', 'c', { amount: 99n })],
  ],
  [
    'more held than was promised',
    /holds 251, its active holds are 250/,
    { holds: [hold], held: [{ ...held, held: 251n }] },
  ],
  ['held for a hold that has ended', /holds 250, its active holds are 0/, { holds: [voided], held: [held] }],
  ['promised and not held', /holds 0, its active holds are 250/, { holds: [hold] }],
  [
    'more given back than was paid',
    /251 of 250 given back/,
    { originals: [{ id: 't', amount: 250n, reversed: 251n }] },
  ],
  ['given back, but not noted', /0 given back, by the answers 150/, {}, [reversal('r', 150n)]],
  ['a payment with no end', /it has no end/, { payments: [{ ...payout, done: false }] }],
  ['a payment that is under way', /it has no end/, { payments: [{ ...deposit, status: 'pending' }] }],
  ['paid out, and not booked', /the ledger has it as none/, { payments: [{ ...payout, transfer: null }] }],
  ['failed, and booked', /the ledger has it as completed/, { payments: [{ ...payout, status: 'failed' }] }],
  [
    'failed, and still held',
    /its hold is active/,
    { payments: [{ ...payout, status: 'failed', transfer: null, hold: 'active' }] },
  ],
  ['returned, and not given back', /0 of 250 came back/, { payments: [{ ...payout, status: 'returned' }] }],
  ['given back, and not returned', /250 of 250 came back/, { payments: [{ ...payout, reversed: 250n }] }],
  ['confirmed, and not booked', /the ledger has it as none/, { payments: [{ ...deposit, transfer: null }] }],
])('a lie is found: %s', (_what, told, state, decided) => {
  expect(judge(state, decided).join('\n')).toMatch(told)
})
