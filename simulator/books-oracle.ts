// The expected books, built a second time from the events alone: checks the effects of every decision, and whether each
// refusal is justified. It implements the rules as documented for users, independently of the ledger's code.
import { type SystemWalletKind, systemWalletId } from '@pennywire/contracts/ids.ts'
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { AnyRecord, Records } from '@pennywire/contracts/schemas.ts'
import {
  LIMITED_ACTIONS,
  type LimitDefaults,
  type LimitedAction,
  type Limits,
  type Usage,
} from '../packages/rules/src/limits.ts'
import { feeOf, hasBonus } from '../services/ledger/src/commands/test-fees.ts'
import type { Earlier, JournalRow, LimitRow, TransferRow } from '../services/ledger/src/store.ts'
import { BrokenPromise, decodeNow, hold } from './broken-promise.ts'
import { type Changes, isRefusedWallet, type Tables } from './ledger-tables.ts'
import { insertedIn } from './postgres.ts'

/** A command as it was appended to the topic. */
export type AppendedCommand = AnyRecord & { value: { fingerprint?: Buffer } }

type State = {
  userId: string | null
  currency: string
  status: 'active' | 'frozen' | 'closed'
  freezeSource: 'self' | 'pin' | 'staff' | null
  balance: bigint
  held: bigint
  sequence: number
}
type Held = {
  type: 'hold' | 'withdrawal'
  status: 'active' | 'captured' | 'voided' | 'expired'
  walletId: string
  toWalletId: string | null
  amount: bigint
  currency: string
  placedMs: number
  untilMs: number | null
}
type Entries = Records['pennywire.ledger.TransferCompleted']['entries']
/** A linked movement that is due with a transfer. */
type Due = { type: string; fromWallet: string; toWallet: string; amount: bigint }

const KINDS = ['perTransaction', 'daily', 'monthly'] as const
const CODES = {
  perTransaction: 'PER_TRANSACTION_LIMIT_EXCEEDED',
  daily: 'DAILY_LIMIT_EXCEEDED',
  monthly: 'MONTHLY_LIMIT_EXCEEDED',
} as const
const STRENGTH = { self: 1, pin: 2, staff: 3 }
const EXPECTED_REVERSED_BY: Record<string, string> = {
  transfer: 'staff',
  deposit: 'staff',
  withdrawal: 'provider',
}
const dayOf = (ms: number) => new Date(ms).toISOString().slice(0, 10)
const monthOf = (ms: number) => new Date(ms).toISOString().slice(0, 7)
const DAY_MS = 86_400_000

export const createBooksWatch = (deps: {
  tables: () => Tables
  limitDefaults: LimitDefaults
  /** The largest balance of a system wallet. */
  systemBound: bigint
  /** Whether transfers cost a fee (test-fees.ts). */
  fees: boolean
  /** The command that was requested under an id with this fingerprint. */
  commandWith: (id: string, fingerprint: Buffer | null) => AppendedCommand | undefined
}) => {
  const { tables } = deps
  const holds = new Map<string, Held>()
  const heldOf = new Map<string, bigint>()
  const reversed = new Map<string, bigint>()
  /** The amounts counted against limits, by user, currency, action and UTC day or month. */
  const used = new Map<string, bigint>()
  /** The last UTC day (days since 1970) on which an amount was counted for a user in a currency. */
  const countedOn = new Map<string, number>()
  const ownLimits = new Map<string, Limits>()
  const tiers = new Map<string, 'unverified' | 'verified'>()
  const labels = new Map<string, Buffer | null>()

  // --- limits ---

  /** The latest `ce_time` of any event. */
  let latestMs = 0

  const purse = ({ userId, currency }: State) => `${userId} ${currency}`
  /** A day on which an amount was counted is not followed by an earlier one, even if the clock steps back. */
  const neverEarlier = (of: State, ms: number) => Math.max(ms, (countedOn.get(purse(of)) ?? 0) * DAY_MS)
  const periods = (of: State, action: LimitedAction, ms: number) => [
    `${purse(of)} ${action} ${dayOf(ms)}`,
    `${purse(of)} ${action} ${monthOf(ms)}`,
  ]
  const count = (of: State, action: LimitedAction, amount: bigint, ms: number) => {
    for (const period of periods(of, action, ms)) used.set(period, (used.get(period) ?? 0n) + amount)
  }
  const countNow = (of: State, action: LimitedAction, amount: bigint, nowMs: number) => {
    const countedMs = neverEarlier(of, nowMs)
    countedOn.set(purse(of), Math.floor(countedMs / DAY_MS))
    count(of, action, amount, countedMs)
  }
  const limitOf = (of: State, action: LimitedAction, kind: keyof Limits, source?: 'staff') => {
    const own = (by: string) => ownLimits.get(`${purse(of)} ${action} ${by}`)?.[kind] ?? null
    const standard = deps.limitDefaults[tiers.get(purse(of)) ?? 'unverified'](of.currency)[kind]
    const ceiling = own('staff') ?? standard
    const self = own('self')
    return source === 'staff' || self === null || (ceiling !== null && ceiling < self) ? ceiling : self
  }
  const breachOf = (of: State, action: LimitedAction, amount: bigint, nowMs: number) => {
    const [day, month] = periods(of, action, neverEarlier(of, nowMs)).map(period => used.get(period) ?? 0n)
    const usedOf = { perTransaction: 0n, daily: day!, monthly: month! }
    for (const kind of KINDS) {
      const limit = limitOf(of, action, kind)
      if (limit !== null && usedOf[kind] + amount > limit)
        return { code: CODES[kind], limit, used: usedOf[kind] }
    }
    return undefined
  }

  /** A wallet's stored usage of its limits is the amount moved. */
  const checkUsage = (id: string, of: State, usage: Usage) => {
    const last = countedOn.get(purse(of)) ?? 0
    hold(
      usage.day >= last,
      'M4',
      () => `wallet ${id} counts what was used of day ${usage.day}, it moved on day ${last}`,
    )
    hold(
      usage.day * DAY_MS <= latestMs,
      'M4',
      () => `wallet ${id} counts what was used of day ${usage.day}, which has not begun`,
    )
    countedOn.set(purse(of), usage.day)
    for (const action of LIMITED_ACTIONS) {
      const counted = periods(of, action, usage.day * DAY_MS).map(period => used.get(period) ?? 0n)
      const { day, month } = usage.used[action]
      hold(
        day === counted[0] && month === counted[1],
        'M4',
        () =>
          `wallet ${id} has used ${day} of a day and ${month} of a month (${action}), it moved ${counted.join(' and ')}`,
      )
    }
  }

  /** A wallet has the limits that were set on it, and those of the wallet that it replaces. */
  const checkLimits = (id: string, of: State, kept: LimitRow[]) => {
    for (const action of LIMITED_ACTIONS) {
      for (const source of ['self', 'staff']) {
        const told = ownLimits.get(`${purse(of)} ${action} ${source}`)
        const row = kept.find(limits => limits.action === action && limits.source === source)
        hold(
          KINDS.every(kind => (row?.[kind] ?? null) === (told?.[kind] ?? null)),
          'M4',
          () => `wallet ${id} has not the limits of ${action} that ${source} set`,
        )
      }
    }
  }

  // --- one commit ---

  return {
    activeHolds: (): [string, Held][] => [...holds].filter(([, { status }]) => status === 'active'),

    /** Checks all changes of a commit against the rules, event by event in the order of the decisions. */
    committing: (changes: Changes) => {
      const running = new Map<string, State>()
      const openedRows = new Map(insertedIn(changes.wallets).map(wallet => [wallet.id, wallet]))
      const find = (id: string | null): State | undefined => {
        if (id === null) return undefined
        const known = running.get(id)
        if (known) return known
        const row = tables().wallets.get(id)
        const opened = openedRows.get(id)
        // A system wallet exists as soon as it is inserted; a user's only once its opening is decided.
        const from = row ?? (opened?.system ? { ...opened, balance: 0n, held: 0n, sequence: 0 } : undefined)
        if (!from) return undefined
        const { userId, currency, status, freezeSource, balance, held, sequence } = from
        const state = { userId, currency, status, freezeSource, balance, held, sequence }
        running.set(id, state)
        return state
      }
      const at = (id: string): State => {
        const state = find(id)
        hold(state, 'M2', () => `something is decided of wallet ${id}, which does not exist`)
        return state
      }
      const placeOf = ({ partition, seq }: { partition: number; seq: bigint }) => `${partition} ${seq}`
      const [linkedRows, ownRows] = [true, false].map(isLinked =>
        insertedIn(changes.transfers).filter(({ linkedTo }) => (linkedTo !== null) === isLinked),
      ) as [TransferRow[], TransferRow[]]
      const transfers = new Map(ownRows.map(row => [placeOf(row), row]))
      const linkedAt = Map.groupBy(linkedRows, placeOf)
      const commands = new Map(insertedIn(changes.commands).map(row => [`${row.partition} ${row.seq}`, row]))
      const entriesOf = Map.groupBy(insertedIn(changes.entries), entry => entry.transferId)
      const placed = new Map(insertedIn(changes.holds).map(row => [row.id, row]))
      const ends = new Map(
        [...changes.holds.values()].flatMap(({ after }) =>
          after.status === 'active' ? [] : [[after.id, after]],
        ),
      )
      const reversals = new Map(insertedIn(changes.reversals).map(row => [row.transferId, row]))

      const standsAboveZero = (id: string, what: string) => {
        const state = at(id)
        hold(
          state.held >= 0n && (state.userId === null || state.balance - state.held >= 0n),
          'M3',
          () => `${what} leaves wallet ${id} with ${state.balance}, of which ${state.held} are held`,
        )
      }
      type Of = Pick<TransferRow, 'currency' | 'partition'>
      const isWithinBound = (balance: bigint) => balance <= deps.systemBound && balance >= -deps.systemBound
      /** The first of a system wallet and its successors that has room for this change of its balance. */
      const systemWalletFor = (
        kind: SystemWalletKind,
        { currency, partition }: Of,
        change: bigint,
      ): string => {
        hold(isWithinBound(change), 'M3', () => `no system wallet can hold ${change}`)
        for (let successor = 0; ; successor++) {
          const id = systemWalletId(kind, currency, partition, successor)
          if (isWithinBound((find(id)?.balance ?? 0n) + change)) return id
        }
      }

      const canReceive = ({ status, freezeSource }: State) =>
        status === 'active' || (status === 'frozen' && freezeSource !== 'staff')

      /** M1, M2: two entries that sum to zero, each continuing from its wallet's last entry. */
      const move = (row: TransferRow, told: Entries) => {
        const { id, amount } = row
        const entries = entriesOf.get(id) ?? []
        entriesOf.delete(id)
        hold(
          entries.length === 2 && entries.reduce((sum, entry) => sum + entry.amount, 0n) === 0n,
          'M1',
          () => `the entries of transfer ${id} are ${entries.map(entry => entry.amount).join(', ')}`,
        )
        for (const [index, [walletId, sequence, moved]] of (
          [
            [row.fromWallet, row.fromSequence, -amount],
            [row.toWallet, row.toSequence, amount],
          ] as const
        ).entries()) {
          const state = at(walletId!)
          if (state.userId === null) {
            hold(
              isWithinBound(state.balance + moved),
              'M3',
              () => `transfer ${id} leaves system wallet ${walletId} with ${state.balance + moved}`,
            )
            const isFirst = () =>
              (['external', 'suspense'] as const).some(kind => systemWalletFor(kind, row, moved) === walletId)
            // A bonus comes from the wallet that took the fee.
            hold(
              row.linkedTo !== null || isFirst(),
              'M3',
              () =>
                `transfer ${id} moves ${moved} of system wallet ${walletId}, which is not the first with room`,
            )
          }
          state.balance += moved
          state.sequence++
          const entry = entries.find(entry => entry.walletId === walletId)
          hold(
            entry &&
              entry.amount === moved &&
              entry.sequence === state.sequence &&
              entry.sequence === sequence &&
              entry.balanceAfter === state.balance,
            'M2',
            () =>
              `wallet ${walletId} goes on with entry ${entry?.sequence} over ${entry?.amount} to ${entry?.balanceAfter}, expected ${state.sequence} over ${moved} to ${state.balance}`,
          )
          const fields = told[index]
          hold(
            fields &&
              fields.walletId === walletId &&
              fields.amountMinor === moved &&
              fields.sequence === state.sequence &&
              fields.balanceAfterMinor === state.balance,
            'O1',
            () => `the event of transfer ${id} tells another entry than the books`,
          )
        }
      }

      /** M1, O1: the transfer's own movement and the linked ones, all contained in its one event, in their order. */
      const moveAll = (
        row: TransferRow,
        event: Pick<Records['pennywire.ledger.TransferCompleted'], 'entries' | 'linked'>,
        due: () => Due[],
      ) => {
        const { entries, linked } = event
        move(row, entries.slice(0, 2))
        const came = linkedAt.get(placeOf(row)) ?? []
        linkedAt.delete(placeOf(row))
        const expected = due()
        hold(
          linked.length === expected.length &&
            came.length === expected.length &&
            entries.length === 2 * (expected.length + 1),
          'M1',
          () =>
            `${expected.length} movements come with ${row.id}, ${came.length} are written, ${linked.length} told by ${entries.length} entries`,
        )
        for (const [index, { transferId, type }] of linked.entries()) {
          const one = came.find(({ id }) => id === transferId)
          const { fromWallet, toWallet, amount } = expected[index]!
          hold(
            one &&
              one.type === type &&
              type === expected[index]!.type &&
              one.status === 'completed' &&
              one.linkedTo === row.id &&
              one.userId === row.userId &&
              one.fingerprint.equals(row.fingerprint) &&
              one.decidedAt.getTime() === row.decidedAt.getTime(),
            'O1',
            () => `event ${placeOf(row)} tells of ${type} ${transferId}, the books otherwise`,
          )
          hold(
            one.fromWallet === fromWallet && one.toWallet === toWallet && one.amount === amount,
            'M4',
            () =>
              `${type} ${one.id} moves ${one.amount} from ${one.fromWallet} to ${one.toWallet}, ${amount} are due`,
          )
          move(one, entries.slice(2 * index + 2, 2 * index + 4))
          standsAboveZero(fromWallet, `${type} ${transferId}`)
        }
      }

      /** The fee and the bonus due with a transfer if fees are charged, by the wallets' balances after it. */
      const feesOf = (
        { type, fromWallet, toWallet, amount, currency, partition }: TransferRow,
        isCapture: boolean,
      ) => {
        if (!deps.fees || type !== 'transfer') return []
        const payer = isCapture ? toWallet! : fromWallet!
        const fee = feeOf(amount)
        const { balance, held } = at(payer)
        if (balance - held < fee) return []
        const outside = systemWalletFor('external', { currency, partition }, fee)
        const due: Due[] = [{ type: 'fee', fromWallet: payer, toWallet: outside, amount: fee }]
        const before = at(toWallet!).balance - (isCapture ? fee : 0n)
        if (hasBonus(amount) && before < MAX_MINOR)
          due.push({ type: 'bonus', fromWallet: outside, toWallet: toWallet!, amount: 1n })
        return due
      }

      const release = (
        id: string,
        held: Held,
        status: Held['status'],
        captured: bigint,
        commandId: string,
      ) => {
        const payer = at(held.walletId)
        const end = ends.get(id)
        ends.delete(id)
        hold(
          end && end.status === status && end.captured === captured && end.endCommand === commandId,
          'X1',
          () => `hold ${id} is ${status} over ${captured} and the books say ${end?.status} ${end?.captured}`,
        )
        held.status = status
        payer.held -= held.amount
        heldOf.set(held.walletId, (heldOf.get(held.walletId) ?? 0n) - held.amount)
        count(payer, held.type === 'hold' ? 'send' : 'withdrawal', captured - held.amount, held.placedMs)
      }
      const activeHold = (id: string): Held => {
        const held = holds.get(id)
        hold(
          held?.status === 'active',
          'X1',
          () => `hold ${id} ends though it is ${held?.status ?? 'not there'}`,
        )
        return held
      }
      const commandBy = <Name extends AnyRecord['type']>(
        name: Name,
        id: string,
        fingerprint: Buffer | null,
      ) => {
        const command = deps.commandWith(id, fingerprint)
        hold(
          command?.type === name,
          'X1',
          () => `${id} is decided, and nobody asked for it so (${command?.type})`,
        )
        return command.value as Records[Name & keyof Records]
      }

      const place = ({ partition, seq }: JournalRow) => `${partition} ${seq}`
      const takeTransfer = (row: JournalRow, id: string, status: TransferRow['status']): TransferRow => {
        const transfer = transfers.get(place(row))
        transfers.delete(place(row))
        // Its id may be in ledger.commands as well.
        if (commands.get(place(row))?.id === id) commands.delete(place(row))
        hold(
          transfer && transfer.status === status && transfer.id === id,
          'O1',
          () => `event ${place(row)} says that ${id} was ${status}, the books say otherwise`,
        )
        return transfer
      }
      const takeCommand = (row: JournalRow, id: string): Earlier => {
        const command = commands.get(place(row))
        commands.delete(place(row))
        hold(command?.id === id, 'O1', () => `event ${place(row)} answers ${id}, the books say otherwise`)
        return command
      }

      const mayPay = (id: string, state: State, amount: bigint, action: LimitedAction, nowMs: number) => {
        hold(state.status === 'active', 'M4', () => `${id} is paid by a wallet that is ${state.status}`)
        hold(
          state.balance - state.held >= amount,
          'M3',
          () =>
            `${id} over ${amount} is paid by a wallet with ${state.balance}, of which ${state.held} are held`,
        )
        const breach = breachOf(state, action, amount, nowMs)
        hold(
          !breach,
          'M4',
          () =>
            `${id} over ${amount} passes a limit of ${breach?.limit}, of which ${breach?.used} are used (${breach?.code})`,
        )
        countNow(state, action, amount, nowMs)
      }

      const replay = (row: JournalRow, event: AnyRecord | undefined) => {
        latestMs = Math.max(latestMs, Date.parse(row.headers.ce_time!))
        switch (event?.type) {
          case 'pennywire.ledger.TransferCompleted': {
            const { transferId: id, amountMinor, completedAt, fingerprint, commandId } = event.value
            const transfer = takeTransfer(row, id, 'completed')
            const { type, fromWallet, toWallet, amount } = transfer
            hold(
              amount === amountMinor &&
                transfer.fingerprint.equals(fingerprint) &&
                transfer.decidedAt.getTime() === completedAt,
              'O1',
              () => `event ${place(row)} tells ${id} otherwise than the books`,
            )
            const [from, to] = [at(fromWallet!), at(toWallet!)]
            if (commandId !== null) {
              const command = takeCommand(row, commandId)
              const request = commandBy(
                'pennywire.ledger.HoldCaptureRequested',
                commandId,
                command.fingerprint,
              )
              const held = activeHold(id)
              hold(
                amount <= held.amount && event.value.holdMinor === held.amount,
                'M4',
                () => `${amount} are captured of hold ${id} over ${held.amount}`,
              )
              hold(
                held.walletId === fromWallet && (held.type === 'withdrawal' || held.toWalletId === toWallet),
                'M4',
                () => `the capture of ${id} moves from ${fromWallet} to ${toWallet}`,
              )
              hold(
                held.type === 'withdrawal'
                  ? request.source === 'provider'
                  : request.source === 'user' && request.userId === to.userId,
                'M4',
                () => `hold ${id} is captured by ${request.source} ${request.userId}`,
              )
              hold(
                held.type === 'withdrawal' || held.untilMs === null || completedAt <= held.untilMs,
                'M4',
                () => `hold ${id} is captured after its time`,
              )
              release(id, held, 'captured', amount, commandId)
            } else if (type === 'transfer') {
              mayPay(id, from, amount, 'send', completedAt)
            } else hold(type === 'deposit', 'M4', () => `${id} of type ${type} moves without a hold`)
            hold(
              to.userId === null || canReceive(to),
              'M4',
              () => `transfer ${id} goes to a wallet that is ${to.status}`,
            )
            if (type === 'deposit' && to.userId !== null) countNow(to, 'deposit', amount, completedAt)
            moveAll(transfer, event.value, () => feesOf(transfer, commandId !== null))
            standsAboveZero(fromWallet!, `transfer ${id}`)
            return
          }
          case 'pennywire.ledger.TransferReversed': {
            const { transferId: id, originalId, amountMinor, source, reversedMinor } = event.value
            const transfer = takeTransfer(row, id, 'completed')
            const request = commandBy('pennywire.ledger.ReversalRequested', id, transfer.fingerprint)
            const original = tables().transfers.get(originalId) ?? changes.transfers.get(originalId)?.after
            hold(
              original?.status === 'completed' &&
                EXPECTED_REVERSED_BY[original.type] === source &&
                request.source === source,
              'M4',
              () => `${id} gives back a ${original?.status} ${original?.type} by ${source}`,
            )
            const sum = (reversed.get(originalId) ?? 0n) + amountMinor
            reversed.set(originalId, sum)
            hold(
              sum <= original.amount && sum === reversedMinor && transfer.amount === amountMinor,
              'M4',
              () => `${sum} of ${originalId} are given back, which was over ${original.amount}`,
            )
            const [from, to] = [at(transfer.fromWallet!), at(transfer.toWallet!)]
            hold(
              (original.type === 'withdrawal'
                ? from.userId === null
                : transfer.fromWallet === original.toWallet) &&
                (original.type === 'deposit' ||
                  to.userId === null ||
                  transfer.toWallet === original.fromWallet),
              'M4',
              () => `${id} gives ${originalId} back from ${transfer.fromWallet} to ${transfer.toWallet}`,
            )
            hold(
              from.status !== 'closed' && to.status !== 'closed',
              'M4',
              () => `${id} moves from a wallet that is ${from.status} to one that is ${to.status}`,
            )
            const kept = reversals.get(id)
            reversals.delete(id)
            hold(
              kept?.originalId === originalId && kept.amount === amountMinor,
              'O1',
              () => `${id} is told and not kept as a reversal`,
            )
            moveAll(transfer, event.value, () => [])
            standsAboveZero(transfer.fromWallet!, `reversal ${id}`)
            return
          }
          case 'pennywire.ledger.TransferRejected': {
            const transfer = takeTransfer(row, event.value.transferId, 'rejected')
            hold(
              !entriesOf.has(transfer.id),
              'M4',
              () => `transfer ${transfer.id} was refused and has entries`,
            )
            hold(
              transfer.rejectionCode === event.value.code,
              'O1',
              () => `event ${place(row)} refuses ${transfer.id} as ${event.value.code}, the books otherwise`,
            )
            checkToldWhole(event.value)
            checkRejection(event.value)
            return
          }
          case 'pennywire.ledger.HoldPlaced': {
            const {
              transferId: id,
              type,
              amountMinor: amount,
              fromWalletId,
              toWalletId,
              placedAt,
            } = event.value
            takeCommand(row, id)
            const kept = placed.get(id)
            placed.delete(id)
            hold(
              kept &&
                kept.amount === amount &&
                kept.walletId === fromWalletId &&
                kept.toWalletId === toWalletId,
              'O1',
              () => `event ${place(row)} says that ${amount} are held for ${id}, the books say otherwise`,
            )
            const from = at(fromWalletId)
            const to = find(toWalletId)
            mayPay(id, from, amount, type === 'hold' ? 'send' : 'withdrawal', placedAt)
            hold(
              type === 'withdrawal' ? toWalletId === null : to && canReceive(to),
              'M4',
              () => `hold ${id} is for a wallet that is ${to?.status}`,
            )
            from.held += amount
            hold(
              event.value.balanceMinor === from.balance &&
                event.value.heldMinor === from.held &&
                event.value.sequence === from.sequence,
              'O1',
              () => `the event of hold ${id} tells ${event.value.heldMinor} held, it is ${from.held}`,
            )
            hold(!holds.has(id), 'X1', () => `hold ${id} is placed twice`)
            holds.set(id, {
              type: kept.type,
              status: 'active',
              walletId: fromWalletId,
              toWalletId,
              amount,
              currency: kept.currency,
              placedMs: placedAt,
              untilMs: event.value.holdUntil,
            })
            heldOf.set(fromWalletId, (heldOf.get(fromWalletId) ?? 0n) + amount)
            standsAboveZero(fromWalletId, `hold ${id}`)
            return
          }
          case 'pennywire.ledger.HoldEnded': {
            const { commandId, holdId: id, reason, endedAt } = event.value
            const command = takeCommand(row, commandId)
            const request = commandBy('pennywire.ledger.HoldVoidRequested', commandId, command.fingerprint)
            const held = activeHold(id)
            const to = find(held.toWalletId)
            const { source } = request
            hold(
              held.type === 'withdrawal'
                ? source === 'provider'
                : source === 'staff' ||
                    source === 'timer' ||
                    (source === 'user' && request.userId === to?.userId),
              'M4',
              () => `${held.type} ${id} is let go by ${source} ${request.userId}`,
            )
            hold(
              source !== 'timer' || (held.untilMs !== null && endedAt > held.untilMs),
              'M4',
              () => `hold ${id} is let go by the timer before its time`,
            )
            hold(
              reason ===
                (source === 'timer' ? 'expired' : source === 'provider' ? 'payment_failed' : 'voided'),
              'O1',
              () => `hold ${id} ends by ${source} and is called ${reason}`,
            )
            release(id, held, source === 'timer' ? 'expired' : 'voided', 0n, commandId)
            const from = at(held.walletId)
            hold(
              event.value.balanceMinor === from.balance && event.value.heldMinor === from.held,
              'O1',
              () => `the end of hold ${id} tells ${event.value.heldMinor} held, it is ${from.held}`,
            )
            standsAboveZero(held.walletId, `the end of hold ${id}`)
            return
          }
          case 'pennywire.ledger.WalletOpened': {
            const { commandId, walletId, userId, currency, tier } = event.value
            takeCommand(row, commandId)
            const opened = openedRows.get(walletId)
            hold(
              opened?.userId === userId && opened.currency === currency && !find(walletId),
              'O1',
              () => `event ${place(row)} says that wallet ${walletId} was opened, the books say otherwise`,
            )
            const state: State = {
              userId,
              currency,
              status: 'active',
              freezeSource: null,
              balance: 0n,
              held: 0n,
              sequence: 0,
            }
            running.set(walletId, state)
            hold(
              tier === 'verified' || tiers.get(purse(state)) !== 'verified',
              'M4',
              () => `wallet ${walletId} is opened as ${tier}, its owner was verified before`,
            )
            if (tier === 'verified') tiers.set(purse(state), tier)
            // A user's next wallet inherits the usage of the last one.
            checkUsage(walletId, state, opened.usage)
            return
          }
          case 'pennywire.ledger.WalletFrozen': {
            const { commandId, walletId, source } = event.value
            const command = takeCommand(row, commandId)
            const request = commandBy(
              'pennywire.ledger.WalletFreezeRequested',
              commandId,
              command.fingerprint,
            )
            const state = at(walletId)
            const { status, freezeSource } = state
            hold(
              status !== 'closed' &&
                request.source === source &&
                (source === 'staff' || request.userId === state.userId) &&
                STRENGTH[source as 'self'] > (freezeSource === null ? 0 : STRENGTH[freezeSource]),
              'M4',
              () =>
                `wallet ${walletId}, ${status} by ${freezeSource}, is frozen by ${source} ${request.userId}`,
            )
            hold(
              event.value.previousSource === freezeSource,
              'M4',
              () => `${walletId} was frozen by ${freezeSource}, not ${event.value.previousSource}`,
            )
            Object.assign(state, { status: 'frozen', freezeSource: source })
            return
          }
          case 'pennywire.ledger.WalletUnfrozen': {
            const { commandId, walletId, source } = event.value
            const command = takeCommand(row, commandId)
            const request = commandBy(
              'pennywire.ledger.WalletUnfreezeRequested',
              commandId,
              command.fingerprint,
            )
            const state = at(walletId)
            const { status, freezeSource } = state
            hold(
              status === 'frozen' &&
                request.source === source &&
                (source === 'staff' || (request.userId === state.userId && source === freezeSource)),
              'M4',
              () =>
                `wallet ${walletId}, ${status} by ${freezeSource}, is freed by ${source} ${request.userId}`,
            )
            hold(
              event.value.previousSource === freezeSource,
              'M4',
              () => `${walletId} was frozen by ${freezeSource}, not ${event.value.previousSource}`,
            )
            Object.assign(state, { status: 'active', freezeSource: null })
            return
          }
          case 'pennywire.ledger.WalletClosed': {
            const { commandId, walletId } = event.value
            const command = takeCommand(row, commandId)
            const request = commandBy('pennywire.ledger.WalletCloseRequested', commandId, command.fingerprint)
            const state = at(walletId)
            hold(
              state.status === 'active' &&
                state.balance === 0n &&
                state.held === 0n &&
                request.userId === state.userId,
              'M4',
              () => `wallet ${walletId} is closed, ${state.status} and with ${state.balance}`,
            )
            state.status = 'closed'
            return
          }
          case 'pennywire.ledger.WalletRenamed': {
            const { commandId, walletId, userId, label } = event.value
            const command = takeCommand(row, commandId)
            const request = commandBy(
              'pennywire.ledger.WalletRenameRequested',
              commandId,
              command.fingerprint,
            )
            const state = at(walletId)
            hold(
              state.status !== 'closed' && request.userId === state.userId && request.userId === userId,
              'M4',
              () => `wallet ${walletId}, ${state.status}, is renamed by ${request.userId}`,
            )
            labels.set(walletId, label)
            return
          }
          case 'pennywire.ledger.LimitChanged': {
            const { commandId, walletId, source, action, tier } = event.value
            const command = takeCommand(row, commandId)
            const request = commandBy('pennywire.ledger.LimitChangeRequested', commandId, command.fingerprint)
            const state = at(walletId)
            hold(
              state.status !== 'closed' &&
                request.source === source &&
                (source !== 'self' || request.userId === state.userId),
              'M4',
              () =>
                `limits of wallet ${walletId}, ${state.status}, are changed by ${source} ${request.userId}`,
            )
            const told = event.value
            if (source === 'kyc') {
              const tierBefore = tiers.get(purse(state)) ?? 'unverified'
              hold(
                told.previousTier === tierBefore,
                'M4',
                () => `${walletId} was ${tierBefore} before, not ${told.previousTier}`,
              )
              tiers.set(purse(state), tier as 'verified')
              return
            }
            const {
              perTransactionMinor: perTransaction,
              dailyMinor: daily,
              monthlyMinor: monthly,
            } = event.value
            const limits = { perTransaction, daily, monthly }
            const limitsBefore = ownLimits.get(`${purse(state)} ${action} ${source}`)
            const asked = {
              perTransaction: request.perTransactionMinor,
              daily: request.dailyMinor,
              monthly: request.monthlyMinor,
            }
            for (const kind of KINDS) {
              const wanted = request.keeps.includes(kind) ? (limitsBefore?.[kind] ?? null) : asked[kind]
              hold(
                limits[kind] === wanted,
                'M4',
                () => `${kind} of ${walletId} is ${limits[kind]} by ${commandId}, which asks for ${wanted}`,
              )
            }
            if (source === 'self') {
              for (const kind of KINDS.filter(kind => !request.keeps.includes(kind))) {
                const ceiling = limitOf(state, action as LimitedAction, kind, 'staff')
                hold(
                  limits[kind] === null || ceiling === null || limits[kind] <= ceiling,
                  'M4',
                  () => `an own limit of ${limits[kind]} passes what is allowed, ${ceiling}`,
                )
              }
            }
            hold(
              told.previousPerTransactionMinor === (limitsBefore?.perTransaction ?? null) &&
                told.previousDailyMinor === (limitsBefore?.daily ?? null) &&
                told.previousMonthlyMinor === (limitsBefore?.monthly ?? null),
              'M4',
              () => `the event tells other limits of ${walletId} before than those it had`,
            )
            ownLimits.set(`${purse(state)} ${action} ${source}`, limits)
            return
          }
          case 'pennywire.ledger.CommandRefused': {
            const { commandId: id, fingerprint, code, refusedAt } = event.value
            const settled = commands.get(place(row))
            commands.delete(place(row))
            const first =
              tables().commands.get(id) ??
              tables().transfers.get(id) ??
              changes.commands.get(id)?.after ??
              changes.transfers.get(id)?.after
            hold(
              settled ? settled.id === id : first && !first.fingerprint.equals(fingerprint),
              'X2',
              () => `event ${place(row)} refuses ${id}, which has its outcome already`,
            )
            if (settled) checkRefusal(id, settled.fingerprint, code, refusedAt)
            return
          }
          default:
            throw new BrokenPromise('O1', `event ${place(row)} is none of the ledger's`)
        }
      }

      /** O1: a rejection's event contains all that the request states, so that events alone can rebuild the books. */
      const checkToldWhole = (event: Records['pennywire.ledger.TransferRejected']) => {
        type Said = { note?: Buffer | null; metadata?: Buffer | null; originalId?: string | null }
        const request = deps.commandWith(event.transferId, event.fingerprint)?.value as Said | undefined
        const wholeOf = ({ note, metadata, originalId }: Said) =>
          [note?.toString('hex'), metadata?.toString('hex'), originalId].join(' ')
        hold(
          !request || wholeOf(request) === wholeOf(event),
          'O1',
          () => `the event that refuses ${event.transferId} does not tell what was asked`,
        )
      }

      /** M4: the reason for a rejection is true at that moment, and no reason with precedence over it is. */
      const checkRejection = (event: Records['pennywire.ledger.TransferRejected']) => {
        const { transferId: id, type, code, amountMinor: amount, rejectedAt, fingerprint } = event
        const [from, to] = [find(event.fromWalletId), find(event.toWalletId)]
        hold(
          event.toUserId === (to?.userId ?? null),
          'O1',
          () => `the event that refuses ${id} names ${event.toUserId} as the recipient, not ${to?.userId}`,
        )
        const action = type === 'withdrawal' ? 'withdrawal' : 'send'
        const is = (true_: unknown) =>
          hold(true_, 'M4', () => `${type} ${id} over ${amount} was refused as ${code}, which is not so`)
        const breach =
          from && from.userId !== null && type !== 'reversal'
            ? breachOf(from, action, amount, rejectedAt)
            : undefined
        switch (code) {
          case 'INTERNAL_ERROR':
            return hold(type === 'teleport', 'D1', () => `${type} ${id} was set aside, and could be decided`)
          case 'INSUFFICIENT_BALANCE':
            is(from && from.balance - from.held < amount)
            return hold(
              !breach,
              'M4',
              () => `${type} ${id} was refused as ${code}, and passes a limit, which comes first`,
            )
          case 'PER_TRANSACTION_LIMIT_EXCEEDED':
          case 'DAILY_LIMIT_EXCEEDED':
          case 'MONTHLY_LIMIT_EXCEEDED':
            return hold(
              breach?.code === code && breach.limit === event.limitMinor && breach.used === event.usedMinor,
              'M4',
              () =>
                `${type} ${id} over ${amount} was refused as ${code} of ${event.limitMinor}, ${event.usedMinor} used; it is ${breach?.code} of ${breach?.limit}, ${breach?.used} used`,
            )
          case 'WALLET_FROZEN':
            return is(from?.status === 'frozen')
          case 'WALLET_CLOSED':
            return is(from?.status === 'closed')
          case 'RECIPIENT_UNAVAILABLE':
            return is(to && (type === 'reversal' ? to.status === 'closed' : !canReceive(to)))
          case 'REVERSAL_EXCEEDS_ORIGINAL': {
            const request = commandBy('pennywire.ledger.ReversalRequested', id, fingerprint)
            const original =
              tables().transfers.get(request.originalId) ?? changes.transfers.get(request.originalId)?.after
            return is(original && (reversed.get(original.id) ?? 0n) + amount > original.amount)
          }
        }
      }

      const hasWallet = ({ userId, currency }: { userId: string; currency: string }) =>
        [...tables().wallets.keys(), ...running.keys()].some(id => {
          const state = running.get(id) ?? tables().wallets.get(id)!
          return state.userId === userId && state.currency === currency
        })

      const checkRefusal = (id: string, fingerprint: Buffer, code: string, nowMs: number) => {
        const command = deps.commandWith(id, fingerprint)
        hold(command, 'X1', () => `${id} is refused, and nobody asked for it`)
        const value = command.value as Partial<
          Records['pennywire.ledger.HoldCaptureRequested'] & Records['pennywire.ledger.LimitChangeRequested']
        >
        const held = holds.get(value.holdId ?? '')
        const state = find(value.walletId ?? null)
        const isTrue = (() => {
          switch (code) {
            case 'INTERNAL_ERROR':
              return isRefusedWallet(value.walletId ?? '')
            case 'HOLD_ENDED':
              return held && held.status !== 'active'
            case 'HOLD_EXPIRED':
              return held && held.untilMs !== null && nowMs > held.untilMs
            case 'HOLD_NOT_EXPIRED':
              return held && (held.untilMs === null || nowMs <= held.untilMs)
            case 'HOLD_AMOUNT_EXCEEDED':
              return held && (value.amountMinor ?? 0n) > held.amount
            case 'WALLET_ALREADY_FROZEN':
            case 'WALLET_FROZEN':
              return state?.status === 'frozen'
            case 'WALLET_NOT_FROZEN':
              return state?.status === 'active'
            case 'FREEZE_NOT_YOURS':
              return state?.status === 'frozen' && state.freezeSource !== value.source
            case 'WALLET_ALREADY_CLOSED':
              return state?.status === 'closed'
            case 'WALLET_HAS_BALANCE':
              return state && state.balance !== 0n
            case 'WALLET_ALREADY_EXISTS':
              // Another ledger may have closed the open wallet meanwhile, because an opening does not lock it.
              return hasWallet(command.value as Records['pennywire.ledger.WalletOpenRequested'])
            case 'LIMIT_ABOVE_MAXIMUM':
              return (
                state &&
                KINDS.some(kind => {
                  const ceiling = limitOf(state, value.action as LimitedAction, kind, 'staff')
                  return ceiling !== null && (value[`${kind}Minor`] ?? 0n) > ceiling
                })
              )
            default:
              return true
          }
        })()
        hold(isTrue, 'M4', () => `${command.type} ${id} was refused as ${code}, which is not so`)
      }

      for (const row of insertedIn(changes.journal)) replay(row, decodeNow(row.bytes))

      // The rows written are those that the events state, and no others.
      for (const left of [...transfers.keys(), ...linkedAt.keys(), ...commands.keys()])
        throw new BrokenPromise('O1', `a decision has no event at ${left}`)
      hold(
        entriesOf.size === 0,
        'M1',
        () => `entries belong to no completed transfer: ${[...entriesOf.keys()]}`,
      )
      for (const id of [...placed.keys(), ...ends.keys(), ...reversals.keys()])
        throw new BrokenPromise('O1', `hold, end or reversal ${id} is written and not told`)
      for (const id of new Set([...changes.wallets.keys(), ...running.keys()])) {
        const state = at(id)
        const before = tables().wallets.get(id)
        const written = changes.wallets.get(id)?.after ?? before!
        const { balance, held, sequence, usage, status, freezeSource } = written
        hold(
          state.balance === balance && state.sequence === sequence,
          'M2',
          () =>
            `wallet ${id} becomes ${balance} at ${sequence}, its entries say ${state.balance} at ${state.sequence}`,
        )
        hold(
          state.held === held && held === (heldOf.get(id) ?? 0n),
          'M3',
          () => `wallet ${id} holds ${held}, its holds sum to ${heldOf.get(id) ?? 0n}`,
        )
        hold(
          status === state.status && freezeSource === state.freezeSource,
          'O1',
          () => `wallet ${id} is written as ${status}, its events say ${state.status}`,
        )
        const moves =
          !before || sequence !== before.sequence || held !== before.held || usage !== before.usage
        if (moves && state.userId !== null) checkUsage(id, state, usage)
        hold(
          state.userId === null ||
            status === 'closed' ||
            written.tier === (tiers.get(purse(state)) ?? 'unverified'),
          'O1',
          () => `wallet ${id} is written as ${written.tier}, its events say ${tiers.get(purse(state))}`,
        )
        hold(
          String(written.label) === String(labels.get(id) ?? null),
          'O1',
          () => `wallet ${id} is called ${written.label}, its events say ${labels.get(id)}`,
        )
      }
    },

    /** Checks all stored holds, reversals and limits. */
    checkAll: () => {
      const { wallets, holds: rows, reversals, transfers, commands, limits } = tables()
      for (const [id, label] of labels)
        hold(
          String(wallets.get(id)?.label ?? null) === String(label),
          'O1',
          () => `wallet ${id} is called ${wallets.get(id)?.label}, its events say ${label}`,
        )
      const sums = new Map<string, bigint>()
      for (const { id, status, amount, captured, walletId, endCommand } of rows.values()) {
        hold(
          holds.get(id)?.status === status && holds.get(id)?.amount === amount,
          'X1',
          () => `hold ${id} is ${status}, its events say ${holds.get(id)?.status}`,
        )
        hold(commands.has(id), 'X2', () => `hold ${id} has no command`)
        if (status === 'active') sums.set(walletId, (sums.get(walletId) ?? 0n) + amount)
        else hold(commands.has(endCommand ?? ''), 'X2', () => `hold ${id} ended by no command`)
        const moved = transfers.get(id)
        hold(
          (status === 'captured') === (moved?.status === 'completed') &&
            (status !== 'captured' || moved?.amount === captured),
          'M1',
          () => `hold ${id} is ${status} over ${captured}, ${moved?.amount} moved`,
        )
      }
      hold(rows.size === holds.size, 'X1', () => `${rows.size} holds, ${holds.size} were told`)
      for (const wallet of wallets.values()) {
        const { id, held, balance, status, userId } = wallet
        if (userId !== null && status !== 'closed') {
          checkUsage(id, wallet, wallet.usage)
          checkLimits(id, wallet, limits.of(id))
        }
        hold(
          held === (sums.get(id) ?? 0n),
          'M3',
          () => `wallet ${id} holds ${held}, its holds ${sums.get(id)}`,
        )
        hold(
          userId === null || (balance >= held && (status !== 'closed' || balance === 0n)),
          'M3',
          () => `wallet ${id} is ${status} with ${balance}, of which ${held} are held`,
        )
      }
      for (const [originalId, kept] of Map.groupBy(reversals.values(), row => row.originalId)) {
        const sum = kept.reduce((total, { amount }) => total + amount, 0n)
        const original = transfers.get(originalId)
        hold(
          original && sum <= original.amount && kept.every(({ transferId }) => transfers.has(transferId)),
          'M4',
          () => `${sum} of ${originalId} are given back, which was over ${original?.amount}`,
        )
      }
    },
  }
}
