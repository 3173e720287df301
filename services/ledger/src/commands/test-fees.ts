// For tests: adds fees to decisions already made, so that events, rows and checks cover decisions of several movements.
// A transfer costs its sender a fee, a captured hold its recipient; some recipients also get a bonus.
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import { type LinkedMovement, move } from '@pennywire/rules/decide.ts'
import { systemWallets } from '../batch-state.ts'
import type { Handler } from './handler.ts'
import { holdCaptureRequested } from './hold.ts'
import { HANDLERS } from './index.ts'
import { transferRequested } from './transfer.ts'
import { entriesOf, linkedOf } from './transfer-events.ts'

/** A fee, in minor units. */
export const feeOf = (amount: bigint): bigint => 1n + amount / 100n
/** Whether a bonus of one minor unit comes with a transfer of this amount. */
export const hasBonus = (amount: bigint): boolean => amount % 2n === 0n

const withFee = <Name extends 'pennywire.ledger.TransferRequested' | 'pennywire.ledger.HoldCaptureRequested'>(
  handler: Handler<Name>,
): Handler<Name> => ({
  ...handler,
  reads: command => ({ ...handler.reads(command), systemCurrency: command.currency }),
  decide: (state, command, at) => {
    const decided = handler.decide(state, command, at)
    if (!('type' in decided) || decided.type !== 'pennywire.ledger.TransferCompleted') return decided
    const [own] = decided.effects.movements
    const { transferId, type, amountMinor: amount, currency, holdMinor } = decided.value
    if (type !== 'transfer' || !own) return decided
    const [{ wallet: from }, { wallet: to }] = own.postings
    const fee = feeOf(amount)
    const { outside } = systemWallets(state, at.partition, currency, fee)
    const payer = holdMinor === null ? from : to
    const available = payer.balance - payer.held + (payer === from ? -amount : amount)
    const after = to.balance + amount - (payer === to ? fee : 0n)
    // A payer who cannot afford the fee does not pay it: the fee must not change the transfer's outcome.
    const linked: LinkedMovement[] = []
    if (available >= fee) linked.push({ ...move(payer, outside, fee), type: 'fee' })
    if (available >= fee && hasBonus(amount) && after < MAX_MINOR)
      linked.push({ ...move(outside, to, 1n), type: 'bonus' })
    const effects = { ...decided.effects, movements: [own, ...linked] } as const
    const value = { ...decided.value, entries: entriesOf(effects), linked: linkedOf(transferId, effects) }
    return { ...decided, effects, value }
  },
})

/** Turns fees on or off in this process. */
export const chargeFees = (on: boolean): void => {
  HANDLERS['pennywire.ledger.TransferRequested'] = on ? withFee(transferRequested) : transferRequested
  HANDLERS['pennywire.ledger.HoldCaptureRequested'] = on
    ? withFee(holdCaptureRequested)
    : holdCaptureRequested
}
