import type { LedgerCommandName, LedgerEventName, Records } from '@pennywire/contracts/schemas.ts'
import type { Effects, Original, Wallet } from '@pennywire/rules/decide.ts'
import type { LimitBreach, OwnLimits, Tier, Usage } from '@pennywire/rules/limits.ts'
import type { BatchState } from '../batch-state.ts'
import type { HoldRow } from '../store.ts'

/** Handles one type of command. A type without a handler does not compile (index.ts). */
export type Handler<Name extends LedgerCommandName> = {
  /** The id and fingerprint under which the command's one outcome is recorded. */
  identify: (command: Records[Name], outcomes: BatchState['outcomes']) => Identity
  /** The rows to lock and read before the decision: derived from the command alone. */
  reads: (command: Records[Name]) => Reads
  /** Decides the command by the rules. Changes nothing. */
  decide: (state: BatchState, command: Records[Name], at: At) => Decided | Refused
  /** The event that finally refuses the command. */
  refuse: (state: BatchState, command: Records[Name], at: At, why: Refused) => Decided
}

/** A command's identity: a repeat has the same id and fingerprint, another request under its id another fingerprint. */
export type Identity = { id: string; fingerprint: Buffer }
/** The identity and the partition under which a command is decided. */
export type At = Identity & { partition: number }

export type Reads = {
  /** Ids that may have an outcome already. */
  ids: string[]
  /** Wallets to lock. */
  wallets: (string | null)[]
  /** Wallets whose own limits are needed: those that pay, are closed, or get other limits. */
  limited?: string[]
  /** If set, the partition's external and suspense wallets in this currency are locked. */
  systemCurrency?: string
  holds?: string[]
  originals?: string[]
  /** Users who open a wallet. */
  openers?: string[]
}

/** Why the rules refuse a command. */
export type Refused = { code: string; detail: string; breach?: LimitBreach }

/** The data that `record-event.ts` needs beside an event to change the books. */
type Beside = Record<LedgerEventName, object> & {
  'pennywire.ledger.TransferCompleted': { effects: Effects; hold?: HoldRow }
  'pennywire.ledger.TransferReversed': { effects: Effects; original: Original }
  'pennywire.ledger.HoldPlaced': { effects: Effects }
  'pennywire.ledger.HoldEnded': { effects: Effects; hold: HoldRow }
  'pennywire.ledger.WalletOpened': { tier: Tier; usage: Usage; ownLimits: OwnLimits[] }
  'pennywire.ledger.WalletFrozen': { freezeSource: Wallet['freezeSource'] }
  'pennywire.ledger.LimitChanged': { limits: OwnLimits | null; tier: Tier | null }
}

/** A command's one event, and its effects on the books. */
export type DecidedAs<Name extends LedgerEventName> = {
  type: Name
  value: Records[Name]
  /** The subject of the event: the `ce_subject` of its record. */
  subject: string
} & Beside[Name]
export type Decided = { [Name in LedgerEventName]: DecidedAs<Name> }[LedgerEventName]

/** The identity of a command that has a `commandId`. */
export const byCommandId = ({ commandId, fingerprint }: { commandId: string; fingerprint: Buffer }) => ({
  id: commandId,
  fingerprint,
})

/** Refuses a command that is no transfer. */
export const commandRefused =
  (name: LedgerCommandName) =>
  (state: BatchState, _command: unknown, { id, fingerprint }: At, { code, detail }: Refused): Decided => ({
    type: 'pennywire.ledger.CommandRefused',
    value: {
      commandId: id,
      commandType: name.slice(name.lastIndexOf('.') + 1),
      code,
      detail,
      fingerprint,
      refusedAt: state.now.getTime(),
    },
    subject: id,
  })
