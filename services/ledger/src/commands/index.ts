import type { LedgerCommandName } from '@pennywire/contracts/schemas.ts'
import type { Handler } from './handler.ts'
import { holdCaptureRequested, holdVoidRequested } from './hold.ts'
import { limitChangeRequested } from './limits.ts'
import { reversalRequested } from './reversal.ts'
import { transferRequested } from './transfer.ts'
import { WALLET_HANDLERS } from './wallet.ts'

/** One handler per command type. A type without a handler does not compile. */
export const HANDLERS: { [Name in LedgerCommandName]: Handler<Name> } = {
  'pennywire.ledger.TransferRequested': transferRequested,
  'pennywire.ledger.HoldCaptureRequested': holdCaptureRequested,
  'pennywire.ledger.HoldVoidRequested': holdVoidRequested,
  'pennywire.ledger.ReversalRequested': reversalRequested,
  ...WALLET_HANDLERS,
  'pennywire.ledger.LimitChangeRequested': limitChangeRequested,
}
