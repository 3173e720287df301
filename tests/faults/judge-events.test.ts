// The fault suite's reader of events is lied to: each lie must be found, and the truth must pass.
import { expect, test } from 'vitest'
import { createEventJudge, type SeenEvent, type Wallet } from './judge-events.ts'

type Entry = [walletId: string, sequence: number, balance: bigint]

const event = (id: string, key: string, seq: number, ...entries: Entry[]): SeenEvent => ({
  ...{ id, key, seq: BigInt(seq), value: Buffer.from(`${id} ${entries.join(' ')}`) },
  entries: () =>
    entries.map(([walletId, sequence, balanceAfterMinor]) => ({ walletId, sequence, balanceAfterMinor })),
})
const first = event('e1', 'a', 1, ['a', 1, 90n], ['b', 1, 10n])
const second = event('e2', 'a', 2, ['a', 2, 80n], ['c', 1, 10n])
const third = event('e3', 'b', 3, ['b', 2, 5n], ['a', 3, 85n])
const wallet = (id: string, sequence: number, balance: bigint): Wallet => ({
  ...{ id, balance, sequence: BigInt(sequence) },
})
const books = [wallet('a', 3, 85n), wallet('b', 2, 5n), wallet('c', 1, 10n)]

const judge = async (events: SeenEvent[], wallets = books) => {
  const judging = createEventJudge()
  for (const each of events) await judging.take(each)
  return judging.judge(wallets)
}

test.each<[what: string, events: SeenEvent[]]>([
  ['in the order of decision', [first, second, third]],
  ['other keys in any order: the greater sequence wins', [third, first, second]],
  ['repeats that say the same', [first, second, first, second, third, first]],
])('true: %s', async (_what, events) => {
  expect(await judge(events)).toEqual([])
})

test.each<[what: string, events: SeenEvent[], told: RegExp]>([
  [
    'the last event is missing',
    [first, second],
    /wallet a: 2 entries seen up to sequence 2, the ledger has 3/,
  ],
  ['one in the middle is missing', [first, third], /wallet a: 2 entries seen up to sequence 3/],
  ['all events of a wallet are missing', [first, third], /wallet c: 0 entries/],
  ['events of one key in the wrong order', [second, first, third], /e1 of key a comes after a later one/],
  [
    'a repeat that says something else',
    [first, second, third, { ...first, value: Buffer.from('changed') }],
    /e1 came again, changed/,
  ],
  ['a repeat under another number', [first, second, third, { ...third, seq: 4n }], /e3 came again, changed/],
  [
    'one movement under two ids',
    [first, second, third, event('e4', 'c', 4, ['c', 1, 10n])],
    /wallet c: sequence 1 in two events/,
  ],
  [
    'an event that the ledger knows nothing of',
    [first, second, third, event('e4', 'c', 4, ['c', 2, 20n])],
    /wallet c: 2 entries/,
  ],
  [
    'a balance that the ledger does not have',
    [first, second, event('e3', 'b', 3, ['b', 2, 6n], ['a', 3, 85n])],
    /wallet b: by its events 6, by the ledger 5/,
  ],
])('a lie is found: %s', async (_what, events, told) => {
  expect((await judge(events)).join('\n')).toMatch(told)
})

test('what was told once is not told again, but a hole is for as long as it is there', async () => {
  const judging = createEventJudge()
  for (const each of [second, first]) await judging.take(each)
  expect(await judging.judge(books)).toHaveLength(3)
  expect(await judging.judge(books)).toHaveLength(2)
  await judging.take(third)
  expect(await judging.judge(books)).toEqual([])
  expect([judging.events(), judging.repeats()]).toEqual([3, 0])
})
