// Invariants of the ledger's and the gateway's tables once a fault is over, beyond those that verify-books proves: each
// hold is active or has ended once, as answered; no wallet holds more than its active holds; no transfer is reversed
// above its amount; every payment has an end. Nothing here does I/O, so that a test can inject wrong states.
import type { Decided } from './judge-answers.ts'

export type Hold = {
  id: string
  type: 'hold' | 'withdrawal'
  status: 'active' | 'captured' | 'voided' | 'expired'
  wallet: string
  amount: bigint
  captured: bigint | null
  /** When it expires, in milliseconds since 1970. */
  until: number | null
}
export type Original = { id: string; amount: bigint; reversed: bigint }
export type Payment = {
  id: string
  kind: 'deposit' | 'withdrawal'
  status: 'created' | 'ordering' | 'pending' | 'confirmed' | 'failed' | 'returned'
  /** The gateway has recorded that nothing is left to do. */
  done: boolean
  amount: bigint
  /** The status of its transfer in the ledger; null: the ledger has no transfer for it. */
  transfer: 'completed' | 'rejected' | null
  hold: Hold['status'] | null
  reversed: bigint
}
export type State = {
  nowMs: number
  holds: Hold[]
  /** The `held` column of each wallet in which it is above zero. */
  held: { wallet: string; held: bigint }[]
  originals: Original[]
  payments: Payment[]
}

/** The timer releases due holds within moments. */
const GRACE_MS = 10_000

/** The sum of each wallet's active holds. */
export const promisedOf = (holds: Hold[]): Map<string, bigint> => {
  const promised = new Map<string, bigint>()
  for (const { status, wallet, amount } of holds)
    if (status === 'active') promised.set(wallet, (promised.get(wallet) ?? 0n) + amount)
  return promised
}

const lieOfHold = (
  { id, type, status, amount, captured, until }: Hold,
  nowMs: number,
): string | undefined => {
  if ((captured ?? 0n) > amount) return `hold ${id}: ${captured} taken of ${amount}`
  if ((status === 'captured') !== (captured ?? 0n) > 0n) return `hold ${id}: ${status}, but ${captured} taken`
  if (status !== 'active') return undefined
  if (type === 'withdrawal') return `hold ${id}: of a withdrawal, and it has not ended`
  return until === null || until + GRACE_MS > nowMs
    ? undefined
    : `hold ${id}: over its time, and it has not ended`
}

/** Whether a hold was ended once, by a decided request. `ends`: the captures and voids of this hold, as decided. */
const lieOfEnds = ({ id, type, status, captured }: Hold, ends: Decided[]): string | undefined => {
  if (type === 'withdrawal') return undefined
  const done = ends.filter(end => end.status === 'completed')
  if (done.length > 1) return `hold ${id}: ended ${done.length} times`
  const [end] = done
  const by = { capture: 'captured', void: 'voided' }[end?.type ?? '']
  if (by !== (status === 'captured' || status === 'voided' ? status : undefined))
    return `hold ${id}: ${status}, but by the answers ${by ?? 'nobody ended it'}`
  if (by === 'captured' && end!.amount !== captured)
    return `hold ${id}: ${captured} taken, by the answer ${end!.amount}`
  return undefined
}

const lieOfPayment = (payment: Payment): string | undefined => {
  const { id, kind, status, done, transfer, hold } = payment
  const what = `payment ${id} (${kind}, ${status})`
  if (!done || ['created', 'ordering', 'pending'].includes(status)) return `${what}: it has no end`
  const paid = transfer === 'completed'
  if (paid !== (status === 'confirmed' || status === 'returned'))
    return `${what}: the ledger has it as ${transfer ?? 'none'}`
  if (status === 'failed' && (hold === 'active' || hold === 'captured')) return `${what}: its hold is ${hold}`
  if (kind === 'withdrawal' && payment.reversed !== (status === 'returned' ? payment.amount : 0n))
    return `${what}: ${payment.reversed} of ${payment.amount} came back`
  return undefined
}

/** All errors in the tables, given the outcomes of this fault's requests. */
export const judgeState = (state: State, decided: ReadonlyMap<string, Decided>): string[] => {
  const outcomes = [...decided.values()]
  const ends = Map.groupBy(
    outcomes.filter(({ type }) => type === 'capture' || type === 'void'),
    ({ of }) => of,
  )
  const givenBack = new Map<string, bigint>()
  for (const { type, status, of, amount } of outcomes)
    if (type === 'reversal' && status === 'completed')
      givenBack.set(of!, (givenBack.get(of!) ?? 0n) + amount!)
  const promised = promisedOf(state.holds)
  const held = new Map(state.held.map(each => [each.wallet, each.held]))
  const all = [
    ...state.holds.map(hold => lieOfHold(hold, state.nowMs)),
    // Only this fault's holds: the answers of earlier faults are not kept.
    ...state.holds.filter(({ id }) => decided.has(id)).map(hold => lieOfEnds(hold, ends.get(hold.id) ?? [])),
    ...[...new Set([...promised.keys(), ...held.keys()])].map(wallet => {
      const [has, should] = [held.get(wallet) ?? 0n, promised.get(wallet) ?? 0n]
      return has === should ? undefined : `wallet ${wallet}: holds ${has}, its active holds are ${should}`
    }),
    ...state.originals.map(({ id, amount, reversed }) =>
      reversed > amount ? `transfer ${id}: ${reversed} of ${amount} given back` : undefined,
    ),
    ...[...givenBack].map(([id, amount]) => {
      const reversed = state.originals.find(original => original.id === id)?.reversed ?? 0n
      return reversed === amount
        ? undefined
        : `transfer ${id}: ${reversed} given back, by the answers ${amount}`
    }),
    ...state.payments.map(lieOfPayment),
  ]
  return all.filter(lie => lie !== undefined)
}
