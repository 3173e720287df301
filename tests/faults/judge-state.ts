// What must hold of the ledger's and the gateway's tables once a fault is over, beyond what verify-books proves: each
// hold stands or has ended once, by what its end was told to be; nobody holds more than was promised; nothing is given
// back above what was paid; every payment has an end. Nothing here asks anybody, so that a test can plant lies.
import type { Decided } from './judge-answers.ts'

export type Hold = {
  id: string
  type: 'hold' | 'withdrawal'
  status: 'active' | 'captured' | 'voided' | 'expired'
  wallet: string
  amount: bigint
  captured: bigint | null
  /** When it ends by itself, in milliseconds since 1970. */
  until: number | null
}
export type Original = { id: string; amount: bigint; reversed: bigint }
export type Payment = {
  id: string
  kind: 'deposit' | 'withdrawal'
  status: 'created' | 'ordering' | 'pending' | 'confirmed' | 'failed' | 'returned'
  /** The gateway knows that nothing is left to do. */
  done: boolean
  amount: bigint
  /** How the ledger has it; null: as none that moved or was refused. */
  transfer: 'completed' | 'rejected' | null
  hold: Hold['status'] | null
  reversed: bigint
}
export type State = {
  nowMs: number
  holds: Hold[]
  /** What each wallet that holds anything says that it holds. */
  held: { wallet: string; held: bigint }[]
  originals: Original[]
  payments: Payment[]
}

/** The timer lets go of what is due within moments. */
const GRACE_MS = 10_000

/** What is promised of each wallet. */
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

/** Whether what ended a hold is what was asked for, and that once. `ends`: the captures and voids of each, as decided. */
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

/** All that is wrong with the tables, given what was decided of this fault's requests. */
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
    // Of earlier faults' holds the answers are forgotten.
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
