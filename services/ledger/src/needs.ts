// What must be locked and read before a command can be decided: by what it says, without a look at the books.
import { displacedDepositIdOf, externalWalletId, suspenseWalletId } from '@pennywire/contracts/ids.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Asked } from './read-command.ts'
import type { SystemWallet } from './store.ts'

export type Command = { record: IncomingRecord; asked: Asked }

export type Needs = {
  /** Ids under which something may have been decided before. */
  ids: string[]
  wallets: string[]
  /** Wallets whose own limits matter: those that pay, are closed, or get other limits. */
  limited: string[]
  /** The outside world's and the suspense wallets of the commands' own partitions. */
  systemWallets: Map<string, SystemWallet>
  holds: string[]
  originals: string[]
  /** Users who open a wallet. */
  openers: string[]
}

export const needsOf = (commands: readonly Command[]): Needs => {
  const needs: Needs = {
    ids: [],
    wallets: [],
    limited: [],
    systemWallets: new Map(),
    holds: [],
    originals: [],
    openers: [],
  }
  const wallets = new Set<string>()
  const want = (...ids: (string | null)[]) => {
    for (const id of ids) if (id !== null) wallets.add(id)
  }
  const wantSystem = (currency: string, partition: number) => {
    const suffix = `${currency}:${String(partition).padStart(2, '0')}`
    const external = externalWalletId(currency, partition)
    const suspense = suspenseWalletId(currency, partition)
    needs.systemWallets.set(external, { id: external, system: `external:${suffix}`, currency })
    needs.systemWallets.set(suspense, { id: suspense, system: `suspense:${suffix}`, currency })
    want(external, suspense)
  }
  for (const { record, asked } of commands) {
    switch (asked.type) {
      case 'poison':
      case 'unsigned':
        break
      case 'pennywire.ledger.TransferRequested': {
        const { transferId, type, fromWalletId, toWalletId, currency } = asked.value
        needs.ids.push(transferId)
        want(fromWalletId, toWalletId)
        if (type === 'deposit') {
          needs.ids.push(displacedDepositIdOf(transferId))
          wantSystem(currency, record.partition)
        } else if (fromWalletId !== null) needs.limited.push(fromWalletId)
        break
      }
      case 'pennywire.ledger.ReversalRequested': {
        const { transferId, originalId, fromWalletId, toWalletId, currency } = asked.value
        needs.ids.push(transferId)
        needs.originals.push(originalId)
        want(fromWalletId, toWalletId)
        wantSystem(currency, record.partition)
        break
      }
      case 'pennywire.ledger.HoldCaptureRequested': {
        const { commandId, holdId, walletId, toWalletId, currency } = asked.value
        needs.ids.push(commandId)
        needs.holds.push(holdId)
        want(walletId, toWalletId)
        if (toWalletId === null) wantSystem(currency, record.partition)
        break
      }
      case 'pennywire.ledger.HoldVoidRequested':
        needs.ids.push(asked.value.commandId)
        needs.holds.push(asked.value.holdId)
        want(asked.value.walletId, asked.value.toWalletId)
        break
      case 'pennywire.ledger.WalletOpenRequested':
        needs.ids.push(asked.value.commandId)
        needs.openers.push(asked.value.userId)
        // Should another wallet have its id, that is seen.
        want(asked.value.walletId)
        break
      // The next wallet in its currency goes on with the limits of the one that is closed.
      case 'pennywire.ledger.WalletCloseRequested':
      case 'pennywire.ledger.LimitChangeRequested':
        needs.limited.push(asked.value.walletId)
        needs.ids.push(asked.value.commandId)
        want(asked.value.walletId)
        break
      case 'pennywire.ledger.WalletFreezeRequested':
      case 'pennywire.ledger.WalletUnfreezeRequested':
        needs.ids.push(asked.value.commandId)
        want(asked.value.walletId)
        break
    }
  }
  needs.wallets = [...wallets]
  return needs
}
