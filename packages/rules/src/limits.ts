import { decimalsOf, isCurrency, MAX_MINOR } from '@pennywire/contracts/money.ts'

/** The limited actions: a user sends (transfers and holds), deposits or withdraws money. */
export const LIMITED_ACTIONS = ['send', 'deposit', 'withdrawal'] as const
export type LimitedAction = (typeof LIMITED_ACTIONS)[number]
export const isLimitedAction = (text: string): text is LimitedAction =>
  (LIMITED_ACTIONS as readonly string[]).includes(text)

/** How far a user is verified: it determines the default limits. */
export const TIERS = ['unverified', 'verified'] as const
export type Tier = (typeof TIERS)[number]
export const isTier = (text: string): text is Tier => (TIERS as readonly string[]).includes(text)

/** Maximum amounts in minor units; null: no limit. */
export type Limits = { perTransaction: bigint | null; daily: bigint | null; monthly: bigint | null }

export const NO_LIMITS: Limits = { perTransaction: null, daily: null, monthly: null }

/** Limits set for one wallet: by the user, or by staff, whose limits the user cannot change. */
export type OwnLimits = { action: LimitedAction; source: 'self' | 'staff' } & Limits

/** The limits of wallets without limits of their own, by tier and currency. */
export type LimitDefaults = Record<Tier, (currency: string) => Limits>

export const LIMIT_KINDS = ['perTransaction', 'daily', 'monthly'] as const
export type LimitKind = (typeof LIMIT_KINDS)[number]
export const isLimitKind = (text: string): text is LimitKind =>
  (LIMIT_KINDS as readonly string[]).includes(text)

/**
 * Parses limits from a setting, in major units per transaction/day/month: `USD=2000/5000/20000 JPY=…`, with `*` for
 * every other currency. Throws if the text has another form.
 */
export const parseLimitDefaults = (text: string): ((currency: string) => Limits) => {
  const byCurrency = new Map<string, [bigint, bigint, bigint]>()
  for (const part of text.trim().split(/\s+/)) {
    const match = /^([A-Z]{3}|\*)=(\d{1,15})\/(\d{1,15})\/(\d{1,15})$/.exec(part)
    if (!match || (match[1] !== '*' && !isCurrency(match[1]!))) {
      throw new Error(`"${part}" is not CURRENCY=PER_TRANSACTION/DAY/MONTH in whole major units`)
    }
    byCurrency.set(match[1]!, [BigInt(match[2]!), BigInt(match[3]!), BigInt(match[4]!)])
  }
  const others = byCurrency.get('*')
  if (!others) throw new Error('"*=PER_TRANSACTION/DAY/MONTH" is missing: the limits of every other currency')
  return currency => {
    const inMinor = (major: bigint) => {
      const minor = major * 10n ** BigInt(decimalsOf(currency))
      return minor < MAX_MINOR ? minor : MAX_MINOR
    }
    const [perTransaction, daily, monthly] = byCurrency.get(currency) ?? others
    return { perTransaction: inMinor(perTransaction), daily: inMinor(daily), monthly: inMinor(monthly) }
  }
}

/** The smaller of two limits, where null limits nothing. */
const tighter = (a: bigint | null, b: bigint | null) => (a === null || (b !== null && b < a) ? b : a)

/** The limits in force: staff's replace the defaults, one by one; the user's own may only tighten them. */
export const limitsInForce = (
  action: LimitedAction,
  defaults: Limits,
  own: readonly OwnLimits[],
): { limits: Limits; ceiling: Limits } => {
  const by = (source: 'self' | 'staff') =>
    own.find(limits => limits.action === action && limits.source === source) ?? NO_LIMITS
  const [staff, self] = [by('staff'), by('self')]
  const ceiling = { ...NO_LIMITS }
  const limits = { ...NO_LIMITS }
  for (const kind of LIMIT_KINDS) {
    ceiling[kind] = staff[kind] ?? defaults[kind]
    limits[kind] = tighter(ceiling[kind], self[kind])
  }
  return { limits, ceiling }
}

/** The first of a user's own limits above the ceiling, if any: own limits may only tighten. */
export const aboveCeiling = (
  own: Limits,
  ceiling: Limits,
): { kind: keyof Limits; ceiling: bigint } | undefined => {
  for (const kind of LIMIT_KINDS) {
    const [wanted, most] = [own[kind], ceiling[kind]]
    if (wanted !== null && most !== null && wanted > most) return { kind, ceiling: most }
  }
  return undefined
}

/**
 * A wallet's used amounts, in minor units: in the UTC day `day` (days since 1970) and in its month. Amounts of an
 * earlier period are ignored, so nothing has to be reset.
 */
export type Usage = { day: number; used: Record<LimitedAction, { day: bigint; month: bigint }> }

export const NOTHING_USED: Usage = {
  day: 0,
  used: {
    send: { day: 0n, month: 0n },
    deposit: { day: 0n, month: 0n },
    withdrawal: { day: 0n, month: 0n },
  },
}

const DAY_MS = 86_400_000
const dayOf = (ms: number) => Math.floor(ms / DAY_MS)
const monthOf = (day: number) => new Date(day * DAY_MS).toISOString().slice(0, 7)
const sameMonth = (a: number, b: number) => a === b || monthOf(a) === monthOf(b)
/** The day that counts: a clock that steps back (a failover, NTP) must not reset the usage by an earlier day. */
const todayOf = (usage: Usage, nowMs: number) => Math.max(dayOf(nowMs), usage.day)

/** The used amounts of an action in the day and the month of `nowMs`. */
export const usedNow = (
  usage: Usage,
  action: LimitedAction,
  nowMs: number,
): { day: bigint; month: bigint } => {
  const today = todayOf(usage, nowMs)
  const { day, month } = usage.used[action]
  return { day: usage.day === today ? day : 0n, month: sameMonth(usage.day, today) ? month : 0n }
}

/** The usage after `amount` more. */
export const withUse = (usage: Usage, action: LimitedAction, amount: bigint, nowMs: number): Usage => {
  const used = Object.fromEntries(
    LIMITED_ACTIONS.map(each => [each, usedNow(usage, each, nowMs)]),
  ) as Usage['used']
  used[action] = { day: used[action].day + amount, month: used[action].month + amount }
  return { day: todayOf(usage, nowMs), used }
}

/**
 * The usage once `amount`, counted at `countedMs`, is given back because it was not used after all (a hold was
 * released): subtracted from the periods that are still current, and never below zero.
 */
export const withoutUse = (
  usage: Usage,
  action: LimitedAction,
  amount: bigint,
  countedMs: number,
  nowMs: number,
): Usage => {
  const counted = dayOf(countedMs)
  const today = todayOf(usage, nowMs)
  const now = withUse(usage, action, 0n, nowMs)
  const less = (used: bigint) => (used > amount ? used - amount : 0n)
  const { day, month } = now.used[action]
  now.used[action] = {
    day: counted === today ? less(day) : day,
    month: sameMonth(counted, today) ? less(month) : month,
  }
  return now
}

/** An amount that is counted, or with `countedMs` given back to the limits under which it was counted. */
export type Use = { action: LimitedAction; amount: bigint; atMs: number; countedMs?: number }

const shiftTo = (usage: Usage, day: number): Usage => {
  if (day <= usage.day) return usage
  const month = sameMonth(usage.day, day)
  const used = Object.fromEntries(
    LIMITED_ACTIONS.map(each => [each, { day: 0n, month: month ? usage.used[each].month : 0n }]),
  ) as Usage['used']
  return { day, used }
}

/**
 * As withUse and withoutUse, for uses that do not come in the order in which they were counted. `countedDay` is the
 * day under which the use before this one counted: one in order with it. Sums may be below zero meanwhile.
 */
export const mergeUse = (
  before: Usage,
  { action, amount, atMs, countedMs }: Use,
  countedDay: number,
): { usage: Usage; day: number } => {
  const day = Math.max(dayOf(atMs), countedDay)
  const usage = shiftTo(before, day)
  const signed = countedMs === undefined ? amount : -amount
  const counted = countedMs === undefined ? day : dayOf(countedMs)
  const sums = usage.used[action]
  const inDay = day === usage.day && counted === day
  const inMonth = sameMonth(day, usage.day) && sameMonth(counted, day)
  if (!inDay && !inMonth) return { usage, day }
  const added = { day: sums.day + (inDay ? signed : 0n), month: sums.month + (inMonth ? signed : 0n) }
  return { usage: { day: usage.day, used: { ...usage.used, [action]: added } }, day }
}

/** What a wallet has used that began with the usage of the wallet before it. */
export const inheritUsage = (inherited: Usage, own: Usage): Usage => {
  if (own.day === 0) return inherited
  // Where the clock stepped back, what is used counts under the inherited day.
  const day = Math.max(inherited.day, own.day)
  const before = shiftTo(inherited, day)
  const used = Object.fromEntries(
    LIMITED_ACTIONS.map(each => {
      const { day: ofDay, month } = own.used[each]
      return [each, { day: before.used[each].day + ofDay, month: before.used[each].month + month }]
    }),
  ) as Usage['used']
  return { day, used }
}

export type LimitBreach = {
  code: 'PER_TRANSACTION_LIMIT_EXCEEDED' | 'DAILY_LIMIT_EXCEEDED' | 'MONTHLY_LIMIT_EXCEEDED'
  limit: bigint
  used: bigint
}

/** The first limit that `amount` more would exceed, in the order per transaction, day, month. */
export const breachedLimit = (
  limits: Limits,
  used: { day: bigint; month: bigint },
  amount: bigint,
): LimitBreach | undefined => {
  const { perTransaction, daily, monthly } = limits
  if (perTransaction !== null && amount > perTransaction) {
    return { code: 'PER_TRANSACTION_LIMIT_EXCEEDED', limit: perTransaction, used: 0n }
  }
  if (daily !== null && used.day + amount > daily) {
    return { code: 'DAILY_LIMIT_EXCEEDED', limit: daily, used: used.day }
  }
  if (monthly !== null && used.month + amount > monthly) {
    return { code: 'MONTHLY_LIMIT_EXCEEDED', limit: monthly, used: used.month }
  }
  return undefined
}
