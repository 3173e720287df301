import type { LedgerCommandName } from '@pennywire/contracts/schemas.ts'
import type { Handler } from './handler.ts'
import { holdCaptureRequested, holdVoidRequested } from './hold.ts'
import { limitChangeRequested } from './limits.ts'
import { reversalRequested } from './reversal.ts'
import { transferRequested } from './transfer.ts'
import {
  walletCloseRequested,
  walletFreezeRequested,
  walletOpenRequested,
  walletRenameRequested,
  walletUnfreezeRequested,
} from './wallet.ts'

/** All commands. One without a row does not compile. */
export const HANDLERS: { [Name in LedgerCommandName]: Handler<Name> } = {
  'pennywire.ledger.TransferRequested': transferRequested,
  'pennywire.ledger.HoldCaptureRequested': holdCaptureRequested,
  'pennywire.ledger.HoldVoidRequested': holdVoidRequested,
  'pennywire.ledger.ReversalRequested': reversalRequested,
  'pennywire.ledger.WalletOpenRequested': walletOpenRequested,
  'pennywire.ledger.WalletFreezeRequested': walletFreezeRequested,
  'pennywire.ledger.WalletUnfreezeRequested': walletUnfreezeRequested,
  'pennywire.ledger.WalletCloseRequested': walletCloseRequested,
  'pennywire.ledger.WalletRenameRequested': walletRenameRequested,
  'pennywire.ledger.LimitChangeRequested': limitChangeRequested,
}
