import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  aboveCeiling,
  breachedLimit,
  LIMITED_ACTIONS,
  type LimitedAction,
  type Limits,
  limitsInForce,
  NO_LIMITS,
  NOTHING_USED,
  type OwnLimits,
  parseLimitDefaults,
  type Usage,
  usedNow,
  withoutUse,
  withUse,
} from './limits.ts'

const at = (time: string) => Date.parse(`${time}Z`)

describe('limits as settings write them', () => {
  test('in major units of each currency, with * for all others', () => {
    const limits = parseLimitDefaults(' USD=2000/5000/20000  JPY=300000/0/9\n*=1/2/3 ')
    expect(limits('USD')).toEqual({ perTransaction: 200_000n, daily: 500_000n, monthly: 2_000_000n })
    expect(limits('JPY')).toEqual({ perTransaction: 300_000n, daily: 0n, monthly: 9n })
    expect(limits('KWD')).toEqual({ perTransaction: 1_000n, daily: 2_000n, monthly: 3_000n })
  })

  test('what is more than the books can hold is as much as they can', () => {
    const most = parseLimitDefaults('*=999999999999999/90071992547409/90071992547410')('USD')
    expect(most).toEqual({ perTransaction: MAX_MINOR, daily: 9_007_199_254_740_900n, monthly: MAX_MINOR })
  })

  test.each([
    ['', 'not CURRENCY'],
    ['USD=1/2/3', 'is missing'],
    ['*=1/2', 'not CURRENCY'],
    ['*=1/2/3/4', 'not CURRENCY'],
    ['*=1/2/3 USD=1.50/2/3', '"USD=1.50/2/3" is not'],
    ['*=1/2/-3', 'not CURRENCY'],
    ['*=1/2/3 XXX=1/2/3', '"XXX=1/2/3" is not'],
    ['*=1/2/3 usd=1/2/3', 'not CURRENCY'],
    ['*=1/2/9999999999999999', 'not CURRENCY'],
    ['*=1/2/3,USD=1/2/3', 'not CURRENCY'],
  ])('%j is refused: %s', (text, why) => expect(() => parseLimitDefaults(text)).toThrow(why))
})

describe('whose limits hold', () => {
  const defaults: Limits = { perTransaction: 10n, daily: 20n, monthly: 30n }
  const own = (
    source: 'self' | 'staff',
    limits: Partial<Limits>,
    action: LimitedAction = 'send',
  ): OwnLimits => ({
    action,
    source,
    ...NO_LIMITS,
    ...limits,
  })

  test.each<[string, OwnLimits[], Partial<Limits>, Partial<Limits>]>([
    ['nobody set any: the defaults', [], {}, {}],
    ['staff may raise one by one', [own('staff', { daily: 99n })], { daily: 99n }, { daily: 99n }],
    ['staff may tighten, down to nothing', [own('staff', { daily: 0n })], { daily: 0n }, { daily: 0n }],
    ['self tightens', [own('self', { daily: 5n })], { daily: 5n }, {}],
    ['self may allow nothing', [own('self', { monthly: 0n })], { monthly: 0n }, {}],
    ['self never loosens, no matter what was set once', [own('self', { daily: 99n })], {}, {}],
    [
      'self under staff',
      [own('staff', { daily: 99n }), own('self', { daily: 50n })],
      { daily: 50n },
      { daily: 99n },
    ],
    [
      'staff under self',
      [own('self', { daily: 9n }), own('staff', { daily: 8n })],
      { daily: 8n },
      { daily: 8n },
    ],
    ['those of another action are not looked at', [own('self', { daily: 1n }, 'deposit')], {}, {}],
  ])('%s', (_case, all, limits, ceiling) => {
    expect(limitsInForce('send', defaults, all)).toEqual({
      limits: { ...defaults, ...limits },
      ceiling: { ...defaults, ...ceiling },
    })
  })

  test.each<[Partial<Limits>, keyof Limits | undefined]>([
    [{ perTransaction: 10n, daily: 20n, monthly: 30n }, undefined],
    [{ perTransaction: 0n }, undefined],
    [{}, undefined],
    [{ perTransaction: 11n, daily: 21n }, 'perTransaction'],
    [{ daily: 21n, monthly: 31n }, 'daily'],
    [{ monthly: 31n }, 'monthly'],
  ])('own ones may only tighten: %o is above in %s', (own, kind) =>
    expect(aboveCeiling({ ...NO_LIMITS, ...own }, defaults)?.kind).toBe(kind),
  )

  test('where nothing is the ceiling, nothing is above it', () =>
    expect(aboveCeiling(defaults, NO_LIMITS)).toBeUndefined())
})

test.each<[string, bigint, bigint, bigint, Partial<Limits>, string | undefined]>([
  ['exactly the most in one', 10n, 0n, 0n, { perTransaction: 10n }, undefined],
  ['one more', 11n, 0n, 0n, { perTransaction: 10n, daily: 1n }, 'PER_TRANSACTION_LIMIT_EXCEEDED'],
  ['exactly the rest of the day', 4n, 6n, 6n, { daily: 10n }, undefined],
  ['one more than the day has', 5n, 6n, 6n, { daily: 10n, monthly: 1n }, 'DAILY_LIMIT_EXCEEDED'],
  ['exactly the rest of the month', 4n, 0n, 6n, { daily: 10n, monthly: 10n }, undefined],
  ['one more than the month has', 5n, 0n, 6n, { daily: 10n, monthly: 10n }, 'MONTHLY_LIMIT_EXCEEDED'],
  ['a limit that fell below what is used', 1n, 6n, 6n, { daily: 5n }, 'DAILY_LIMIT_EXCEEDED'],
  ['nothing allowed', 1n, 0n, 0n, { daily: 0n }, 'DAILY_LIMIT_EXCEEDED'],
  ['no limit', MAX_MINOR, MAX_MINOR, MAX_MINOR, {}, undefined],
])('%s', (_case, amount, day, month, limits, code) =>
  expect(breachedLimit({ ...NO_LIMITS, ...limits }, { day, month }, amount)?.code).toBe(code),
)

test('M3: a clock that steps back opens no limit: what is used falls only when a later day or month begins', () => {
  const uses = fc.array(
    fc.record({ amount: fc.bigInt(0n, 1_000n), time: fc.integer({ min: 0, max: 400 * 86_400_000 }) }),
  )
  fc.assert(
    fc.property(uses, uses => {
      let usage = NOTHING_USED
      let latest = 0
      for (const { amount, time } of uses) {
        const before = usedNow(usage, 'send', time)
        const back = time < latest
        const then = usedNow(usage, 'send', latest)
        if (back) expect(before).toEqual(then)
        latest = Math.max(latest, time)
        usage = withUse(usage, 'send', amount, time)
        expect(usedNow(usage, 'send', time)).toEqual({
          day: before.day + amount,
          month: before.month + amount,
        })
      }
    }),
  )
})

describe('what is used', () => {
  const used = (usage: Usage, time: string) => {
    const { day, month } = usedNow(usage, 'send', at(time))
    return [day, month]
  }
  test.each([
    ['in the same moment', '2026-05-31T23:59:59.999', 5n, 5n],
    ['from the first moment of that day', '2026-05-31T00:00:00', 5n, 5n],
    ['after midnight, in another month', '2026-06-01T00:00:00', 0n, 0n],
    ['on the day before, by a clock that stepped back', '2026-05-30T23:59:59.999', 5n, 5n],
    ['in the month before, by a clock that stepped back', '2026-04-30T23:59:59.999', 5n, 5n],
    ['on that day of another month', '2026-07-31T12:00:00', 0n, 0n],
    ['on that day of another year', '2027-05-31T12:00:00', 0n, 0n],
  ])('%s', (_case, time, day, month) =>
    expect(used(withUse(NOTHING_USED, 'send', 5n, at('2026-05-31T23:59:59.999')), time)).toEqual([
      day,
      month,
    ]),
  )

  test("across the year's end and a leap day", () => {
    const newYearsEve = withUse(NOTHING_USED, 'send', 5n, at('2027-12-31T23:59:59'))
    expect(used(newYearsEve, '2028-01-01T00:00:00')).toEqual([0n, 0n])
    const leap = withUse(
      withUse(NOTHING_USED, 'send', 5n, at('2028-02-28T12:00:00')),
      'send',
      6n,
      at('2028-02-29T12:00:00'),
    )
    expect(used(leap, '2028-02-29T23:59:59.999')).toEqual([6n, 11n])
    expect(used(leap, '2028-03-01T00:00:00')).toEqual([0n, 0n])
  })

  test('each action by itself, also where another one begins the day', () => {
    const sent = withUse(NOTHING_USED, 'send', 5n, at('2026-05-30T12:00:00'))
    const both = withUse(sent, 'deposit', 7n, at('2026-05-31T12:00:00'))
    expect(used(both, '2026-05-31T13:00:00')).toEqual([0n, 5n])
    expect(usedNow(both, 'deposit', at('2026-05-31T13:00:00'))).toEqual({ day: 7n, month: 7n })
    expect(usedNow(both, 'withdrawal', at('2026-05-31T13:00:00'))).toEqual({ day: 0n, month: 0n })
  })

  test.each([
    ['the same day', '2026-05-30T23:00:00', 1n, 1n],
    ['another day of the month: the day keeps what was used in it', '2026-05-31T00:00:00', 3n, 4n],
    ['another month', '2026-06-01T00:00:00', 3n, 3n],
    ['the same month of another year', '2027-05-30T12:00:00', 3n, 3n],
  ])('given back on %s', (_case, time, day, month) => {
    const before = withUse(NOTHING_USED, 'send', 5n, at('2026-05-30T12:00:00'))
    const later = time.startsWith('2026-05-30') ? before : withUse(before, 'send', 3n, at(time))
    const given = withoutUse(later, 'send', 4n, at('2026-05-30T12:00:00'), at(time))
    expect(used(given, time)).toEqual([day, month])
    expect(used(withUse(given, 'send', 1n, at(time)), time)).toEqual([day + 1n, month + 1n])
  })

  test('never to less than nothing', () => {
    const given = withoutUse(NOTHING_USED, 'send', 4n, at('2026-05-30T12:00:00'), at('2026-05-30T12:00:00'))
    expect(used(given, '2026-05-30T12:00:00')).toEqual([0n, 0n])
  })

  test('for any uses and give-backs as time goes on: what a ledger of all of them would say', () => {
    const step = fc.record({
      hours: fc.integer({ min: 0, max: 60 }),
      action: fc.constantFrom(...LIMITED_ACTIONS),
      amount: fc.bigInt({ min: 0n, max: 100n }),
      /** Gives back part of an earlier use, if there is one, instead of using. */
      back: fc.option(fc.record({ which: fc.nat(), share: fc.bigInt({ min: 0n, max: 4n }) })),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: 'max' }), steps => {
        let now = at('2027-12-20T00:00:00')
        let usage = NOTHING_USED
        const uses: Array<{ action: LimitedAction; amount: bigint; ms: number }> = []
        for (const { hours, action, amount, back } of steps) {
          now += hours * 3_600_000
          const use = back && uses[back.which % uses.length]
          if (use) {
            const given = (use.amount * back.share) / 4n
            usage = withoutUse(usage, use.action, given, use.ms, now)
            use.amount -= given
          } else {
            usage = withUse(usage, action, amount, now)
            uses.push({ action, amount, ms: now })
          }
          const day = new Date(now).toISOString().slice(0, 10)
          for (const each of LIMITED_ACTIONS) {
            const sum = (length: number) =>
              uses
                .filter(
                  ({ action, ms }) =>
                    action === each && new Date(ms).toISOString().startsWith(day.slice(0, length)),
                )
                .reduce((total, { amount }) => total + amount, 0n)
            expect(usedNow(usage, each, now)).toEqual({ day: sum(10), month: sum(7) })
          }
        }
      }),
      { numRuns: 100 },
    )
  })
})
