// The rows to lock and read before a batch is decided: derived from its commands, without reading the books.
import type { LedgerCommandName, Records } from '@pennywire/contracts/schemas.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Reads } from './commands/handler.ts'
import { HANDLERS } from './commands/index.ts'
import type { Command } from './read-command.ts'
import type { SystemWallet } from './store.ts'
import { systemWalletOf } from './system-wallets.ts'

export type ReceivedCommand = { record: IncomingRecord; command: Command }

export type LockSet = Required<Omit<Reads, 'wallets' | 'systemCurrency'>> & {
  wallets: string[]
  /** The external and suspense wallets of the commands' own partitions, without successors. */
  systemWallets: Map<string, SystemWallet>
}

export const lockSetOf = (commands: readonly ReceivedCommand[]): LockSet => {
  const set: LockSet = {
    ids: [],
    wallets: [],
    limited: [],
    systemWallets: new Map(),
    holds: [],
    originals: [],
    openers: [],
  }
  const wallets = new Set<string>()
  for (const { record, command } of commands) {
    if (command.type === 'poison' || command.type === 'unsigned') continue
    const reads = readsOf(command)
    set.ids.push(...reads.ids)
    set.limited.push(...(reads.limited ?? []))
    set.holds.push(...(reads.holds ?? []))
    set.originals.push(...(reads.originals ?? []))
    set.openers.push(...(reads.openers ?? []))
    for (const id of reads.wallets) if (id !== null) wallets.add(id)
    if (reads.systemCurrency === undefined) continue
    for (const kind of ['external', 'suspense'] as const) {
      const wallet = systemWalletOf({ kind, currency: reads.systemCurrency, partition: record.partition })
      set.systemWallets.set(wallet.id, wallet)
      wallets.add(wallet.id)
    }
  }
  set.wallets = [...wallets]
  return set
}

const readsOf = <Name extends LedgerCommandName>({
  type,
  value,
}: {
  type: Name
  value: Records[Name]
}): Reads => HANDLERS[type].reads(value)
