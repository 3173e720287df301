// The event judge is given false events: each must be found, and true events must pass.
import { expect, test } from 'vitest'
import { createEventJudge, type HoldNow, type SeenEvent, type Wallet } from './judge-events.ts'

type Entry = [walletId: string, sequence: number, balance: bigint]

const event = (id: string, key: string, seq: number, ...entries: Entry[]): SeenEvent => ({
  ...{ id, key, seq: BigInt(seq), value: Buffer.from(`${id} ${entries.join(' ')}`) },
  facts: () => ({
    entries: entries.map(([walletId, sequence, balanceAfterMinor]) => ({
      ...{ walletId, sequence, balanceAfterMinor },
    })),
  }),
})
const first = event('e1', 'a', 1, ['a', 1, 90n], ['b', 1, 10n])
const second = event('e2', 'a', 2, ['a', 2, 80n], ['c', 1, 10n])
const third = event('e3', 'b', 3, ['b', 2, 5n], ['a', 3, 85n])
const wallet = (id: string, sequence: number, balance: bigint): Wallet => ({
  ...{ id, balance, sequence: BigInt(sequence) },
})
const books = [wallet('a', 3, 85n), wallet('b', 2, 5n), wallet('c', 1, 10n)]

const judge = async (events: SeenEvent[], wallets = books, holds: HoldNow[] = []) => {
  const judging = createEventJudge()
  for (const each of events) await judging.take(each)
  return judging.judge(wallets, holds)
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

const placing = (id: string, seq: number): SeenEvent => ({
  ...event(`p${seq}`, 'a', seq),
  facts: () => ({ entries: [], places: id }),
})
const ending = (id: string, seq: number): SeenEvent => ({
  ...event(`e${seq}`, 'a', seq),
  facts: () => ({ entries: [], ends: id }),
})
const active = (id: string): HoldNow => ({ id, active: true })
const over = (id: string): HoldNow => ({ id, active: false })

test.each<[what: string, events: SeenEvent[], holds: HoldNow[]]>([
  ['one that stands', [placing('h', 1)], [active('h')]],
  ['one that has ended', [placing('h', 1), ending('h', 2)], [over('h')]],
  ['an end that is told twice', [placing('h', 1), ending('h', 2), ending('h', 2)], [over('h')]],
])('true of holds: %s', async (_what, events, holds) => {
  expect(await judge(events, [], holds)).toEqual([])
})

test.each<[what: string, events: SeenEvent[], holds: HoldNow[], told: RegExp]>([
  ['placed by no event', [], [active('h')], /hold h: no event placed it/],
  ['placed twice', [placing('h', 1), placing('h', 2)], [active('h')], /hold h placed by two events/],
  ['its end is missing', [placing('h', 1)], [over('h')], /hold h: ended, but by no event/],
  [
    'ended twice',
    [placing('h', 1), ending('h', 2), ending('h', 3)],
    [over('h')],
    /hold h ended by two events/,
  ],
  [
    'ended, but it stands',
    [placing('h', 1), ending('h', 2)],
    [active('h')],
    /hold h: active, but an event ended it/,
  ],
])('a lie of a hold is found: %s', async (_what, events, holds, told) => {
  expect((await judge(events, [], holds)).join('\n')).toMatch(told)
})

test('what was told once is not told again, but a hole is for as long as it is there', async () => {
  const judging = createEventJudge()
  for (const each of [second, first]) await judging.take(each)
  expect(await judging.judge(books, [])).toHaveLength(3)
  expect(await judging.judge(books, [])).toHaveLength(2)
  await judging.take(third)
  expect(await judging.judge(books, [])).toEqual([])
  expect([judging.events(), judging.repeats()]).toEqual([3, 0])
})
